//! Refusals.

use std::time::Duration;

use spillway_plugins::api::{Api, Dialect};
use spillway_plugins::limits::{Counter, Remaining};

use super::*;
use crate::proxy::fixtures::{CHAT, Setup, context, facts, gateway, metric, post, session};

#[tokio::test]
async fn a_refusal_is_written_counted_and_noted() {
    let gateway = gateway("");
    let mut ctx = context(&gateway, facts(&gateway), Api::Chat, CHAT);
    let left = Counter { limit: 10, remaining: 3, reset: Duration::from_secs(6) };
    ctx.metering.remaining = Remaining { requests: Some(left), tokens: None };
    gateway.clock.pass(Duration::from_millis(8));
    ctx.timing.waited = Duration::from_millis(5);
    let (mut session, mut caller) = session(post("/v1/chat/completions", &[], "")).await;
    let refusal = Refusal::NoneAvailable { model: "m".to_owned(), retry_after: Some(Duration::from_secs(4)) };
    refuse(&gateway, &mut session, ctx.own_answer(), &refusal).await.unwrap();
    let got = caller.answer().await;
    assert_eq!((got.status, got.code().as_str()), (503, "no_backend_available"));
    assert_eq!((got.header("retry-after"), got.header("retry-after-ms")), (Some("4"), Some("4000")));
    assert_eq!((got.header("x-ratelimit-remaining-requests"), got.header("x-spillway-attempts")), (Some("3"), Some("0")));
    assert_eq!((got.header("x-spillway-overhead-us"), got.header("x-spillway-backend")), (Some("3000"), None));
    assert_eq!((ctx.reply.end, ctx.reply.status), (End::Refused("no_backend_available"), Some(503)));
    assert_eq!(ctx.reply.bytes_out, got.body.len());
    assert_eq!(
        (ctx.timing.first, metric(&gateway, "spillway_rejections_total{code=\"no_backend_available\"}")),
        (Some(Duration::from_millis(8)), 1.0)
    );
}

#[tokio::test]
async fn it_speaks_the_dialect_that_was_called_and_says_of_itself_only_what_it_may() {
    let gateway = Setup { server: "response_headers = false", ..Setup::default() }.gateway();
    let mut ctx = context(&gateway, facts(&gateway), Api::Messages, CHAT);
    ctx.facts.dialect = Dialect::Anthropic;
    let (mut session, mut caller) = session(post("/v1/messages", &[], "")).await;
    refuse(&gateway, &mut session, ctx.own_answer(), &Refusal::Unauthorized).await.unwrap();
    let got = caller.answer().await;
    assert_eq!(
        (got.status, &got.json()["error"]["type"], &got.json()["request_id"]),
        (401, &"authentication_error".into(), &"the-id".into())
    );
    assert_eq!((got.header("x-spillway-attempts"), got.header("x-request-id")), (None, Some("the-id")));
}
