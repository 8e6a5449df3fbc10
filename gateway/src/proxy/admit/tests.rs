//! Room within limits.

use std::time::Duration;

use spillway_plugins::api::Api;
use spillway_plugins::limits::{Class, LimitKind};

use super::*;
use crate::proxy::fixtures::{CHAT, Setup, body, consumer, context, facts, facts_of, gateway, ledger_in, model_request};

/// Admits a chat with this body.
async fn admitted(gateway: &Gateway, facts: &Facts, body: &str) -> Result<Admitted, Refusal> {
    admit(gateway, facts, &model_request(gateway, Api::Chat, body), &mut Timing::default(), body.as_bytes(), body.len()).await
}

fn capped(tokens: u64) -> String {
    format!("{{\"model\":\"m\",\"max_tokens\":{tokens},\"messages\":[]}}")
}

fn status(admitted: &Result<Admitted, Refusal>) -> Option<(u16, &'static str)> {
    admitted.as_ref().err().map(|refusal| (refusal.shape().status.as_u16(), refusal.shape().code))
}

#[tokio::test]
async fn without_limits_nothing_is_reserved_and_nothing_is_counted() {
    let gateway = gateway(&consumer("one", ""));
    let facts = facts_of(&gateway, "one");
    let admitted = admitted(&gateway, &facts, CHAT).await.expect("there are no limits");
    assert!(admitted.permit.is_none() && admitted.remaining == Remaining::default());
    let mut ctx = context(&gateway, facts, Api::Chat, CHAT);
    ctx.body.input_bound = Some(7);
    admitted.reserve(&mut ctx.body, &mut ctx.metering);
    assert_eq!(ctx.body.input_bound, None);
}

#[tokio::test]
async fn what_a_request_may_need_is_reserved_until_it_is_settled() {
    let gateway = gateway(&consumer("one", "limits = { tokens_per_minute = 1000 }\nclass = \"interactive\""));
    let facts = facts_of(&gateway, "one");
    let body = capped(600);
    let input = usage_bound::input(&model_request(&gateway, Api::Chat, &body), body.as_bytes());
    let first = admitted(&gateway, &facts, &body).await.expect("there is room");
    let demand = *first.permit.as_ref().unwrap().demand();
    assert_eq!((demand.tokens, demand.cost, demand.class), (input + 600, Money::default(), Class::Interactive));
    assert_eq!((first.input_bound, first.remaining.tokens.unwrap().remaining), (Some(input), 1000 - input - 600));
    let second = admitted(&gateway, &facts, &body).await;
    assert_eq!(status(&second), Some((429, "rate_limit_exceeded")));
    let Err(Refusal::Limit(denied)) = second else { panic!("it is refused by a limit") };
    assert_eq!((denied.scope.as_str(), denied.id.kind, denied.limit, denied.too_large), ("consumer 'one'", LimitKind::Tokens, 1000, false));
    let mut ctx = context(&gateway, facts_of(&gateway, "one"), Api::Chat, &body);
    first.reserve(&mut ctx.body, &mut ctx.metering);
    assert_eq!((ctx.body.input_bound, ctx.metering.remaining.tokens.unwrap().limit), (Some(input), 1000));
    crate::proxy::metering::settle(&gateway, &ctx.facts, &mut ctx.metering);
    assert!(admitted(&gateway, &facts, &body).await.is_ok(), "what was not used is free again");
    assert_eq!(status(&admitted(&gateway, &facts, &capped(5000)).await), Some((429, "rate_limit_exceeded")));
}

#[tokio::test]
async fn money_is_reserved_at_the_dearest_member_where_there_is_a_budget() {
    let rest = consumer("rich", "limits = { budget = { usd = 1.0, period = \"day\" } }") + "[prices]\nunknown = \"free\"\n";
    let gateway = gateway(&rest);
    let facts = facts_of(&gateway, "rich");
    let body = capped(1000);
    let input = usage_bound::input(&model_request(&gateway, Api::Chat, &body), body.as_bytes());
    let first = admitted(&gateway, &facts, &body).await.expect("it can be paid");
    // A million tokens cost a dollar as input and ten as output; of the other member no price is known.
    assert_eq!(first.permit.as_ref().unwrap().demand().cost, Money((input + 10_000) * Money::USD.0 / 1_000_000));
    assert_eq!(status(&admitted(&gateway, &facts, &capped(100_000)).await), Some((403, "budget_exceeded")));
}

