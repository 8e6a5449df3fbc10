//! Each kind that the corpus doesn't have, in a config that is good but for one edit.

use std::path::Path;

use crate::config::{Config, Secrets};
use crate::rehearse::finding::{Finding, Severity};
use crate::rehearse::findings::of_config;
use crate::rehearse::place::Lines;

pub(super) const GOOD: &str = r#"
[server]
listen = ["127.0.0.1:8080"]
admin = "127.0.0.1:9090"
state_dir = "/var/lib/spillway"

[[backends]]
name = "a-ptu"
kind = "azure-openai"
url = "https://a-ptu.openai.azure.com"
location = "swedencentral"
ptu = { gpt-4o = { units = 100 } }

[[backends]]
name = "a"
kind = "azure-openai"
url = "https://a.openai.azure.com"
location = "swedencentral"

[[backends]]
name = "b"
kind = "azure-openai"
url = "https://b.openai.azure.com"
location = "francecentral"

[[pools]]
name = "chat"
models = ["gpt-4o"]
members = [
  { backend = "a-ptu", priority = 1 },
  { backend = "a", priority = 2 },
  { backend = "b", priority = 3 },
]
timeouts = { first_token = "20s" }

[[groups]]
name = "g"
limits = { tokens_per_minute = 100_000 }

