//! Azure's own spillover: a full deployment has another one of its resource serve the request, and the answer's head
//! says so.

use std::path::Path;

use serde_json::{Value, json};
use spillway_testkit::backend::{Received, Reply, ScriptedBackend};
use spillway_testkit::client::{ask, post};

use crate::support::*;

/// A provisioned deployment that costs by the hour, one that costs by tokens, and the deployment asked for.
const PRICES: &str = "deployments = { m = \"ptu\" }\nprices = { ptu = { usd_per_hour = 2.0 }, payg = { input = 1.0, output = 10.0 } }";

fn config_with(members: &[Member<'_>], folder: &Path, pool: &str) -> String {
    config(members, pool, "[ledger]\ndurability = \"strict\"\n").replace("#server", &state_dir(folder))
}

fn used(tier: Option<&str>) -> String {
    let mut whole: Value = serde_json::from_str(&answer("hello")).unwrap();
    whole["usage"] = json!({ "prompt_tokens": 100, "completion_tokens": 10 });
    whole["service_tier"] = json!(tier);
    whole.to_string()
}

fn spilled(reply: Reply, served: &str) -> Reply {
    reply
        .header("x-ms-spillover-from-deployment", "ptu")
        .header("x-ms-deployment-name", served)
        .header("x-ms-spillover-error", "429")
        .header("x-ratelimit-remaining-tokens", "0")
        .header("x-ratelimit-limit-tokens", "1000")
}

#[tokio::test]
async fn what_another_deployment_served_has_its_price() {
    let backend = ScriptedBackend::start(|asked: &Received| {
        let reply = Reply::json(200, used(None));
        if asked.header("x-full").is_some() { spilled(reply, "payg") } else { reply.header("x-ms-deployment-name", "ptu") }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&config_with(&[Member { extra: PRICES, ..member("a", &backend, 1) }], folder.path(), "")).await;
    let body = chat(false).to_string();
    assert_eq!(ask(gateway.address, post("/v1/chat/completions", &[], body.as_bytes())).await.unwrap().status, 200);
    for _ in 0..2 {
        let got = ask(gateway.address, post("/v1/chat/completions", &[("x-full", "1")], body.as_bytes())).await.unwrap();
        assert_eq!(got.status, 200);
    }
    let rows = ledger_rows(folder.path());
    let told: Vec<_> = rows.iter().map(|row| (row["deployment"].as_str().unwrap(), row["spilled_from"].as_str())).collect();
    assert_eq!(told, [("ptu", None), ("payg", Some("ptu")), ("payg", Some("ptu"))]);
    let cost = |row: &Value| row["cost_usd"].as_f64();
    assert_eq!(cost(&rows[0]), None, "by the hour");
    assert!((cost(&rows[1]).unwrap() - 200e-6).abs() < 1e-12, "100 tokens at a dollar and 10 at ten, of a million: {}", rows[1]);
    let metric =
        |status: &str| format!("spillway_upstream_spillovers_total{{backend=\"a\",deployment=\"ptu\",pool=\"pool\",status=\"{status}\"}}");
    assert_eq!(gateway.metric(&metric("429")).await, 2.0);
    assert_eq!(gateway.metric(&metric("other")).await, 0.0);
    assert_eq!(gateway.state("a").await, "ready", "the deployment that was asked has not failed");
}

#[tokio::test]
async fn a_stream_that_another_deployment_serves_is_told_too() {
    let backend = ScriptedBackend::start(|_: &Received| {
        let usage = format!("data: {}\n\n", json!({ "choices": [], "usage": { "prompt_tokens": 100, "completion_tokens": 10 } }));
        spilled(Reply::sse([role(), delta("hello"), stop(), usage, DONE.to_owned()]), "payg")
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&config_with(&[Member { extra: PRICES, ..member("a", &backend, 1) }], folder.path(), "")).await;
    assert_eq!(gateway.stream().await.status, 200);
    let row = ledger_of(folder.path(), 1).await.pop().unwrap();
    assert_eq!((&row["deployment"], &row["spilled_from"]), (&json!("payg"), &json!("ptu")), "{row}");
    assert!((row["cost_usd"].as_f64().unwrap() - 200e-6).abs() < 1e-12, "{row}");
}

#[tokio::test]
async fn both_failed_so_neither_is_asked_again() {
    let full = ScriptedBackend::start(|_: &Received| spilled(Reply::throttled(30_000), "m2")).await;
    let other = ScriptedBackend::start(|_: &Received| Reply::json(200, used(None))).await;
    let folder = tempfile::tempdir().unwrap();
    // The second member is the deployment that was asked by the first one's resource already.
    let members = [
        Member { extra: "deployments = { m = \"ptu\" }", ..member("ptu", &full, 1) },
        Member { extra: "deployments = { m = \"m2\" }", ..member("ptu2", &full, 2) },
        member("other", &other, 3),
    ];
    let gateway = Gateway::start(&config_with(&members, folder.path(), "")).await;
    let got = gateway.chat().await;
    assert_eq!((got.status, got.header("x-spillway-backend")), (200, Some("other")));
    assert_eq!(full.count(), 2, "the same deployment of another backend is another one");
    assert_eq!(gateway.state("ptu").await, "throttled");
}

#[tokio::test]
async fn callers_choose_neither_deployments_nor_tiers_nor_filters_by_headers() {
    let backend = ScriptedBackend::start(|_: &Received| Reply::json(200, used(None))).await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", "")).await;
    let fields = ["x-ms-spillover-deployment", "x-ms-service-tier", "x-policy-id", "azureml-model-deployment"];
    let headers: Vec<(&str, &str)> = fields.iter().map(|name| (*name, "priority")).chain([("x-custom", "1")]).collect();
    let got = ask(gateway.address, post("/v1/chat/completions", &headers, chat(false).to_string().as_bytes())).await.unwrap();
    assert_eq!(got.status, 200);
    let received = backend.received().pop().unwrap();
    assert_eq!(received.header("x-custom"), Some("1"));
    for name in fields {
        assert_eq!(received.header(name), None, "{name}");
    }
}
