//! `spillway rehearse`, as users run it; and that what it shows is what the real gateway does.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use spillway::clock::Clock;
use spillway::config::{Config, Secrets};
use spillway::mock::server as mock_server;
use spillway::mock::settings::Settings;
use spillway::rehearse::fault::FaultKind;
use spillway::rehearse::outcome::{FaultOutcome, RequestOutcome};
use spillway::rehearse::run::{Options, rehearse};
use spillway_testkit::client;

use crate::support::Gateway;

/// Three tiers of one member each: what serves doesn't depend on chance.
const THREE_TIERS: &str = r#"
[server]
listen = ["127.0.0.1:8080"]

[[backends]]
name = "ptu"
kind = "azure-openai"
url = "https://ptu.openai.azure.com"
location = "swedencentral"
auth = { type = "api-key", key = { env = "SURELY_NOT_SET_PTU" } }

[[backends]]
name = "near"
kind = "azure-openai"
url = "https://near.openai.azure.com"
location = "swedencentral"
auth = { type = "api-key", key = { file = "/surely/not/there" } }

[[backends]]
name = "far"
kind = "azure-openai"
url = "https://far.openai.azure.com"
location = "francecentral"
auth = { type = "api-key", key = { credential = "surely-not-there" } }

[[pools]]
name = "chat"
models = ["gpt-4o"]
members = [
  { backend = "ptu", priority = 1 },
  { backend = "near", priority = 2 },
  { backend = "far", priority = 3 },
]
circuit = { failures = 3 }
timeouts = { first_token = "1s", answer = "30s" }

