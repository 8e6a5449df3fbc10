//! Requests leave a deployment with provisioned throughput before it answers 429.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::{self, Response};

use crate::support::*;

/// What a burst takes is 1,000 input tokens: ten seconds of 100.
const PTU: &str = "ptu = { m = { tokens_per_minute = 6000, output_ratio = 1 } }";
const AHEAD: &str = "spill = \"ahead\"";

/// A chat whose completion has at most 100 tokens; the prompt has few.
fn ask() -> Value {
    json!({ "model": "m", "max_tokens": 100, "messages": [{ "role": "user", "content": "hi" }] })
}

/// An answer that used what was booked for it.
fn used(who: &str) -> Reply {
    let body = json!({
        "id": "c", "object": "chat.completion", "model": "m",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": who }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 20, "completion_tokens": 100, "total_tokens": 120 },
    });
    Reply::json(200, body.to_string())
}

async fn answers(who: &'static str) -> ScriptedBackend {
    ScriptedBackend::start(move |_| used(who)).await
}

async fn send(gateway: &Gateway, headers: &[(&str, &str)]) -> Response {
    client::ask(gateway.address, client::post("/v1/chat/completions", headers, ask().to_string().as_bytes())).await.unwrap()
}

/// The PTU deployment as the status page shows it.
async fn shown(gateway: &Gateway) -> Value {
    let status = gateway.admin("/api/status").await.json();
    let members = status["pools"][0]["tiers"][0]["members"].as_array().unwrap();
    members.iter().find(|member| member["backend"] == "ptu" && member["deployment"] == "m").unwrap().clone()
}

#[tokio::test]
async fn a_full_deployment_is_left_before_it_refuses() {
    let (ptu, paid) = (answers("ptu").await, answers("paid").await);
    let members = [Member { extra: PTU, ..member("ptu", &ptu, 1) }, member("paid", &paid, 2)];
    let gateway = Gateway::start(&config(&members, AHEAD, "")).await;
    for _ in 0..30 {
        assert_eq!(send(&gateway, &[]).await.status, 200);
    }
    // 600 of the 1,000 tokens are used without a risk, some more to find the line; a little has drained meanwhile.
    let (at_ptu, elsewhere) = (ptu.count(), paid.count());
    assert!((4..=14).contains(&at_ptu) && at_ptu + elsewhere == 30, "{at_ptu} at the PTU, {elsewhere} elsewhere");
    let of = |decision: &str| {
        format!("spillway_ptu_decisions_total{{backend=\"ptu\",class=\"standard\",decision=\"{decision}\",deployment=\"m\"}}")
    };
    let sent = gateway.metric(&of("fits")).await + gateway.metric(&of("probe")).await;
    assert_eq!((sent, gateway.metric(&of("full")).await), (at_ptu as f64, elsewhere as f64));
    let utilisation = gateway.metric("spillway_ptu_fill{backend=\"ptu\",deployment=\"m\"}").await;
    assert!((0.3..1.2).contains(&utilisation), "{utilisation}");
    let shown = shown(&gateway).await;
    assert!(shown["ptu"]["tokens_per_minute"] == 6000.0 && shown["headroom"].is_number() && shown["state"] == "ready", "{shown}");
}

#[tokio::test]
async fn what_was_skipped_and_why_is_told() {
    let (ptu, paid) = (answers("ptu").await, answers("paid").await);
    let members = [Member { extra: PTU, ..member("ptu", &ptu, 1) }, member("paid", &paid, 2)];
    let gateway = Gateway::start(&config(&members, AHEAD, "")).await;
    // What drains meanwhile, or a probe, may let some more through.
    let mut last = send(&gateway, &[]).await;
    while last.header("x-spillway-backend") != Some("paid") {
        assert!(ptu.count() < 100, "nothing goes elsewhere");
        last = send(&gateway, &[]).await;
    }
    let id = last.header("x-request-id").unwrap().to_owned();
    let told = gateway.admin(&format!("/api/requests/{id}")).await.json();
    let skipped = &told["passed_over"][0];
    assert_eq!((&skipped["backend"], &skipped["state"]), (&json!("ptu"), &json!("ptu-full")), "{told}");
    assert!(skipped["ptu_percent"].as_u64().is_some_and(|percent| (30..200).contains(&percent)), "{told}");
    assert_eq!(told["attempts"][0].get("ptu_percent"), None, "the one that served it has none: {told}");
}

#[tokio::test]
async fn by_default_only_a_429_moves_requests_on() {
    let (ptu, paid) = (answers("ptu").await, answers("paid").await);
    let members = [Member { extra: PTU, ..member("ptu", &ptu, 1) }, member("paid", &paid, 2)];
    let gateway = Gateway::start(&config(&members, "", "")).await;
    for _ in 0..15 {
        assert_eq!(send(&gateway, &[]).await.status, 200);
    }
    assert_eq!((ptu.count(), paid.count()), (15, 0));
    let utilisation = gateway.metric("spillway_ptu_fill{backend=\"ptu\",deployment=\"m\"}").await;
    assert!(utilisation > 1.0, "the account goes on: {utilisation}");
}

