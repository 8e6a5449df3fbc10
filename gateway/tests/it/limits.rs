//! Limits: nothing is admitted beyond them, and whoever is refused hears when to come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::{Connection, post};
use tokio::sync::Notify;

use crate::support::*;

/// A backend that uses a hundred tokens for every request.
fn hundred() -> Reply {
    let usage = json!({ "prompt_tokens": 60, "completion_tokens": 40, "total_tokens": 100 });
    Reply::json(200, json!({ "id": "c", "object": "chat.completion", "choices": [{ "index": 0, "message": { "role": "assistant", "content": "x" }, "finish_reason": "stop" }], "usage": usage }).to_string())
        .header("x-ratelimit-remaining-tokens", "999999")
}

/// A chat with this completion cap.
fn capped(cap: u64) -> Value {
    json!({ "model": "m", "max_tokens": cap, "messages": [{ "role": "user", "content": "hi" }] })
}

#[tokio::test]
async fn rates_are_told_and_refusals_say_when_to_come_back() {
    let backend = ScriptedBackend::start(|_| hundred()).await;
    let limits = "[consumers.limits]\nrequests_per_minute = 10\ntokens_per_minute = 250\n";
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &consumer("crm", limits))).await;
    let first = ask_as(gateway.address, "crm", &capped(100)).await;
    let header = |got: &spillway_testkit::client::Response, name: &str| got.header(name).unwrap_or("").to_owned();
    assert_eq!(first.status, 200);
    assert_eq!((header(&first, "x-ratelimit-limit-requests"), header(&first, "x-ratelimit-remaining-requests")), ("10".into(), "9".into()));
    assert_eq!(header(&first, "x-ratelimit-limit-tokens"), "250");
    let left: u64 = header(&first, "x-ratelimit-remaining-tokens").parse().unwrap();
    assert!((100..150).contains(&left), "the reservation is taken off, the upstream's own numbers are gone: {left}");
    assert!(header(&first, "x-ratelimit-reset-tokens").starts_with("1m") || header(&first, "x-ratelimit-reset-tokens").ends_with('s'));
    assert_eq!(ask_as(gateway.address, "crm", &capped(100)).await.status, 200);
    let refused = ask_as(gateway.address, "crm", &capped(100)).await;
    assert_eq!(
        (refused.status, refused.code().as_str(), refused.json()["error"]["type"].as_str()),
        (429, "rate_limit_exceeded", Some("tokens"))
    );
    let wait: u64 = header(&refused, "retry-after").parse().unwrap();
    assert!((55..=60).contains(&wait), "{wait}");
    assert!(header(&refused, "retry-after-ms").parse::<u64>().unwrap() > 50_000);
    assert_eq!(header(&refused, "x-ratelimit-remaining-tokens"), "50");
    assert_eq!(backend.count(), 2);
    let too_large = ask_as(gateway.address, "crm", &capped(1000)).await;
    assert_eq!((too_large.status, header(&too_large, "x-should-retry").as_str()), (429, "false"), "it never fits");
    assert!(too_large.json()["error"]["message"].as_str().unwrap().contains("completion cap"));
    assert_eq!(gateway.metric("spillway_limit_refusals_total{limit=\"tokens_per_minute\",scope=\"consumer\",window=\"\"}").await, 2.0);
}

#[tokio::test]
async fn a_thousand_at_once_never_exceed_a_limit() {
    let used = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&used);
    let backend = ScriptedBackend::start(move |_| {
        counted.fetch_add(100, Ordering::SeqCst);
        hundred()
    })
    .await;
    // A prompt of 83 bytes is 21 tokens by the bound; with the cap a request reserves 121 and uses 100.
    let limits = "[consumers.limits]\ntokens_per_minute = 10_000\nconcurrent_requests = 40\n";
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &consumer("crm", limits))).await;
    let address = gateway.address;
    let callers: Vec<_> = (0..1000).map(|_| tokio::spawn(async move { ask_as(address, "crm", &capped(100)).await.status })).collect();
    let mut statuses = Vec::new();
    for caller in callers {
        statuses.push(caller.await.unwrap());
    }
    let admitted = statuses.iter().filter(|status| **status == 200).count() as u64;
    assert!(statuses.iter().all(|status| [200, 429].contains(status)));
    assert_eq!(used.load(Ordering::SeqCst), admitted * 100);
    assert!(admitted * 100 <= 10_000, "{admitted}");
    assert!(admitted >= 40, "{admitted}");
    let limits = gateway.admin("/api/limits").await.json();
    assert_eq!(limits["scopes"][0]["limits"]["concurrent_requests"]["used"], 0);
    assert_eq!(limits["scopes"][0]["limits"]["tokens_per_minute"]["used"], admitted * 100, "settled with what was used");
}