#[tokio::test]
async fn a_model_and_a_pool_have_limits_of_their_own() {
    let pool = "limits = { requests_per_minute = 2 }";
    let rest = consumer("one", "limits = { models = { n = { requests_per_minute = 1 } } }") + &consumer("two", "");
    let gateway = Setup { pool, rest: &rest, ..Setup::default() }.gateway();
    let n = r#"{"model":"n","messages":[]}"#;
    let mut held = Vec::new();
    held.push(admitted(&gateway, &facts_of(&gateway, "one"), n).await.ok().unwrap());
    let denied = admitted(&gateway, &facts_of(&gateway, "one"), n).await.err().unwrap();
    assert!(denied.to_string().contains("consumer 'one' with model 'n'"), "{denied}");
    held.push(admitted(&gateway, &facts_of(&gateway, "two"), n).await.ok().unwrap());
    let denied = admitted(&gateway, &facts(&gateway), CHAT).await.err().unwrap();
    assert!(denied.to_string().contains("pool 'pool'"), "callers without a name share the pool's: {denied}");
}

#[tokio::test]
async fn what_is_about_something_stored_and_what_is_a_file_needs_no_tokens_of_its_body() {
    let gateway = gateway(&consumer("one", "limits = { tokens_per_minute = 1000 }"));
    let facts = facts_of(&gateway, "one");
    let long = "x".repeat(100_000);
    let mut stored = model_request(&gateway, Api::Files, CHAT);
    stored.object = Some("files/f".to_owned());
    let free = admit(&gateway, &facts, &stored, &mut Timing::default(), long.as_bytes(), long.len()).await.expect("it asks no model");
    assert_eq!((free.permit.as_ref().unwrap().demand().tokens, free.input_bound), (0, None));
    let mut file = model_request(&gateway, Api::Transcriptions, CHAT);
    file.fields.max_tokens = Some(10);
    let form = admit(&gateway, &facts, &file, &mut Timing::default(), long.as_bytes(), long.len()).await.expect("a file is no text");
    assert_eq!((form.permit.as_ref().unwrap().demand().tokens, form.input_bound), (10, Some(0)));
}

#[tokio::test]
async fn nothing_is_served_unaccounted_where_the_ledger_is_required() {
    let folder = tempfile::tempdir().unwrap();
    for (required, expected) in [(true, Some((503, "ledger_unavailable"))), (false, None)] {
        let (server, _) = ledger_in(folder.path());
        let rest = format!("[ledger]\nrequired = {required}\n");
        let gateway = Setup { server: &server, rest: &rest, ..Setup::default() }.gateway();
        assert_eq!(status(&admitted(&gateway, &facts(&gateway), CHAT).await), None);
        gateway.ledger.as_ref().unwrap().fail();
        assert_eq!(status(&admitted(&gateway, &facts(&gateway), CHAT).await), expected);
    }
}

#[tokio::test]
async fn a_wait_for_room_is_a_wait_for_this_node_only() {
    let gateway = gateway(&consumer("one", "limits = { concurrent_requests = 1 }"));
    let facts = facts_of(&gateway, "one");
    let mut timing = Timing::default();
    let held = admit(&gateway, &facts, &model_request(&gateway, Api::Chat, CHAT), &mut timing, CHAT.as_bytes(), CHAT.len()).await.ok();
    assert_eq!(timing.waited, Duration::ZERO);
    assert_eq!(status(&admitted(&gateway, &facts, CHAT).await), Some((429, "rate_limit_exceeded")));
    drop(held);
    assert_eq!(body(&gateway, CHAT).bytes, CHAT.len());
    assert_eq!(status(&admitted(&gateway, &facts, CHAT).await), None, "its place is free again");
}