[[consumers]]
name = "app"
keys = [{ sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" }]
limits = { requests_per_minute = 30 }

[[consumers]]
name = "other"
keys = [{ sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a09" }]
"#;

/// A file with this text, and the folder that it is in.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prod.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

/// Runs the program without any of this machine's environment: no secret is there.
fn run(path: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spillway"));
    command.env_clear().arg("rehearse").arg("-c").arg(path).args(arguments);
    command.output().unwrap()
}

fn rehearsed(text: &str, only: &[&str]) -> Value {
    let (_folder, path) = file(text);
    let only: Vec<&str> = only.iter().flat_map(|only| ["--only", only]).collect();
    let output = run(&path, &[&["--json", "--fail-on", "never"][..], &only].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The outcome of the fault of this name.
fn fault<'r>(rehearsal: &'r Value, kind: &str, what: &str) -> &'r Value {
    let all = rehearsal["faults"].as_array().unwrap();
    all.iter().find(|one| one["fault"]["kind"] == kind && one["fault"]["what"] == what).unwrap_or_else(|| panic!("no {kind} {what}"))
}

/// Tiers that served, each with how many requests.
fn tiers(outcome: &Value) -> Vec<(u64, u64)> {
    let served = outcome["pools"][0]["served"].as_array().unwrap();
    let mut tiers: Vec<(u64, u64)> = served.iter().filter_map(|one| Some((one["tier"].as_u64()?, one["requests"].as_u64()?))).collect();
    tiers.sort_unstable();
    tiers
}

fn statuses(outcome: &Value) -> Vec<(u64, u64)> {
    let all = outcome["pools"][0]["statuses"].as_array().unwrap();
    all.iter().map(|one| (one["status"].as_u64().unwrap(), one["requests"].as_u64().unwrap())).collect()
}

fn alerts(outcome: &Value) -> Vec<&str> {
    outcome["alerts"].as_array().unwrap().iter().map(|alert| alert["name"].as_str().unwrap()).collect()
}

#[test]
fn a_config_of_three_tiers_shows_who_serves_under_each_fault_without_secrets_or_a_network() {
    let rehearsal = rehearsed(THREE_TIERS, &[]);
    assert_eq!((tiers(&rehearsal["baseline"]), statuses(&rehearsal["baseline"])), (vec![(1, 24)], vec![(200, 24)]));
    for (kind, what, serving, status) in [
        ("throttled", "ptu", vec![(2, 24)], 200),
        ("throttled", "near", vec![(3, 24)], 200),
        ("throttled-silently", "ptu", vec![(2, 24)], 200),
        ("failing", "ptu", vec![(2, 24)], 200),
        ("tier-out", "tier 1 of chat", vec![(2, 24)], 200),
        ("tier-out", "tier 2 of chat", vec![(3, 24)], 200),
        ("tier-out", "tier 3 of chat", vec![(1, 24)], 200),
        ("location-out", "swedencentral", vec![(3, 24)], 200),
        ("location-out", "francecentral", vec![(1, 24)], 200),
        ("dns-gone", "ptu", vec![(2, 24)], 200),
        ("tls-broken", "ptu", vec![(2, 24)], 200),
        ("key-revoked", "ptu", vec![(2, 24)], 200),
        ("malformed", "tier 1 of chat", vec![(1, 24)], 200),
        ("oversized", "tier 1 of chat", vec![(1, 24)], 200),
        ("content-filter", "tier 1 of chat", vec![(1, 24)], 400),
        ("reload", "", vec![(1, 24)], 200),
        ("upgrade", "", vec![(1, 24)], 200),
    ] {
        let outcome = fault(&rehearsal, kind, what);
        assert_eq!((tiers(outcome), statuses(outcome)), (serving, vec![(status, 24)]), "{kind} {what}");
    }
    // A throttled target is asked again when its 20 s are over: three times in a minute.
    assert_eq!(fault(&rehearsal, "throttled", "ptu")["pools"][0]["attempts"], 24 + 3);
    // A key that is refused is tried seldom, and somebody must be told.
    let revoked = fault(&rehearsal, "key-revoked", "ptu");
    assert!(alerts(revoked).contains(&"SpillwayTargetNeedsHands"), "{:?}", alerts(revoked));
    // Plain answers wait for `answer`, streams for `first_token`: in the config's own time, to the millisecond.
    let silence = fault(&rehearsal, "silence", "tier 1 of chat");
    let waits: Vec<f64> = silence["requests"].as_array().unwrap().iter().take(2).map(|one| one["added"].as_f64().unwrap()).collect();
    assert_eq!(waits, [30.0, 1.0]);
    // Streams that have begun can't be served again.
    let cut = &fault(&rehearsal, "cut", "tier 1 of chat")["pools"][0];
    assert_eq!(cut["good"].as_u64().unwrap() + cut["broken"].as_u64().unwrap(), 24);
    assert!(cut["broken"].as_u64().unwrap() > 0);
    // A limit holds, and others don't suffer.
    let flood = fault(&rehearsal, "flood", "app");
    assert_eq!(
        flood["limits"][0],
        json!({ "limit": "consumers.app requests_per_minute", "allowed": 30, "used": 30, "kept": true, "reached": true })
    );
    let others = flood["requests"].as_array().unwrap().iter().filter(|one| one["consumer"] == "other");
    assert_eq!(others.filter(|one| one["status"] == 200).count(), 24);
    let not: Vec<&str> = rehearsal["not_applicable"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(
        not,
        [
            "shared-quota",
            "refused",
            "token-expired",
            "role-missing",
            "redis-slow",
            "redis-gone",
            "ledger-full",
            "token-issuer-gone",
            "caller-issuer-gone"
        ]
    );
}

/// The first requests of a fault, as far as its state doesn't depend on how much time lies between them: who served, what
/// the caller saw, and every attempt.
fn shown(requests: &[RequestOutcome]) -> Vec<String> {
    requests
        .iter()
        .take(4)
        .map(|one| {
            let attempts: Vec<String> =
                one.attempts.iter().map(|tried| format!("{} {} {:?}", tried.backend, tried.outcome, tried.status)).collect();
            format!("stream {}: {} tier {:?} whole {} after {attempts:?}", one.stream, one.status, one.served.tier(), one.whole)
        })
        .collect()
}

/// The same requests through the real gateway against real mocks, the first of which has this fault.
async fn really(outcome: &FaultOutcome, mock_fault: Option<&str>) -> Vec<String> {
    let mut text = THREE_TIERS.replace("127.0.0.1:8080", "127.0.0.1:0").replace(
        "[[backends]]\nname = \"ptu\"",
        "admin = \"127.0.0.1:0\"\nallow_literal_secrets = true\n[log]\naccess = \"off\"\n[[backends]]\nname = \"ptu\"",
    );
    for secret in ["{ env = \"SURELY_NOT_SET_PTU\" }", "{ file = \"/surely/not/there\" }", "{ credential = \"surely-not-there\" }"] {
        text = text.replace(secret, "\"key\"");
    }
    for name in ["ptu", "near", "far"] {
        let has_fault = name == "ptu";
        let fault = mock_fault.filter(|_| has_fault).map_or(String::new(), |fault| format!("fault = \"{fault}\"\nfault_rate = 1.0\n"));
        let settings = format!(
            "name = \"{name}\"\nlisten = \"127.0.0.1:0\"\nreply = \"This is a rehearsed answer.\"\n[default]\nfirst_token = \"10ms\"\n{fault}"
        );
        let (_mock, address, _task) = mock_server::start(Settings::parse(&settings).unwrap(), Clock::new()).await.unwrap();
        let address = if has_fault && mock_fault.is_none() { "127.0.0.1:1".to_owned() } else { address.to_string() };
        text = text.replace(&format!("https://{name}.openai.azure.com"), &format!("http://{address}"));
    }
    let gateway = Gateway::start(&text).await;
    let mut shown = Vec::new();
    for one in outcome.requests.iter().take(4) {
        let body = json!({ "model": one.model, "stream": one.stream, "max_tokens": 40, "messages": [{ "role": "user", "content": "hi" }] });
        let request = client::post("/v1/chat/completions", &[("api-key", "test")], body.to_string().as_bytes());
        let answer = client::ask(gateway.address, request).await;
        let id = answer.as_ref().ok().and_then(|answer| answer.header("x-request-id").map(str::to_owned));
        let mut recent = None;
        crate::support::eventually("the request is noted", async || {
            let latest = gateway.running.gateway.recent.latest(1).into_iter().next();
            recent = id.as_ref().map_or(latest, |id| gateway.running.gateway.recent.find(id));
            recent.is_some()
        })
        .await;
        let recent = recent.unwrap();
        let attempts: Vec<String> =
            recent.attempts.iter().map(|tried| format!("{} {} {:?}", tried.backend, tried.outcome, tried.status)).collect();
        let complete = recent.end.label() == "ok";
        let tier = recent.attempts.last().filter(|_| complete).map(|tried| tried.priority);
        shown.push(format!("stream {}: {} tier {tier:?} whole {complete} after {attempts:?}", one.stream, recent.status));
    }
    shown
}

#[tokio::test]
async fn what_is_rehearsed_is_what_the_real_gateway_does_against_real_mocks() {
    let config = Config::parse(THREE_TIERS, Path::new("prod.toml"), &Secrets::stand_ins()).unwrap();
    let only = ["throttled ptu", "throttled-silently ptu", "failing ptu", "tier-out tier 1", "slow-first-token", "cut"];
    let options = Options { only: only.iter().map(|only| (*only).to_owned()).collect() };
    let rehearsal = tokio::task::spawn_blocking(move || rehearse("prod.toml", THREE_TIERS, &config, &options)).await.unwrap().unwrap();
    assert_eq!(rehearsal.faults.len(), 6);
    for outcome in &rehearsal.faults {
        let fault = match outcome.fault.kind {
            FaultKind::Throttled => Some("throttle=20000"),
            FaultKind::ThrottledSilently => Some("throttle-silently"),
            FaultKind::Failing => Some("status=500"),
            FaultKind::SlowFirstToken => Some("slow=1200"),
            FaultKind::Cut => Some("cut=3"),
            _ => None,
        };
        assert_eq!(shown(&outcome.requests), really(outcome, fault).await, "{}", outcome.fault.name());
    }
}

#[test]
fn a_rehearsal_that_is_stopped_leaves_no_folder_behind() {
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let (_folder, path) = file(ALL_AROUND);
        let temporary = tempfile::tempdir().unwrap();
        let there = || std::fs::read_dir(temporary.path()).unwrap().count();
        let mut command = Command::new(env!("CARGO_BIN_EXE_spillway"));
        command.env_clear().env("TMPDIR", temporary.path()).args(["rehearse", "--only", "ledger-full", "-c"]).arg(&path);
        let mut rehearsal = command.stdout(Stdio::null()).spawn().unwrap();
        while there() == 0 {
            assert_eq!(rehearsal.try_wait().unwrap(), None, "it makes a folder for the ledger");
            std::thread::sleep(Duration::from_millis(1));
        }
        let sent = Command::new("kill").arg(signal).arg(rehearsal.id().to_string()).status().unwrap();
        assert!(sent.success());
        assert_eq!(rehearsal.wait().unwrap().code(), Some(code), "{signal}");
        assert_eq!(there(), 0, "{signal}");
    }
}

#[test]
fn a_config_with_errors_gives_the_list_of_check_and_exit_code_2() {
    let (_folder, path) = file(&THREE_TIERS.replace("first_token", "frist_token").replace("\"far\", priority", "\"fra\", priority"));
    let output = run(&path, &[]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("did you mean 'first_token'?") && text.contains("unknown backend 'fra'"), "{text}");
    assert!(text.lines().all(|line| line.starts_with(&format!("{}:", path.display()))), "{text}");
    let missing = run(Path::new("/surely/not/there.toml"), &[]);
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn findings_decide_the_exit_code_and_the_page_needs_nothing_else() {
    // The only tier is out: no caller can be served.
    let one = THREE_TIERS.replace("  { backend = \"near\", priority = 2 },\n  { backend = \"far\", priority = 3 },\n", "");
    let (folder, path) = file(&one);
    let page = folder.path().join("report.html");
    let arguments = ["--only", "tier-out", "--html", page.to_str().unwrap()];
    let warns = run(&path, &[&arguments[..], &["--fail-on", "warning"]].concat());
    assert_eq!(warns.status.code(), Some(1), "{}", String::from_utf8_lossy(&warns.stdout));
    let never = run(&path, &[&arguments[..], &["--fail-on", "never"]].concat());
    assert_eq!(never.status.code(), Some(0));
    let text = String::from_utf8(never.stdout).unwrap();
    assert!(text.contains(&format!("{}:", path.display())) && text.contains("SpillwayErrorBudgetBurnFast (page"), "{text}");
    let page = std::fs::read_to_string(&page).unwrap();
    for foreign in ["<script", "<link", "src=", "href=", "url(", "@import"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(page.contains("<html lang=\"en\">") && page.contains("aria-label=\"0 of 24 requests were answered well\""), "{page}");
}

/// Everything that needs a stand-in.
const ALL_AROUND: &str = r#"
[server]
listen = ["0.0.0.0:443"]
admin = "0.0.0.0:9090"
admin_token = { file = "/surely/not/there" }
state_dir = "/surely/not/there"
tls = { cert = "/surely/not/there.pem", key = "/surely/not/there.key" }

[ledger]
required = true

[redis]
url = { env = "SURELY_NOT_SET" }
quotas_when_lost = "refuse"

[log]
access = "/surely/not/there/access.log"

[plugins.auth.jwt]
issuer = "https://login.microsoftonline.com/common/v2.0"
audiences = ["api://spillway"]
tenants = ["00000000-0000-0000-0000-000000000001"]

[plugins.auth.jwt.unlisted]
accept = false

[[backends]]
name = "ptu"
kind = "azure-openai"
url = "https://ptu.openai.azure.com"
auth = { type = "managed-identity" }
api = "dated"

[[backends]]
name = "paid"
kind = "azure-openai"
url = "https://paid.openai.azure.com"
auth = { type = "client-credentials", tenant_id = "t", client_id = "c", secret = { env = "SURELY_NOT_SET" } }

[[pools]]
name = "chat"
models = ["gpt-4o"]
roles = ["Models.Use"]
members = [{ backend = "ptu" }, { backend = "paid", priority = 2 }]
health = { path = "/surely/not/there", statuses = [200] }

[[pools]]
name = "search"
models = ["text-embedding-3-small"]
members = [{ backend = "paid" }]

[[consumers]]
name = "app"
claims = ["11111111-1111-1111-1111-111111111111"]
limits = { token_quota = { tokens = 1000000, period = "month" } }
"#;

#[test]
fn tokens_redis_and_the_ledger_are_rehearsed_with_stand_ins() {
    let kinds = ["token-expired ptu", "role-missing ptu", "token-issuer-gone", "caller-issuer-gone", "redis", "ledger-full"];
    let rehearsal = rehearsed(ALL_AROUND, &kinds);
    let of = |kind: &str, what: &str| fault(&rehearsal, kind, what);
    let baseline = &rehearsal["baseline"];
    assert_eq!((tiers(baseline), statuses(baseline)), (vec![(1, 24)], vec![(200, 24)]), "{}", baseline["requests"][0]);
    assert_eq!(baseline["pools"][1]["good"], 24);
    // The token is renewed, and the request that met the 401 is served by the same backend.
    let expired = of("token-expired", "ptu");
    assert_eq!((tiers(expired), statuses(expired)), (vec![(1, 24)], vec![(200, 24)]), "{}", expired["requests"][0]);
    let role = of("role-missing", "ptu");
    assert_eq!(tiers(role), [(2, 24)]);
    assert!(alerts(role).contains(&"SpillwayTargetNeedsHands"));
    let gone = of("token-issuer-gone", "");
    assert_eq!(statuses(gone), [(503, 24)]);
    assert!(alerts(gone).contains(&"SpillwayTokenUnusable"), "{:?}", alerts(gone));
    let callers = of("caller-issuer-gone", "");
    assert_eq!(tiers(callers), [], "without its keys no token is accepted: {callers}");
    for kind in ["redis-slow", "redis-gone"] {
        let redis = of(kind, "");
        assert!(statuses(redis).iter().all(|(status, _)| *status == 503 || *status == 429 || *status == 403), "{:?}", statuses(redis));
        assert!(alerts(redis).contains(&"SpillwayLimitsUnshared"), "{kind}: {:?}", alerts(redis));
    }
    let ledger = of("ledger-full", "");
    assert!(alerts(ledger).contains(&"SpillwayLedgerDown"), "{:?}", alerts(ledger));
    assert!(statuses(ledger).iter().any(|(status, _)| *status == 503), "ledger.required: {:?}", statuses(ledger));
}