#[tokio::test]
async fn a_429_that_was_not_foreseen_corrects_the_account() {
    let refuses = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&refuses);
    let ptu = ScriptedBackend::start(move |_| match asked.load(Ordering::Relaxed) {
        true => Reply::json(429, r#"{"error":{"code":"429","message":"Requests have exceeded call rate limit"}}"#)
            .header("retry-after-ms", "20000"),
        false => used("ptu"),
    })
    .await;
    let paid = answers("paid").await;
    let members = [Member { extra: PTU, ..member("ptu", &ptu, 1) }, member("paid", &paid, 2)];
    let gateway = Gateway::start(&config(&members, AHEAD, "")).await;
    assert_eq!(send(&gateway, &[]).await.header("x-spillway-backend"), Some("paid"));
    let utilisation = gateway.metric("spillway_ptu_fill{backend=\"ptu\",deployment=\"m\"}").await;
    assert!(utilisation > 2.5, "20 s above the line of a bucket of 10 s");
    assert_eq!(gateway.metric("spillway_ptu_refusals_total{backend=\"ptu\",deployment=\"m\",provoked=\"false\"}").await, 1.0);
    refuses.store(false, Ordering::Relaxed);
    assert_eq!((send(&gateway, &[]).await.header("x-spillway-backend").map(str::to_owned), ptu.count()), (Some("paid".into()), 1));
}

#[tokio::test]
async fn nobody_else_means_the_full_one() {
    let (ptu, paid) = (answers("ptu").await, ScriptedBackend::start(|_| Reply::json(503, "{}")).await);
    let members = [Member { extra: PTU, ..member("ptu", &ptu, 1) }, member("paid", &paid, 2)];
    let gateway = Gateway::start(&config(&members, AHEAD, "")).await;
    for _ in 0..20 {
        assert_eq!(send(&gateway, &[]).await.status, 200, "a deployment that may be full is better than none");
    }
    assert!(ptu.count() == 20 && paid.count() > 0);
}

#[tokio::test]
async fn a_patient_request_waits_for_room() {
    let (ptu, paid) = (answers("ptu").await, answers("paid").await);
    let members = [Member { extra: PTU, ..member("ptu", &ptu, 1) }, member("paid", &paid, 2)];
    let gateway = Gateway::start(&config(&members, &format!("{AHEAD}\npatience = {{ standard = \"20s\" }}"), "")).await;
    while ptu.count() < 8 {
        assert_eq!(send(&gateway, &[]).await.status, 200);
    }
    assert_eq!(paid.count(), 0, "each waited for its room");
    let waits = gateway.metric("spillway_ptu_decisions_total{backend=\"ptu\",class=\"standard\",decision=\"wait\",deployment=\"m\"}").await;
    assert!(waits > 0.0);
    // It needs its answer before there is room.
    let hurried = send(&gateway, &[("x-spillway-deadline", "1ms")]).await;
    assert!(hurried.header("x-spillway-backend") == Some("paid") || waits == 0.0, "{:?}", hurried.header("x-spillway-backend"));
}

#[tokio::test]
async fn a_deadline_of_another_form_is_refused() {
    let backend = answers("x").await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", "")).await;
    let refused = send(&gateway, &[("x-spillway-deadline", "soon")]).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("x-spillway-deadline") && refused.text().contains("30s"), "{}", refused.text());
    for right in ["30s", "2030-01-01T00:00:00Z"] {
        assert_eq!(send(&gateway, &[("x-spillway-deadline", right)]).await.status, 200);
    }
    assert!(backend.received().iter().all(|request| request.header("x-spillway-deadline").is_none()), "it is for the gateway only");
}

#[tokio::test]
async fn what_was_learned_survives_a_restart() {
    let ptu = ScriptedBackend::start(|_| Reply::json(429, "{}").header("retry-after-ms", "20000")).await;
    let paid = answers("paid").await;
    let folder = tempfile::tempdir().unwrap();
    let learns = "ptu = { m = {} }";
    let members = [Member { extra: learns, ..member("ptu", &ptu, 1) }, member("paid", &paid, 2)];
    let text = config(&members, AHEAD, "").replace("#server", &format!("state_dir = \"{}\"", folder.path().display()));
    let gateway = Gateway::start(&text).await;
    let rate = async |gateway: &Gateway| shown(gateway).await["ptu"]["tokens_per_minute"].clone();
    assert_eq!(rate(&gateway).await, Value::Null, "not known before its first 429");
    assert_eq!(send(&gateway, &[]).await.status, 200);
    let learned = rate(&gateway).await;
    assert!(learned.is_number());
    gateway.running.stop(std::future::pending()).await;
    let gateway = Gateway::start(&text).await;
    let after = rate(&gateway).await;
    assert!((after.as_f64().unwrap() - learned.as_f64().unwrap()).abs() < 1e-6, "{after} {learned}");
}

