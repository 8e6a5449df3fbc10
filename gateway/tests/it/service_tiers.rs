//! Service tiers: what an answer names is told and priced, callers ask only for what is granted, and a member may be a
//! tier.

use std::path::Path;

use serde_json::{Value, json};
use spillway_testkit::backend::{Received, Reply, ScriptedBackend};
use spillway_testkit::client::{ask, post};

use crate::support::*;

/// One backend, twice a member: first in the tier `flex`, then in the default one.
fn ladder(backend: &ScriptedBackend, folder: &Path, members: &str, rest: &str) -> String {
    let url = backend.url();
    let way = way_in();
    format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\nallow_literal_secrets = true\n{}\n{way}
[[backends]]\nname = \"a\"\nkind = \"openai\"\nurl = \"{url}\"
[backends.prices.m]\ninput = 4.0\noutput = 20.0\nflex = {{ input = 2.0, output = 10.0 }}\npriority = {{ input = 8.0, output = 40.0 }}
[[pools]]\nname = \"pool\"\nmodels = [\"m\"]\nmembers = {members}\n
[log]\naccess = \"off\"\n[ledger]\ndurability = \"strict\"\n{rest}",
        state_dir(folder)
    )
}

const FLEX_FIRST: &str =
    "[{ backend = \"a\", priority = 1, service_tier = \"flex\" }, { backend = \"a\", priority = 2, service_tier = \"default\" }]";

const NO_FLEX: &str = r#"{"error":{"type":"resource_unavailable","code":"flex_unavailable","message":"no capacity","param":null}}"#;