#[tokio::test]
async fn quotas_and_budgets_are_403_and_survive_a_restart() {
    let backend = ScriptedBackend::start(|_| hundred()).await;
    let folder = tempfile::tempdir().unwrap();
    let prices = "prices = { m = { input = 0.0, output = 1000.0 } }";
    let quota = "[consumers.limits]\ntoken_quota = { tokens = 450, period = \"year\" }\n";
    let budget = "[consumers.limits]\nbudget = { usd = 0.15, period = \"year\" }\n";
    let rest = consumer("crm", quota) + &consumer("shop", budget);
    let members = [Member { name: "a", backend: &backend, priority: 1, extra: prices }];
    let text = config(&members, "", &rest).replace("#server", &state_dir(folder.path()));
    let gateway = Gateway::start(&text).await;
    for name in ["crm", "shop"] {
        assert_eq!(ask_as(gateway.address, name, &capped(100)).await.status, 200);
        assert_eq!(ask_as(gateway.address, name, &capped(40)).await.status, 200);
    }
    gateway.running.stop(std::future::pending()).await;
    let gateway = Gateway::start(&text).await;
    let snapshot = gateway.admin("/api/limits").await.json();
    assert_eq!(snapshot["scopes"][0]["limits"]["token_quota"]["used"], 200);
    assert!((snapshot["scopes"][1]["limits"]["budget"]["used"].as_f64().unwrap() - 0.08).abs() < 1e-9, "{snapshot}");
    assert_eq!(ask_as(gateway.address, "crm", &capped(100)).await.status, 200);
    let refused = ask_as(gateway.address, "crm", &capped(200)).await;
    assert_eq!((refused.status, refused.code().as_str(), refused.header("x-should-retry")), (403, "quota_exceeded", Some("false")));
    assert!(refused.header("retry-after").is_none() && refused.json()["error"]["message"].as_str().unwrap().contains("consumer 'crm'"));
    let broke = ask_as(gateway.address, "shop", &capped(100)).await;
    assert_eq!((broke.status, broke.code().as_str()), (403, "budget_exceeded"), "0.08 spent, and it may cost 0.10");
    assert_eq!(ask_as(gateway.address, "shop", &capped(60)).await.status, 200, "what fits goes");
    assert_eq!(ask_as(gateway.address, "crm", &capped(40)).await.status, 200);
    let alerts = "spillway_limit_alerts_total{limit=\"token_quota\",percent=\"80\",scope=\"consumer\",window=\"year\"}";
    assert_eq!(gateway.metric(alerts).await, 1.0, "400 of 450");
}

#[tokio::test]
async fn models_groups_and_pools_have_limits_of_their_own() {
    let backend = ScriptedBackend::start(|_| hundred()).await;
    let group = "[[groups]]\nname = \"research\"\nlimits = { requests_per_minute = 4 }\n";
    let narrow = "group = \"research\"\n[consumers.limits.models.gpt-4o]\nrequests_per_minute = 1\n";
    let rest = consumer("one", narrow) + &consumer("two", "group = \"research\"\n") + &consumer("three", "") + group;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "[pools.limits]\nrequests_per_minute = 6\n", &rest)).await;
    let ask = |name: &'static str, model: &'static str| {
        let address = gateway.address;
        async move {
            let got = ask_as(address, name, &json!({ "model": model, "messages": [] })).await;
            (got.status, got.json()["error"]["message"].as_str().unwrap_or("").to_owned())
        }
    };
    assert_eq!(ask("one", "gpt-4o").await.0, 200);
    let (status, message) = ask("one", "gpt-4o").await;
    assert!(status == 429 && message.contains("consumer 'one' with model 'gpt-4o'"), "{message}");
    assert_eq!(ask("one", "m").await.0, 200);
    assert_eq!((ask("two", "m").await.0, ask("two", "m").await.0), (200, 200));
    let (status, message) = ask("two", "m").await;
    assert!(status == 429 && message.contains("group 'research'"), "{message}");
    assert_eq!((ask("three", "m").await.0, ask("three", "m").await.0), (200, 200));
    let (status, message) = ask("three", "m").await;
    assert!(status == 429 && message.contains("pool 'pool'"), "{message}");
}

