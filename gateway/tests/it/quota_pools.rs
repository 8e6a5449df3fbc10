//! Members that share a quota: a 429 of one about the quota closes them all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use spillway::clock::Clock;
use spillway::mock::{server as mock, settings::Settings};
use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::{self, post};

use crate::support::*;

/// A pool for the model `m`; each member has a tier, and the rest of its table.
fn pool_of(members: &[(Member<'_>, &str)], rest: &str) -> String {
    let plain: Vec<Member<'_>> = members.iter().map(|(m, _)| member(m.name, m.backend, m.priority)).collect();
    let mut text = config(&plain, "", rest).replace("\"m\", \"gpt-4o\", \"text-embedding-3-small\"", "\"m\"");
    for (member, more) in members {
        let line = format!("backend = \"{}\", priority = {}", member.name, member.priority);
        text = text.replace(&line, &format!("{line}{more}"));
    }
    text
}

const SHARED: &str = ", quota_pool = \"corp\"";

fn rate_limited() -> Reply {
    let message = "Requests have exceeded token rate limit of your current OpenAI S0 pricing tier. Please retry after 60 seconds.";
    Reply::json(429, json!({ "error": { "code": "429", "message": message } }).to_string()).header("retry-after", "60")
}

fn busy() -> Reply {
    let message = "The system is currently experiencing high demand and cannot process your request.";
    Reply::json(429, json!({ "error": { "code": "429", "message": message } }).to_string()).header("retry-after", "60")
}

async fn fine() -> ScriptedBackend {
    ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await
}

#[tokio::test]
async fn one_429_about_the_quota_closes_its_members_and_says_so() {
    let (a, b, other) = (ScriptedBackend::start(|_| rate_limited()).await, fine().await, fine().await);
    let members = [(member("a", &a, 1), SHARED), (member("b", &b, 2), SHARED), (member("other", &other, 3), "")];
    let gateway = Gateway::start(&pool_of(&members, "")).await;
    let got = gateway.chat().await;
    assert_eq!((got.status, got.header("x-spillway-backend")), (200, Some("other")));
    let id = got.header("x-request-id").unwrap().to_owned();
    assert_eq!(gateway.chat().await.header("x-spillway-backend"), Some("other"));
    assert_eq!((a.count(), b.count(), other.count()), (1, 0, 2));
    assert_eq!(
        (gateway.state("a").await, gateway.state("b").await, gateway.state("other").await),
        ("throttled".into(), "quota-pool".into(), "ready".into())
    );
    let metric = "spillway_target_state{backend=\"b\",deployment=\"m\",pool=\"pool\",state=\"quota-pool\"}";
    assert_eq!(gateway.metric(metric).await, 1.0);
    let status = gateway.admin("/api/status").await.json();
    let shown = &status["quota_pools"][0];
    assert_eq!((&shown["name"], &shown["members"]), (&json!("corp"), &json!(["a/m", "b/m"])));
    assert!((50_000..=60_000).contains(&shown["opens_in_ms"].as_u64().unwrap()), "{shown}");
    let b = &status["pools"][0]["tiers"][1]["members"][0];
    assert_eq!((&b["quota_pool"], &b["state"]), (&json!("corp"), &json!("quota-pool")));
    assert!(b["why"].as_str().unwrap().starts_with("another member of its quota pool answered 429"), "{b}");
    let explained = gateway.admin(&format!("/api/requests/{id}")).await.json();
    let skipped: Vec<&Value> = explained["passed_over"].as_array().unwrap().iter().filter(|skipped| skipped["backend"] == "b").collect();
    assert!(skipped.len() == 1 && skipped[0]["state"] == "quota-pool", "{explained}");
    // A reset opens the pool.
    let reset = client::ask(gateway.running.admin, post("/api/reset?backend=b", &[], b"")).await.unwrap();
    assert_eq!(reset.status, 200);
    assert_eq!(gateway.chat().await.header("x-spillway-backend"), Some("b"));
}

#[tokio::test]
async fn a_429_about_the_deployment_closes_only_that() {
    let (a, b) = (ScriptedBackend::start(|_| busy()).await, fine().await);
    let gateway = Gateway::start(&pool_of(&[(member("a", &a, 1), SHARED), (member("b", &b, 2), SHARED)], "")).await;
    assert_eq!(gateway.chat().await.header("x-spillway-backend"), Some("b"));
    assert_eq!((gateway.state("a").await, gateway.state("b").await), ("throttled".into(), "ready".into()));
}

#[tokio::test]
async fn without_a_label_members_are_on_their_own() {
    for label in ["", ", quota_pool = \"own\""] {
        let (a, b) = (ScriptedBackend::start(|_| rate_limited()).await, fine().await);
        let gateway = Gateway::start(&pool_of(&[(member("a", &a, 1), label), (member("b", &b, 2), label)], "")).await;
        assert_eq!(gateway.chat().await.header("x-spillway-backend"), Some("b"), "{label}");
    }
}

#[tokio::test]
async fn when_all_share_it_the_caller_gets_its_time() {
    let (a, b) = (ScriptedBackend::start(|_| rate_limited()).await, fine().await);
    let gateway = Gateway::start(&pool_of(&[(member("a", &a, 1), SHARED), (member("b", &b, 2), SHARED)], "")).await;
    let got = gateway.chat().await;
    assert_eq!((got.status, got.code().as_str(), got.header("retry-after")), (429, "rate_limit_exceeded", Some("60")));
    assert_eq!(b.count(), 0);
}

#[tokio::test]
async fn one_consumer_alone_closes_it_for_itself() {
    let a = ScriptedBackend::start(|request| {
        if String::from_utf8_lossy(&request.body).contains("hostile") { rate_limited() } else { Reply::json(200, answer("x")) }
    })
    .await;
    let b = fine().await;
    let rest = consumer("hostile", "") + &consumer("ordinary", "");
    let gateway = Gateway::start(&pool_of(&[(member("a", &a, 1), SHARED), (member("b", &b, 2), SHARED)], &rest)).await;
    let ask = async |who: &str| {
        let body = json!({ "model": "m", "messages": [{ "role": "user", "content": who }] });
        let got = ask_as(gateway.address, who, &body).await;
        (got.status, got.header("x-spillway-backend").map(str::to_owned))
    };
    assert_eq!(ask("ordinary").await, (200, Some("a".into())));
    for _ in 0..3 {
        assert_eq!(ask("hostile").await.0, 429, "the quota is closed for it");
        assert_eq!(ask("ordinary").await, (200, Some("a".into())));
    }
    assert_eq!(b.count(), 0);
}

#[tokio::test]
async fn it_survives_a_reload_and_goes_with_its_label() {
    let full = Arc::new(AtomicBool::new(true));
    let said = Arc::clone(&full);
    let a = ScriptedBackend::start(move |_| if said.load(Ordering::SeqCst) { rate_limited() } else { Reply::json(200, answer("a")) }).await;
    let (b, other) = (fine().await, fine().await);
    let text = |label: &str, weight: u32| {
        let more = format!("{label}, weight = {weight}");
        let members = [(member("a", &a, 1), label), (member("b", &b, 2), &more), (member("other", &other, 3), "")];
        pool_of(&members, "").replace("#server", "watch = false")
    };
    let process = Process::launch(&text(SHARED, 1), &[]).await;
    assert_eq!(process.chat().await.header("x-spillway-backend"), Some("other"));
    let reload = async |text: &str| {
        process.write_config(text);
        let answer = client::ask(process.admin, post("/api/reload", &[], b"")).await.unwrap();
        assert_eq!((answer.status, answer.json()["result"].as_str()), (200, Some("applied")), "{}", answer.text());
    };
    reload(&text(SHARED, 2)).await;
    assert_eq!((process.state("b").await.as_str(), process.chat().await.header("x-spillway-backend")), ("quota-pool", Some("other")));
    reload(&text("", 2)).await;
    assert_eq!((process.state("b").await.as_str(), process.chat().await.header("x-spillway-backend")), ("ready", Some("b")));
}

#[tokio::test]
async fn the_next_process_knows_what_is_closed() {
    let (a, b, other) = (ScriptedBackend::start(|_| rate_limited()).await, fine().await, fine().await);
    let members = [(member("a", &a, 1), SHARED), (member("b", &b, 2), SHARED), (member("other", &other, 3), "")];
    let process = Process::launch(&pool_of(&members, ""), &[]).await;
    assert_eq!(process.chat().await.header("x-spillway-backend"), Some("other"));
    process.upgrade().await;
    assert_eq!(process.chat().await.header("x-spillway-backend"), Some("other"));
    assert_eq!((process.state("b").await.as_str(), a.count(), b.count()), ("quota-pool", 1, 0));
}

/// Thirty deployments of one mock in five quotas, one of them small: one refusal for it, and the others serve the rest.
#[tokio::test]
async fn thirty_members_in_five_quotas_of_a_mock() {
    let mut settings = "listen = \"127.0.0.1:0\"\n".to_owned();
    for number in 0..30 {
        let (quota, tpm) = (number / 6, if number < 6 { 1_000 } else { 1_000_000 });
        settings += &format!("[[deployments]]\nname = \"d{number}\"\nquota_pool = \"q{quota}\"\ntpm = {tpm}\n");
    }
    let (mock, address, _task) = mock::start(Settings::parse(&settings).unwrap(), Clock::new()).await.unwrap();
    let mut text = "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n".to_owned();
    let mut members = String::new();
    for number in 0..30 {
        text += &format!("[[backends]]\nname = \"b{number}\"\nkind = \"azure-openai\"\nurl = \"http://{address}\"\n");
        text += &format!("deployments = {{ m = \"d{number}\" }}\n");
        members += &format!("{{ backend = \"b{number}\", quota_pool = \"q{}\" }},\n", number / 6);
    }
    text += &format!("[[pools]]\nname = \"pool\"\nmodels = [\"m\"]\nmembers = [\n{members}]\n[log]\naccess = \"off\"\n");
    let gateway = Gateway::start(&text).await;
    let asked = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }], "max_completion_tokens": 50 });
    for _ in 0..150 {
        assert_eq!(gateway.post("/v1/chat/completions", &asked).await.status, 200);
    }
    assert_eq!(mock.served.load(Ordering::Relaxed), 150);
    // One for each minute in which it ran; six without labels.
    assert!((1..=2).contains(&mock.refused.load(Ordering::Relaxed)));
    let status = gateway.admin("/api/status").await.json();
    let closed: Vec<&Value> = status["quota_pools"].as_array().unwrap().iter().filter(|pool| !pool["opens_in_ms"].is_null()).collect();
    assert!(closed.len() == 1 && closed[0]["name"] == "q0" && closed[0]["members"].as_array().unwrap().len() == 6, "{status}");
}