/// Answers in the tier that is asked for, with 100 input and 10 output tokens; for the caller's text "full" there is no
/// capacity for `flex`.
fn tiered(asked: &Received) -> Reply {
    let body = asked.json();
    let flex = body["service_tier"] == "flex";
    let tier = if body["service_tier"].is_string() { body["service_tier"].clone() } else { json!("default") };
    let text = body["messages"][0]["content"].as_str().or(body["input"].as_str()).unwrap_or("").to_owned();
    let usage = json!({ "prompt_tokens": 100, "completion_tokens": 10, "input_tokens": 100, "output_tokens": 10 });
    if asked.path().ends_with("/responses") {
        let event = |kind: &str, more: Value| {
            let mut event = json!({ "type": kind });
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            format!("event: {kind}\ndata: {event}\n\n")
        };
        let created = event("response.created", json!({ "response": { "id": "r", "service_tier": "auto" } }));
        let failed = json!({ "response": { "id": "r", "error": { "code": "flex_unavailable", "message": "no capacity" } } });
        if flex && text == "full" {
            return Reply::sse([created, event("response.failed", failed)]);
        }
        let done = json!({ "response": { "id": "r", "status": "completed", "service_tier": tier, "usage": usage } });
        return Reply::sse([created, event("response.output_text.delta", json!({ "delta": "x" })), event("response.completed", done)]);
    }
    match (flex, text.as_str()) {
        (true, "full") => Reply::json(429, NO_FLEX).header("retry-after", "300"),
        (true, "full stream") => Reply::sse([format!("data: {NO_FLEX}\n\n")]),
        _ if body["stream"] == true => {
            let chunk = |delta: Value, finish: Value| {
                format!(
                    "data: {}\n\n",
                    json!({ "id": "c", "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }], "service_tier": tier })
                )
            };
            let last = format!("data: {}\n\n", json!({ "id": "c", "choices": [], "usage": usage, "service_tier": tier }));
            Reply::sse([
                chunk(json!({ "content": "a" }), Value::Null),
                chunk(json!({ "content": "b" }), Value::Null),
                chunk(json!({}), json!("stop")),
                last,
                DONE.to_owned(),
            ])
        }
        _ => {
            let mut whole: Value = serde_json::from_str(&answer("hello")).unwrap();
            (whole["usage"], whole["service_tier"]) = (usage, tier);
            Reply::json(200, whole.to_string())
        }
    }
}

fn body(text: &str, tier: Value, stream: bool) -> Value {
    json!({ "model": "m", "service_tier": tier, "stream": stream, "messages": [{ "role": "user", "content": text }] })
}

/// Outcome, service tier and cost in millionths of a dollar of every row.
fn told(folder: &Path) -> Vec<(String, Option<String>, i64)> {
    let row = |row: &Value| {
        let micros = (row["cost_usd"].as_f64().unwrap() * 1e6).round() as i64;
        (row["outcome"].as_str().unwrap().to_owned(), row["service_tier"].as_str().map(str::to_owned), micros)
    };
    ledger_rows(folder).iter().map(row).collect()
}

fn line(outcome: &str, tier: Option<&str>, micros: i64) -> (String, Option<String>, i64) {
    (outcome.to_owned(), tier.map(str::to_owned), micros)
}

#[tokio::test]
async fn what_an_answer_names_is_told_and_priced() {
    let backend = ScriptedBackend::start(tiered).await;
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&ladder(&backend, folder.path(), "[{ backend = \"a\" }]", "")).await;
    for (tier, stream) in [(json!("flex"), false), (json!("priority"), true), (Value::Null, false), (json!("default"), true)] {
        let got = gateway.post("/v1/chat/completions", &body("hi", tier.clone(), stream)).await;
        assert_eq!(got.status, 200);
        assert_eq!(backend.received().pop().unwrap().json()["service_tier"], tier, "a member without a tier leaves it to the caller");
    }
    let responses = json!({ "model": "m", "stream": true, "input": "hi", "service_tier": "flex" });
    assert_eq!(gateway.post("/v1/responses", &responses).await.status, 200);
    let (flex, priority, default) = (300, 1200, 600);
    let all = ["flex", "priority", "default", "default", "flex"].into_iter().zip([flex, priority, default, default, flex]);
    assert_eq!(told(folder.path()), all.map(|(tier, micros)| line("ok", Some(tier), micros)).collect::<Vec<_>>());
    let counted =
        |tier: &str| format!("spillway_service_tier_total{{backend=\"a\",deployment=\"m\",pool=\"pool\",service_tier=\"{tier}\"}}");
    for (tier, count) in [("flex", 2.0), ("priority", 1.0), ("default", 2.0), ("batch", 0.0)] {
        assert_eq!(gateway.metric(&counted(tier)).await, count, "{tier}");
    }
}

#[tokio::test]
async fn a_tier_without_a_price_is_an_estimate() {
    let backend = ScriptedBackend::start(tiered).await;
    let folder = tempfile::tempdir().unwrap();
    let config = ladder(&backend, folder.path(), "[{ backend = \"a\" }]", "").replace("priority = { input = 8.0, output = 40.0 }", "");
    let gateway = Gateway::start(&config).await;
    for tier in ["flex", "priority"] {
        assert_eq!(gateway.post("/v1/chat/completions", &body("hi", json!(tier), false)).await.status, 200);
    }
    let rows = ledger_rows(folder.path());
    let estimated: Vec<_> = rows.iter().map(|row| row["cost_estimated"].as_bool().unwrap()).collect();
    assert_eq!((estimated, told(folder.path())[1].2), (vec![false, true], 600));
}

#[tokio::test]
async fn no_capacity_for_flex_is_no_throttle() {
    let backend = ScriptedBackend::start(tiered).await;
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&ladder(&backend, folder.path(), FLEX_FIRST, "")).await;
    let tiers = |from: usize| -> Vec<Value> {
        backend.received().iter().skip(from).map(|received| received.json()["service_tier"].clone()).collect()
    };
    let mut seen = 0;
    for (text, stream) in [("full", false), ("full", true), ("full stream", true)] {
        let got = gateway.post("/v1/chat/completions", &body(text, json!("priority"), stream)).await;
        assert_eq!((got.status, got.header("x-spillway-attempts")), (200, Some("2")), "{text} {stream}");
        assert_eq!(tiers(seen), [json!("flex"), json!("default")], "{text}: the members' tiers, not the caller's");
        seen = backend.count();
    }
    let responses = json!({ "model": "m", "stream": true, "input": "full" });
    assert_eq!(gateway.post("/v1/responses", &responses).await.status, 200);
    assert_eq!(tiers(seen), [json!("flex"), json!("default")]);
    assert_eq!(gateway.state("a").await, "ready");
    let got = gateway.post("/v1/chat/completions", &body("hi", Value::Null, false)).await;
    assert_eq!((got.status, got.header("x-spillway-attempts")), (200, Some("1")), "flex is asked again at once");
    let refused = line("flex_unavailable", None, 0);
    let served = line("ok", Some("default"), 600);
    let mut expected: Vec<_> = (0..4).flat_map(|_| [refused.clone(), served.clone()]).collect();
    expected.push(line("ok", Some("flex"), 300));
    assert_eq!(told(folder.path()), expected);
    let attempts = |outcome: &str| format!("spillway_attempts_total{{backend=\"a\",deployment=\"m\",outcome=\"{outcome}\",pool=\"pool\"}}");
    assert_eq!((gateway.metric(&attempts("flex_unavailable")).await, gateway.metric(&attempts("throttled")).await), (4.0, 0.0));
}

#[tokio::test]
async fn a_plain_429_of_flex_is_a_throttle_of_the_whole_target() {
    let backend = ScriptedBackend::start(|_: &Received| Reply::throttled(30_000)).await;
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&ladder(&backend, folder.path(), FLEX_FIRST, "")).await;
    let got = gateway.post("/v1/chat/completions", &body("hi", Value::Null, false)).await;
    assert_eq!((got.status, backend.count()), (429, 1), "the tiers share one quota: the second would be refused, too");
    assert_eq!(gateway.state("a").await, "throttled");
}