#[tokio::test]
async fn a_shadow_limit_only_counts() {
    let backend = ScriptedBackend::start(|_| hundred()).await;
    let limits = "[consumers.limits]\nrequests_per_minute = 1\nshadow = true\n";
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &consumer("crm", limits))).await;
    for _ in 0..3 {
        assert_eq!(ask_as(gateway.address, "crm", &capped(10)).await.status, 200);
    }
    assert_eq!(gateway.metric("spillway_limit_shadowed_total{limit=\"requests_per_minute\",scope=\"consumer\",window=\"\"}").await, 2.0);
}

#[tokio::test]
async fn a_request_that_ends_in_any_way_gives_back_what_it_did_not_use() {
    let gate = Arc::new(Notify::new());
    let held = Arc::clone(&gate);
    let backend = ScriptedBackend::start(move |request| match request.json()["max_tokens"].as_u64() {
        Some(1) => Reply::json(400, r#"{"error":{"code":"invalid_request_error"}}"#),
        Some(2) => Reply::json(500, "{}"),
        Some(3) => Reply::sse([role(), delta("hello")]).then(Step::Until(Arc::clone(&held))),
        _ => hundred(),
    })
    .await;
    let limits = "[consumers.limits]\ntokens_per_minute = 100_000\nconcurrent_requests = 10\n";
    let rest = consumer("crm", limits) + "[usage]\non_disconnect = \"cancel\"\n";
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &rest)).await;
    let used = async || {
        let limits = gateway.admin("/api/limits").await.json()["scopes"][0]["limits"].clone();
        (limits["tokens_per_minute"]["used"].as_u64().unwrap(), limits["concurrent_requests"]["used"].as_u64().unwrap())
    };
    assert_eq!(ask_as(gateway.address, "crm", &capped(1)).await.status, 400);
    assert_eq!(ask_as(gateway.address, "crm", &capped(2)).await.status, 502);
    eventually("nothing was used", async || used().await == (0, 0)).await;
    let mut caller = Connection::open(gateway.address).await.unwrap();
    let mut body = capped(3);
    body["stream"] = json!(true);
    caller.send(post("/v1/chat/completions", &[("api-key", "crm")], body.to_string().as_bytes())).await.unwrap();
    caller.until("hello").await.unwrap();
    let (reserved, at_once) = used().await;
    assert!(reserved > 3 && at_once == 1);
    drop(caller);
    eventually("what was reserved is what counts", async || used().await == (reserved, 0)).await;
}

#[tokio::test]
async fn a_short_pool_refuses_the_lower_class_first() {
    let gate = Arc::new(Notify::new());
    let held = Arc::clone(&gate);
    let backend = ScriptedBackend::start(move |_| Reply::sse([role(), delta("x")]).then(Step::Until(Arc::clone(&held)))).await;
    let rest = consumer("night", "class = \"batch\"\n") + &consumer("usual", "") + &consumer("chat", "class = \"interactive\"\n");
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "[pools.limits]\nconcurrent_requests = 10\n", &rest)).await;
    let mut open = Vec::new();
    let mut begin = async |name: &str| {
        let mut caller = Connection::open(gateway.address).await.unwrap();
        caller.send(post("/v1/chat/completions", &[("api-key", name)], chat(true).to_string().as_bytes())).await.unwrap();
        let status = caller.answer_head().await.unwrap().0;
        open.push(caller);
        status
    };
    for _ in 0..8 {
        assert_eq!(begin("night").await, 200);
    }
    assert_eq!(begin("night").await, 429, "80 % are taken");
    assert_eq!(begin("usual").await, 200);
    assert_eq!(begin("chat").await, 200);
    assert_eq!(begin("chat").await, 429, "all are taken");
    drop(open);
}