#[tokio::test]
async fn two_nodes_know_what_the_other_sends() {
    let server = RedisServer::start(None);
    let (ptu, paid) = (answers("ptu").await, answers("paid").await);
    let members = [Member { extra: PTU, ..member("ptu", &ptu, 1) }, member("paid", &paid, 2)];
    let text = config(&members, AHEAD, &format!("[redis]\nurl = \"redis://:CANARY-redis@127.0.0.1:{}\"\n", server.port));
    let (one, two) = (Gateway::start(&text).await, Gateway::start(&text).await);
    let full = async |node: &Gateway| node.metric("spillway_ptu_fill{backend=\"ptu\",deployment=\"m\"}").await;
    assert_eq!(full(&two).await, 0.0);
    // The first exchange only notes where the other one is.
    eventually("the second node hears of the first", async || {
        assert_eq!(send(&one, &[]).await.status, 200);
        full(&two).await > 0.3
    })
    .await;
    let before = ptu.count();
    for _ in 0..20 {
        assert_eq!(send(&two, &[]).await.status, 200);
    }
    assert!(ptu.count() - before < 12, "the first node's requests are in the account of the second: {}", ptu.count() - before);
}

#[tokio::test]
async fn patience_beyond_the_timeout_still_leaves_time_for_the_next_tier() {
    let (ptu, paid) = (answers("ptu").await, answers("paid").await);
    let members = [Member { extra: PTU, ..member("ptu", &ptu, 1) }, member("paid", &paid, 2)];
    let pool = format!(
        "{AHEAD}\npatience = {{ standard = \"5m\" }}\n[pools.timeouts]\ntotal = \"2s\"\nfirst_token = \"1s\"\nanswer = \"1s\"\nthinking = \"1s\"\nidle = \"1s\"\nconnect = \"1s\""
    );
    let gateway = Gateway::start(&config(&members, &pool, "")).await;
    let all = at_once(&gateway, 20).await;
    assert!(all.iter().all(|status| *status == 200), "{all:?}");
    assert!(paid.count() > 0, "those for which there was no room in time");
}

/// The statuses of so many requests at once.
async fn at_once(gateway: &Gateway, count: usize) -> Vec<u16> {
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..count {
        let request = client::post("/v1/chat/completions", &[], ask().to_string().as_bytes());
        let address = gateway.address;
        asked.spawn(async move { client::ask(address, request).await.unwrap().status });
    }
    asked.join_all().await
}

#[tokio::test]
async fn a_share_is_paid_for_though_nobody_uses_it() {
    let (ptu, paid) = (answers("ptu").await, answers("paid").await);
    let folder = tempfile::tempdir().unwrap();
    let shared = "ptu = { m = { tokens_per_minute = 6000, cost = \"by-share\", shares = [{ consumer = \"crm\", percent = 40 }] } }\n\
                  prices = { m = { usd_per_hour = 10.0 } }";
    let members = [Member { extra: shared, ..member("ptu", &ptu, 1) }, member("paid", &paid, 2)];
    let crm = "[[consumers]]\nname = \"crm\"\nkeys = [{ sha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\" }]\n";
    let text = config(&members, "", crm).replace("#server", &state_dir(folder.path()));
    let gateway = Gateway::start(&text).await;
    let costs = async |gateway: &Gateway| {
        let report = gateway.admin("/api/usage?by=consumer").await.json();
        let rows = report["rows"].as_array().unwrap().iter();
        rows.map(|row| (row["consumer"].as_str().map(str::to_owned), row["cost_usd"].as_f64().unwrap())).collect::<Vec<_>>()
    };
    // If the hour ends meanwhile, both hours are in the report.
    eventually("the share has its cost", async || {
        let found = costs(&gateway).await;
        let [(Some(name), share), (None, rest)] = &found[..] else { return false };
        name == "crm" && *rest % 6.0 == 0.0 && *share == rest / 1.5
    })
    .await;
    // Half as much from now on: a reload counts for the hour in which it happens.
    let less = text.replace("usd_per_hour = 10.0", "usd_per_hour = 5.0");
    let less = spillway::config::Config::parse(&less, std::path::Path::new("c.toml"), &spillway::config::Secrets::default()).unwrap();
    let before: f64 = costs(&gateway).await.iter().map(|(_, usd)| usd).sum();
    gateway.running.reloader.replace(less).await.unwrap();
    eventually("the reload has changed it", async || costs(&gateway).await.iter().map(|(_, usd)| usd).sum::<f64>() < before).await;
}
