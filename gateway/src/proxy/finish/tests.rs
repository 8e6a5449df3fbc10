//! The end of a request.

use std::time::Duration;

use super::*;
use crate::proxy::fixtures::{CHAT, Setup, attempt, consumer, context, facts, facts_of, gateway, metric, post, retry_state, session};
use crate::request::End;

#[tokio::test]
async fn a_request_is_counted_timed_and_remembered() {
    let gateway = gateway(&consumer("one", ""));
    let mut ctx = context(&gateway, facts_of(&gateway, "one"), Api::Chat, CHAT);
    let asked = ctx.model_request.take().unwrap();
    let mut state = retry_state(&ctx.facts, &asked);
    let tried = attempt(&gateway, &ctx.facts, &mut ctx.attempts, &asked, &mut state);
    gateway.clock.pass(Duration::from_micros(700));
    tried.finish(&mut ctx.books(), crate::attempt_outcome::AttemptOutcome::Throttled);
    ctx.model_request = Some(asked);
    (ctx.reply.status, ctx.reply.end) = (Some(429), End::Refused("rate_limit_exceeded"));
    gateway.clock.pass(Duration::from_micros(300));
    let (session, _caller) = session(post("/v1/chat/completions", &[], "")).await;
    finish(&gateway, &session, &mut ctx);
    let known = gateway.recent.find("the-id").expect("it is remembered");
    let told = (known.api, known.model.as_deref(), known.pool.as_deref(), known.consumer.as_deref());
    assert_eq!(told, ("chat", Some("m"), Some("pool"), Some("one")));
    assert_eq!(
        (known.status, known.end, known.code, known.us),
        (429, End::Refused("rate_limit_exceeded"), Some("rate_limit_exceeded"), 1000)
    );
    let tried = &known.attempts[0];
    assert_eq!((&*tried.backend, tried.outcome, tried.priority, tried.us), ("a", "throttled", 1, 700));
    assert_eq!(metric(&gateway, "spillway_requests_total{api=\"chat\",pool=\"pool\",status=\"429\"}"), 1.0);
}

#[tokio::test]
async fn a_request_that_came_to_no_model_is_counted_apart_and_a_caller_that_left_has_no_status() {
    let gateway = Setup::default().gateway();
    let mut ctx = context(&gateway, facts(&gateway), Api::Chat, CHAT);
    ctx.model_request = None;
    let (session, _caller) = session(post("/v1/chat/completions", &[], "")).await;
    finish(&gateway, &session, &mut ctx);
    let known = gateway.recent.find("the-id").expect("it is remembered");
    assert_eq!((known.status, known.end, known.model), (499, End::CallerLeft, None));
    assert_eq!(metric(&gateway, "spillway_requests_total{api=\"none\",pool=\"none\",status=\"499\"}"), 1.0);
}

#[tokio::test]
async fn what_the_gateway_asks_for_itself_is_no_recent_request() {
    let gateway = Setup::default().gateway();
    let mut ctx = context(&gateway, facts(&gateway), Api::Chat, CHAT);
    ctx.facts.internal = true;
    let (session, _caller) = session(post("/v1/chat/completions", &[], "")).await;
    finish(&gateway, &session, &mut ctx);
    assert!(gateway.recent.find("the-id").is_none());
}

#[tokio::test]
async fn a_line_tells_all_but_prompt_and_answer() {
    let gateway = Setup::default().gateway();
    let mut ctx = context(&gateway, facts(&gateway), Api::Chat, CHAT);
    let asked = ctx.model_request.take().unwrap();
    let mut state = retry_state(&ctx.facts, &asked);
    let mut tried = attempt(&gateway, &ctx.facts, &mut ctx.attempts, &asked, &mut state);
    tried.state.said = Some("the server is on fire".into());
    tried.finish(&mut ctx.books(), crate::attempt_outcome::AttemptOutcome::Failed);
    ctx.reply.bytes_out = 17;
    let (session, _caller) = session(post("/v1/chat/completions", &[], "")).await;
    let over = FinishedRequest {
        session: &session,
        facts: &ctx.facts,
        model_request: Some(&asked),
        attempts: &ctx.attempts.records,
        timing: &ctx.timing,
        reply: &ctx.reply,
        service_tier: None,
        usage: None,
        cache: Some("miss"),
        bytes_in: CHAT.len(),
        status: 502,
        took: Duration::from_micros(9),
        overhead: Duration::from_micros(4),
    };
    let line = serde_json::to_value(line(&over)).unwrap();
    let expected = serde_json::json!({
        "time": "2026-11-10T12:00:00.000Z", "id": "the-id", "consumer": null, "method": "POST", "api": "chat", "model": "m", "pool": "pool",
        "status": 502, "end": "caller_left", "code": null, "stream": false, "cache": "miss",
        "attempts": [{ "backend": "a", "deployment": "m", "outcome": "failed", "status": null, "us": 0, "said": "the server is on fire" }],
        "usage": null, "bytes_in": CHAT.len(), "bytes_out": 17, "first_us": null, "us": 9, "overhead_us": 4,
    });
    assert_eq!(line, expected);
}