[[consumers]]
name = "c"
group = "g"
keys = [{ sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" }]
limits = { tokens_per_minute = 50_000 }
"#;

fn findings(text: &str) -> Vec<Finding> {
    let secrets = Secrets::with_env(|name| Some(if name == "REDIS_URL" { "redis://localhost" } else { "secret" }.into()));
    let config = Config::parse(text, Path::new("t.toml"), &secrets).unwrap_or_else(|error| panic!("{error}\n{text}"));
    of_config(&config, &Lines::new(text))
}

/// The good config with one text in the place of another.
fn edited(old: &str, new: &str) -> String {
    assert_eq!(GOOD.matches(old).count(), 1, "{old}");
    GOOD.replace(old, new)
}

/// Errors and warnings: code and key.
fn alarms(text: &str) -> Vec<(&'static str, String)> {
    let alarms = findings(text).into_iter().filter(|finding| finding.severity > Severity::Note);
    alarms.map(|finding| (finding.code, finding.place.key)).collect()
}

#[test]
fn the_good_config_is_good() {
    assert_eq!(alarms(GOOD), []);
}

/// Edits of one line, each with the kind that it plants and its key.
const PLANTED: &[(&str, &str, &str, &str)] = &[
    ("admin = \"127.0.0.1:9090\"", "admin = \"0.0.0.0:9090\"\nadmin_token = { env = \"T\" }", "admin-exposed", "server.admin"),
    ("admin = \"127.0.0.1:9090\"", "admin = \"20.50.1.2:9090\"\nadmin_token = { env = \"T\" }", "admin-exposed", "server.admin"),
    ("state_dir = ", "max_body = \"300MiB\"\nstate_dir = ", "bodies-fill-buffer", "server.max_body"),
    ("state_dir = ", "max_buffered = \"64MiB\"\nstate_dir = ", "bodies-fill-buffer", "server.max_buffered"),
    ("state_dir = ", "drain_timeout = \"20s\"\nstate_dir = ", "stop-cuts-answers", "server.drain_timeout"),
    ("timeouts = { first_token = \"20s\" }", "circuit = { failures = 400 }", "circuit-never-opens", "pools[0].circuit.failures"),
    (
        "timeouts = { first_token = \"20s\" }",
        "circuit = { failure_percent = 50, min_calls = 2000 }",
        "circuit-never-opens",
        "pools[0].circuit.min_calls",
    ),
    ("timeouts = { first_token = \"20s\" }", "circuit = { statuses = [429] }", "circuit-off", "pools[0].circuit.statuses"),
    ("timeouts = { first_token = \"20s\" }", "circuit = { errors = [\"tls\"] }", "circuit-off", "pools[0].circuit.errors"),
    ("timeouts = { first_token = \"20s\" }", "circuit = { trip = \"2h\" }", "circuit-stays-open", "pools[0].circuit.trip"),
    (
        "timeouts = { first_token = \"20s\" }",
        "circuit = { trip = \"14m\", first_trip = \"10m\" }",
        "circuit-stays-open",
        "pools[0].circuit.first_trip",
    ),
    (
        "timeouts = { first_token = \"20s\" }",
        "circuit = { max_retry_after = \"24h\" }",
        "circuit-stays-open",
        "pools[0].circuit.max_retry_after",
    ),
    (
        "timeouts = { first_token = \"20s\" }",
        "health = { path = \"/openai/v1/models\", statuses = [\"200-599\"] }",
        "health-never-fails",
        "pools[0].health.statuses",
    ),
    ("timeouts = { first_token = \"20s\" }", "retry = { max_attempts = 1 }", "retries-off", "pools[0].retry.max_attempts"),
    ("timeouts = { first_token = \"20s\" }", "retry = { statuses = [429, 500, 502] }", "failure-not-retried", "pools[0].retry.statuses"),
    (
        "timeouts = { first_token = \"20s\" }",
        "retry = { statuses = [400, 408, 429, \"500-599\"] }",
        "bad-requests-retried",
        "pools[0].retry.statuses",
    ),
    ("timeouts = { first_token = \"20s\" }", "retry = { budget = { percent = 100 } }", "retries-multiply", "pools[0].retry.budget.percent"),
    (
        "timeouts = { first_token = \"20s\" }",
        "retry = { budget = { floor_per_second = 5000 } }",
        "retries-multiply",
        "pools[0].retry.budget.floor_per_second",
    ),
    ("timeouts = { first_token = \"20s\" }", "retry = { wait = \"3s\", queue = 0 }", "wait-never-helps", "pools[0].retry.wait"),
    (
        "timeouts = { first_token = \"20s\" }",
        "spill = \"ahead\"\npatience = { batch = \"1h\" }",
        "wait-never-helps",
        "pools[0].patience.batch",
    ),
    ("keys = [", "deadline = \"15s\"\nkeys = [", "deadline-before-failover", "consumers[0].deadline"),
    ("keys = [", "locations = [\"francecentral\"]\nkeys = [", "fence-without-way-out", "consumers[0].locations"),
    ("group = \"g\"\nkeys", "keys", "limit-never-applies", "groups[0].name"),
    ("{ backend = \"a-ptu\", priority = 1 }", "{ backend = \"a-ptu\", priority = 2 }", "ptu-below-pay-as-you-go", "pools[0].members[0]"),
    (
        "{ backend = \"b\", priority = 3 },",
        "{ backend = \"b\", priority = 3, weight = 0 },",
        "tier-without-weight",
        "pools[0].members[2].weight",
    ),
];

#[test]
fn each_edit_is_found_at_its_key() {
    for (old, new, code, key) in PLANTED {
        let found = alarms(&edited(old, new));
        assert!(found.iter().any(|(found, at)| found == code && at == key), "{new}: {found:?}");
    }
}

#[test]
fn a_limit_above_that_of_the_group_the_pool_or_the_consumer_never_applies() {
    let own = "limits = { tokens_per_minute = 50_000 }";
    for (limits, key) in [
        ("limits = { tokens_per_minute = 200_000 }", "consumers[0].limits.tokens_per_minute"),
        ("limits = { token_quota = { tokens = 144_000_001, period = \"day\" } }", "consumers[0].limits.token_quota"),
        (
            "limits = { requests_per_minute = 10, models = { gpt-4o = { requests_per_minute = 20 } } }",
            "consumers[0].limits.models.gpt-4o.requests_per_minute",
        ),
    ] {
        assert_eq!(alarms(&edited(own, limits)), [("limit-never-applies", key.to_owned())], "{limits}");
    }
    for fine in ["limits = { tokens_per_minute = 100_000 }", "limits = { tokens_per_minute = 200_000, shadow = true }"] {
        assert_eq!(alarms(&edited(own, fine)), [], "{fine}");
    }
    let pool = edited("timeouts = { first_token = \"20s\" }", "limits = { concurrent_requests = 5 }");
    let pool = pool.replace(own, "limits = { concurrent_requests = 6 }");
    assert_eq!(alarms(&pool), [("limit-never-applies", "consumers[0].limits.concurrent_requests".to_owned())]);
}

#[test]
fn a_whole_first_tier_that_fails_leaves_attempts_and_time_for_the_next() {
    let two = edited("{ backend = \"a\", priority = 2 }", "{ backend = \"a\", priority = 1 }").replace("ptu = {", "# ptu = {");
    let two = two.replace("a-ptu", "a0");
    assert_eq!(alarms(&two), []);
    let attempts = two.replace("timeouts = { first_token = \"20s\" }", "retry = { max_attempts = 2 }");
    assert_eq!(alarms(&attempts), [("attempts-end-too-early", "pools[0].retry.max_attempts".to_owned())]);
    let time =
        two.replace("timeouts = { first_token = \"20s\" }", "timeouts = { first_token = \"20s\", answer = \"30s\", total = \"80s\" }");
    assert_eq!(alarms(&time), [("total-too-short", "pools[0].timeouts.total".to_owned())]);
}

#[test]
fn anybody_may_call_only_from_the_same_machine() {
    let open = edited("listen = [\"127.0.0.1:8080\"]", "listen = [\"127.0.0.1:8081\", \"0.0.0.0:8080\"]");
    assert_eq!(alarms(&open), [], "consumers are listed, so a credential is required");
    let open = format!("{open}\n[plugins.auth]\nrequired = false\n");
    assert_eq!(alarms(&open), [("callers-not-identified", "plugins.auth.required".to_owned())]);
    let local = format!("{GOOD}\n[plugins.auth]\nrequired = false\n");
    assert_eq!(alarms(&local), [("callers-not-identified", "plugins.auth.required".to_owned())], "limits can be escaped");
}

#[test]
fn provisioned_throughput_without_a_price_per_hour_is_a_note() {
    let notes = |text: &str| {
        let found = findings(text).into_iter().filter(|finding| finding.code == "ptu-without-price");
        found.map(|finding| (finding.severity, finding.place.key)).collect::<Vec<_>>()
    };
    assert_eq!(notes(GOOD), [(Severity::Note, "backends[0].ptu.gpt-4o".to_owned())]);
    let ptu = "ptu = { gpt-4o = { units = 100 } }";
    assert_eq!(notes(&edited(ptu, &format!("{ptu}\nprices = {{ gpt-4o = {{ usd_per_hour = 100.0 }} }}"))), []);
}

#[test]
fn a_budget_counts_what_has_a_price() {
    let budget = edited("limits = { tokens_per_minute = 50_000 }", "limits = { budget = { usd = 10.0, period = \"month\" } }");
    let unknown = budget.replace("models = [\"gpt-4o\"]", "models = [\"own-model\"]") + "\n[prices]\nunknown = \"free\"\n";
    let found = alarms(&unknown);
    assert!(found.contains(&("budget-counts-nothing", "pools[0].members[1].backend".to_owned())), "{found:?}");
    let mut hourly = budget.clone();
    for name in ["a-ptu", "a", "b"] {
        let url = format!("url = \"https://{name}.openai.azure.com\"");
        hourly = hourly.replace(&url, &format!("{url}\nprices = {{ gpt-4o = {{ usd_per_hour = 1.0 }} }}"));
    }
    let found = alarms(&hourly);
    assert!(found.contains(&("limit-never-applies", "consumers[0].limits.budget".to_owned())), "{found:?}");
    assert_eq!(alarms(&budget), []);
}

#[test]
fn rights_that_exclude_each_other_are_an_error() {
    let second = "[[pools]]\nname = \"mini\"\nmodels = [\"gpt-4o-mini\"]\nmembers = [{ backend = \"a\" }, { backend = \"b\", priority = 2 }]\n\n[[groups]]";
    let text = edited("[[groups]]", second).replace("keys = [", "pools = [\"mini\"]\nmodels = [\"gpt-4o\"]\nkeys = [");
    assert_eq!(alarms(&text), [("fence-without-way-out", "consumers[0].pools".to_owned())]);
    let text = edited("[[groups]]", second).replace("keys = [", "apis = [\"messages\"]\nkeys = [");
    assert_eq!(alarms(&text), [], "Azure's v1 API has messages");
    let dated = text.replace("kind = \"azure-openai\"", "kind = \"azure-openai\"\napi = \"dated\"");
    assert_eq!(alarms(&dated), [("fence-without-way-out", "consumers[0].apis[0]".to_owned())]);
}

#[test]
fn a_lower_tier_serves_the_apis_and_the_prompts_of_the_first() {
    let claude = edited("name = \"b\"\nkind = \"azure-openai\"", "name = \"b\"\nkind = \"anthropic\"");
    let claude = claude.replace("  { backend = \"a\", priority = 2 },\n", "");
    let found = alarms(&claude);
    assert!(found.contains(&("weaker-spillover", "pools[0].members[1]".to_owned())), "{found:?}");
    let one_is_small = edited("{ backend = \"a\", priority = 2 }", "{ backend = \"a\", priority = 2, context = 1000 }");
    assert_eq!(alarms(&one_is_small), [], "the other one takes the long prompts");
    let both = one_is_small.replace("{ backend = \"b\", priority = 3 }", "{ backend = \"b\", priority = 3, context = 2000 }");
    let keys = ["pools[0].members[1].context", "pools[0].members[2].context"];
    assert_eq!(alarms(&both), keys.map(|key| ("weaker-spillover", key.to_owned())));
}

#[test]
fn accounts_at_one_vendor_may_share_its_host() {
    let both = |of_vendor: &str| {
        let a = "kind = \"azure-openai\"\nurl = \"https://a.openai.azure.com\"";
        let b = "kind = \"azure-openai\"\nurl = \"https://b.openai.azure.com\"";
        let found = findings(&edited(a, of_vendor).replace(b, of_vendor));
        found.into_iter().any(|finding| finding.code == "same-resource-twice")
    };
    assert!(!both("kind = \"openai\"\nurl = \"https://api.openai.com\"\nauth = { type = \"api-key\", key = { env = \"K\" } }"));
    assert!(both("kind = \"openai\"\nurl = \"http://gpu.internal:8000\""));
}

#[test]
fn a_batch_consumer_should_not_get_an_apology_as_a_result() {
    let mock = "[[backends]]\nname = \"sorry\"\nkind = \"mock\"\n\n[[pools]]";
    let text = edited("[[pools]]", mock).replace("priority = 3 },", "priority = 3 },\n  { backend = \"sorry\", priority = 9 },");
    assert_eq!(alarms(&text), []);
    let batch = text.replace("keys = [", "class = \"batch\"\nkeys = [");
    assert_eq!(alarms(&batch), [("last-resort-hides-outage", "pools[0].members[3]".to_owned())]);
}

#[test]
fn a_model_that_thinks_leaves_time_for_another_member() {
    let thinks = edited("models = [\"gpt-4o\"]", "models = [\"o4-mini\"]");
    assert_eq!(alarms(&thinks), [], "the default is worth a note only");
    assert!(findings(&thinks).iter().any(|finding| finding.code == "thinking-takes-all"));
    let written = thinks.replace("first_token = \"20s\"", "first_token = \"20s\", thinking = \"6m\"");
    assert_eq!(alarms(&written), [("thinking-takes-all", "pools[0].timeouts.thinking".to_owned())]);
}