#[tokio::test]
async fn the_queue_for_a_throttled_pool_is_bounded_and_by_class() {
    let backend =
        ScriptedBackend::start(|request| if request.header("x-test") == Some("throttle") { Reply::throttled(1500) } else { hundred() })
            .await;
    let pool = "[pools.retry]\nwait = \"10s\"\nqueue = 6\n";
    let interactive = "class = \"interactive\"\n";
    let rest = consumer("night", "class = \"batch\"\n") + &consumer("chat", interactive) + &consumer("search", interactive);
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], pool, &rest)).await;
    let address = gateway.address;
    // Two consumers are throttled and wait; then there are four places for the others, three of them for batch.
    let body = chat(false).to_string();
    let first = ["chat", "search"].map(|who| {
        let request = post("/v1/chat/completions", &[("api-key", who), ("x-test", "throttle")], body.as_bytes());
        tokio::spawn(async move { spillway_testkit::client::ask(address, request).await.unwrap().status })
    });
    eventually("throttled", async || gateway.state("a").await == "throttled").await;
    let ask = |name: &'static str| tokio::spawn(async move { ask_as(address, name, &chat(false)).await.status });
    let night: Vec<_> = (0..6).map(|_| ask("night")).collect();
    let mut statuses = Vec::new();
    for one in night {
        statuses.push(one.await.unwrap());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 3, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 3, "{statuses:?}");
    first.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn applications_that_come_by_themselves_have_the_default_limits() {
    let backend = ScriptedBackend::start(|_| hundred()).await;
    let limits = "[plugins.auth.jwt.unlisted.limits]\nrequests_per_minute = 2\n";
    let (issuer, key, gateway) = crate::callers::with_issuer(&backend, "", limits, "").await;
    for application in ["one", "two"] {
        let bearer = format!("Bearer {}", key.token("a", &issuer.claims(application)));
        let mut statuses = Vec::new();
        for _ in 0..3 {
            let request = post("/v1/chat/completions", &[("authorization", &bearer)], chat(false).to_string().as_bytes());
            statuses.push(spillway_testkit::client::ask(gateway.address, request).await.unwrap().status);
        }
        assert_eq!(statuses, [200, 200, 429], "{application} by itself");
    }
}

/// An organisation, a team with a guarantee, and another one.
const ORGANISATION: &str = r#"
[[groups]]
name = "acme"
limits = { request_quota = [{ requests = 6, period = "year" }, { requests = 100, period = "month" }] }
[[groups]]
name = "search"
parent = "acme"
guaranteed = { request_quota = { requests = 2, period = "year" } }
[[groups]]
name = "shop"
parent = "acme"
limits = { token_quota = { tokens = 100_000, period = "year", time_zone = "Europe/Berlin" } }
"#;

#[tokio::test]
async fn a_tree_of_groups_limits_all_below_and_keeps_what_is_guaranteed_also_after_a_restart() {
    let backend = ScriptedBackend::start(|_| hundred()).await;
    let folder = tempfile::tempdir().unwrap();
    let rest = consumer("finder", "group = \"search\"\n") + &consumer("till", "group = \"shop\"\n") + ORGANISATION;
    let text = config(&[member("a", &backend, 1)], "", &rest).replace("#server", &state_dir(folder.path()));
    let gateway = Gateway::start(&text).await;
    assert_eq!(ask_as(gateway.address, "till", &capped(100)).await.status, 200);
    assert_eq!(ask_as(gateway.address, "finder", &capped(100)).await.status, 200);
    gateway.running.stop(std::future::pending()).await;
    // The ledger has what each of them used.
    let gateway = Gateway::start(&text).await;
    for _ in 0..3 {
        assert_eq!(ask_as(gateway.address, "till", &capped(100)).await.status, 200);
    }
    let refused = ask_as(gateway.address, "till", &capped(100)).await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "quota_exceeded"));
    let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(
        message.starts_with("the rest of the quota of group 'acme' per year is guaranteed to others in it; it starts again in"),
        "{message}"
    );
    let id = refused.header("x-request-id").unwrap().to_owned();
    let explained = gateway.admin(&format!("/api/requests/{id}")).await.json();
    assert_eq!(explained["limit"], "request_quota per year of group 'acme'");
    assert_eq!(ask_as(gateway.address, "finder", &capped(100)).await.status, 200, "its guarantee");
    assert_eq!(ask_as(gateway.address, "finder", &capped(100)).await.status, 403, "all of it is used");
    let limits = gateway.admin("/api/limits").await.json();
    let of = |name: &str| limits["scopes"].as_array().unwrap().iter().find(|scope| scope["scope"] == name).unwrap().clone();
    let acme = of("group 'acme'");
    assert_eq!(acme["limits"]["request_quota"], json!({ "limit": 6, "used": 6 }), "the window of which least is left");
    assert_eq!(
        (&acme["windows"][0]["used"], &acme["windows"][1]["used"], &acme["windows"][1]["period"]),
        (&json!(6), &json!(6), &json!("month"))
    );
    assert_eq!(acme["windows"][0]["guaranteed"], json!([{ "to": "group 'search'", "amount": 2, "used": 2 }]));
    let shop = of("group 'shop'");
    assert_eq!(
        (&shop["parent"], &shop["windows"][0]["used"], &shop["windows"][0]["time_zone"]),
        (&json!("group 'acme'"), &json!(400), &json!("Europe/Berlin"))
    );
    let refusals = "spillway_limit_refusals_total{limit=\"request_quota\",scope=\"group\",window=\"year\"}";
    assert_eq!(gateway.metric(refusals).await, 2.0);
}