#[tokio::test]
async fn who_sees_that_there_is_no_flex() {
    let backend = ScriptedBackend::start(tiered).await;
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&ladder(&backend, folder.path(), "[{ backend = \"a\" }]", "")).await;
    let got = gateway.post("/v1/chat/completions", &body("full", json!("flex"), false)).await;
    assert_eq!((got.status, got.json()["error"]["code"].clone()), (429, json!("flex_unavailable")), "it asked for flex itself");
    let folder = tempfile::tempdir().unwrap();
    let only = "[{ backend = \"a\", service_tier = \"flex\" }]";
    let gateway = Gateway::start(&ladder(&backend, folder.path(), only, "")).await;
    let got = gateway.post("/v1/chat/completions", &body("full", Value::Null, false)).await;
    assert_eq!((got.status, got.code().as_str()), (429, "rate_limit_exceeded"), "it doesn't know of tiers");
}

#[tokio::test]
async fn only_chats_and_responses_have_tiers() {
    let backend = ScriptedBackend::start(|_: &Received| {
        Reply::json(200, json!({ "data": [{ "embedding": [0.1], "index": 0 }], "usage": { "prompt_tokens": 5 } }).to_string())
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&ladder(&backend, folder.path(), FLEX_FIRST, "")).await;
    assert_eq!(gateway.post("/v1/embeddings", &json!({ "model": "m", "input": "x" })).await.status, 200);
    assert_eq!(backend.received().pop().unwrap().json(), json!({ "model": "m", "input": "x" }));
}

#[tokio::test]
async fn callers_ask_for_the_tiers_that_they_may_use() {
    let backend = ScriptedBackend::start(tiered).await;
    let folder = tempfile::tempdir().unwrap();
    let rest = consumer("cheap", "service_tiers = [\"flex\"]\nheaders = [\"x-ms-service-tier\"]")
        + &consumer("any", "")
        + &consumer("none", "service_tiers = []");
    let gateway = Gateway::start(&ladder(&backend, folder.path(), "[{ backend = \"a\" }]", &rest)).await;
    let answer_to = async |who: &str, tier: Value, header: Option<&str>| {
        let headers: Vec<_> = [("api-key", who)].into_iter().chain(header.map(|tier| ("x-ms-service-tier", tier))).collect();
        ask(gateway.address, post("/v1/chat/completions", &headers, body("hi", tier, false).to_string().as_bytes())).await.unwrap()
    };
    for (who, tier, header, expected) in [
        ("cheap", json!("flex"), None, 200),
        ("cheap", json!("default"), None, 200),
        ("cheap", json!("auto"), None, 200),
        ("cheap", Value::Null, None, 200),
        ("cheap", json!("priority"), None, 403),
        ("cheap", json!("fast"), None, 403),
        ("cheap", json!("ultrafast"), None, 403),
        ("cheap", json!("flex"), Some("flex"), 200),
        ("cheap", json!("flex"), Some("priority"), 403),
        ("none", json!("flex"), None, 403),
        ("none", json!("default"), None, 200),
        ("any", json!("priority"), None, 200),
        ("any", json!("flex"), Some("priority"), 200),
        ("any", json!(7), None, 400),
    ] {
        let got = answer_to(who, tier.clone(), header).await;
        assert_eq!(got.status, expected, "{who} {tier} {header:?}: {}", got.text());
        if expected == 403 {
            assert_eq!(got.code(), "service_tier_not_allowed");
        }
    }
    let got = answer_to("cheap", json!("priority"), None).await;
    assert!(got.text().contains("'priority'") && got.text().contains("'flex' or 'default'"), "{}", got.text());
    assert_eq!(backend.received().pop().unwrap().header("x-ms-service-tier"), None, "withheld from whoever it is not granted to");
}

#[tokio::test]
async fn the_imitation_has_tiers_and_spills_over() {
    let settings = "listen = \"127.0.0.1:0\"\nseed = 1\n[[deployments]]\nname = \"ptu\"\nptu = 60\nspillover = \"payg\"\n[[deployments]]\nname = \"payg\"\nflex_available = 0.0\n[[deployments]]\nname = \"flexible\"\n";
    let settings = spillway::mock::settings::Settings::parse(settings).unwrap();
    let (_mock, address, _task) = spillway::mock::server::start(settings, spillway::clock::Clock::new()).await.unwrap();
    let sent = async |deployment: &str, tier: Option<&str>| {
        let text =
            json!({ "model": deployment, "service_tier": tier, "max_tokens": 100, "messages": [{ "role": "user", "content": "hi" }] })
                .to_string();
        ask(address, post("/openai/v1/chat/completions", &[], text.as_bytes())).await.unwrap()
    };
    let tier = |got: &spillway_testkit::client::Response| got.json()["service_tier"].clone();
    let first = sent("ptu", None).await;
    assert_eq!((first.status, tier(&first), first.header("x-ms-spillover-from-deployment")), (200, json!("default"), None));
    let second = sent("ptu", Some("priority")).await;
    let fields = ["x-ms-spillover-from-deployment", "x-ms-deployment-name", "x-ms-spillover-error"].map(|name| second.header(name));
    assert_eq!((second.status, tier(&second), fields), (200, json!("priority"), [Some("ptu"), Some("payg"), Some("429")]));
    let refused = sent("payg", Some("flex")).await;
    assert_eq!((refused.status, refused.json()["error"]["code"].clone()), (429, json!("flex_unavailable")));
    assert_eq!(tier(&sent("flexible", Some("flex")).await), "flex");
}
