//! What the gateway says of itself.

use std::time::Duration;

use spillway_plugins::api::Api;
use spillway_plugins::limits::{Counter, Remaining};

use super::*;
use crate::downstream::ReplyHead;
use crate::proxy::fixtures::{CHAT, Setup, context, facts};

fn field(head: &ReplyHead, name: &str) -> Option<String> {
    head.get(name).map(|value| String::from_utf8(value.to_vec()).unwrap())
}

/// Backend, attempts and time as a head says them, for a request that asked for a model or not.
fn described(server: &str, asked_for: bool, backend: Option<&str>) -> [Option<String>; 3] {
    let gateway = Setup { server, ..Setup::default() }.gateway();
    let mut ctx = context(&gateway, facts(&gateway), Api::Chat, CHAT);
    ctx.facts.asked_for = asked_for.then(|| "m".to_owned());
    ctx.timing.overhead = Some(Duration::from_micros(12));
    let mut head = ReplyHead::new(http::StatusCode::OK);
    describe(&ctx.facts, &ctx.timing, &ctx.copies, &mut head, backend, 2);
    ["x-spillway-backend", "x-spillway-attempts", "x-spillway-overhead-us"].map(|name| field(&head, name))
}

#[test]
fn a_head_says_where_its_answer_is_from_if_that_is_wanted() {
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(described("", true, Some("a")), [some("a"), some("2"), some("12")]);
    assert_eq!(described("", true, None), [None, some("2"), some("12")]);
    assert_eq!(described("", false, None), [None, None, None], "no model is asked for yet");
    assert_eq!(described("response_headers = false", true, Some("a")), [None, None, None]);
}

#[test]
fn an_answer_that_is_not_a_backends_has_rates_and_changes_like_any_other() {
    let pool = "transform = { response_headers = { set = { x-pool = \"1\" }, remove = [\"x-ratelimit-limit-tokens\"] } }";
    let gateway = Setup { pool, ..Setup::default() }.gateway();
    let mut ctx = context(&gateway, facts(&gateway), Api::Chat, CHAT);
    let asked = ctx.model_request.take().unwrap();
    let counter = |remaining| Some(Counter { limit: 10, remaining, reset: Duration::ZERO });
    ctx.metering.remaining = Remaining { requests: counter(4), tokens: counter(5) };
    let mut head = ReplyHead::new(http::StatusCode::OK);
    complete(&ctx.own_answer(), &asked, &mut head, "sorry", 3);
    let names = ["x-ratelimit-remaining-requests", "x-ratelimit-limit-tokens", "x-pool", "x-spillway-backend", "x-spillway-attempts"];
    assert_eq!(
        names.map(|name| field(&head, name)),
        [Some("4"), None, Some("1"), Some("sorry"), Some("3")].map(|text| text.map(str::to_owned))
    );
}