#[tokio::test]
async fn applications_that_come_by_themselves_are_leaves_of_a_group() {
    let backend = ScriptedBackend::start(|_| hundred()).await;
    let groups = "[[groups]]\nname = \"all\"\nlimits = { requests_per_minute = 3 }\n[[groups]]\nname = \"people\"\nparent = \"all\"\n";
    let unlisted = "[plugins.auth.jwt.unlisted]\ngroup = \"people\"\nlimits = { requests_per_minute = 2 }\n";
    let (issuer, key, gateway) = crate::callers::with_issuer(&backend, "", unlisted, groups).await;
    let mut statuses = Vec::new();
    for application in ["one", "one", "one", "two", "two"] {
        let bearer = format!("Bearer {}", key.token("a", &issuer.claims(application)));
        let request = post("/v1/chat/completions", &[("authorization", &bearer)], chat(false).to_string().as_bytes());
        statuses.push(spillway_testkit::client::ask(gateway.address, request).await.unwrap().status);
    }
    assert_eq!(statuses, [200, 200, 429, 200, 429], "two each, three together");
    let refusals = "spillway_limit_refusals_total{limit=\"requests_per_minute\",scope=\"group\",window=\"\"}";
    assert_eq!(gateway.metric(refusals).await, 1.0);
}

#[tokio::test]
async fn the_fullest_limits_come_first_with_what_is_left_and_guaranteed() {
    let backend = ScriptedBackend::start(|_| hundred()).await;
    let groups = "[[groups]]\nname = \"acme\"\nlimits = { requests_per_minute = 10, budget = { usd = 50.0, period = \"month\" } }\n
        [[groups]]\nname = \"search\"\nparent = \"acme\"\nguaranteed = \"40%\"\n
        [prices]\nunknown = \"free\"\n";
    let finder = consumer("Finder", "group = \"search\"\nlimits = { requests_per_minute = 4 }");
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &(groups.to_owned() + &finder))).await;
    for _ in 0..3 {
        assert_eq!(ask_as(gateway.address, "Finder", &capped(10)).await.status, 200);
    }
    let all = gateway.admin("/api/limits?rows=100").await.json();
    let rows = all["rows"].as_array().unwrap();
    let shares: Vec<f64> = rows.iter().map(|row| row["share"].as_f64().unwrap()).collect();
    assert!(shares.is_sorted_by(|one, other| one >= other) && all["count"] == rows.len(), "{all}");
    let row = |scope: &str, limit: &str| rows.iter().find(|row| row["scope"] == scope && row["limit"] == limit).unwrap();
    assert_eq!((&rows[0]["scope"], &rows[0]["left"]), (&"consumer 'Finder'".into(), &1.into()), "three of four");
    assert_eq!(rows[0]["parent"], "group 'search'");
    let acme = row("group 'acme'", "requests_per_minute");
    assert_eq!(["used", "left", "kept_for_others"].map(|name| acme[name].as_u64().unwrap()), [3, 7, 1], "{acme}");
    assert_eq!((row("group 'acme'", "budget")["kept_for_others"].as_f64(), &acme["guaranteed"]), (Some(20.0), &Value::Null));
    let some = gateway.admin("/api/limits?rows=1&search=ACME").await.json();
    assert_eq!((&some["count"], some["rows"].as_array().unwrap().len(), &some["rows"][0]["scope"]), (&2.into(), 1, &"group 'acme'".into()));
    assert_eq!(gateway.admin("/api/limits?search=ACME").await.json()["count"], some["count"]);
    assert_eq!(gateway.admin("/api/limits?rows=5&search=nobody").await.json()["count"], 0);
    for wrong in ["0", "101", "x", "-1"] {
        assert_eq!(gateway.admin(&format!("/api/limits?rows={wrong}")).await.status, 400, "{wrong}");
    }
}
