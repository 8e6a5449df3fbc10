//! What a request used, booked.

mod estimates;

use serde_json::json;

use super::*;
use crate::attempt_outcome::AttemptOutcome;
use crate::balance::circuit::ErrorKind;
use crate::proxy::admit::admit;
use crate::proxy::ctx::RequestCtx;
use crate::proxy::fixtures::{self, CHAT, Setup, booked, consumer, context, facts_of, ledger_in};

/// A gateway with a ledger, its folder, and a consumer with a limit.
fn accounted(more: &str) -> (Gateway, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (server, table) = ledger_in(folder.path());
    let rest = consumer("one", "limits = { tokens_per_minute = 100000 }") + table + more;
    (Setup { server: &server, rest: &rest, ..Setup::default() }.gateway(), folder)
}

/// A request of the consumer's on its first attempt, admitted; the attempt has been sent.
struct Running {
    ctx: RequestCtx,
    asked: ModelRequest,
    attempt: AttemptState,
}

async fn state(gateway: &Gateway, api: Api, text: &str) -> Running {
    let mut ctx = context(gateway, facts_of(gateway, "one"), api, text);
    let asked = ctx.model_request.take().unwrap();
    let admitted = admit(gateway, &ctx.facts, &asked, &mut ctx.timing, text.as_bytes(), text.len()).await.expect("there is room");
    admitted.reserve(&mut ctx.body, &mut ctx.metering);
    let mut state = fixtures::retry_state(&ctx.facts, &asked);
    let mut attempt = fixtures::attempt(gateway, &ctx.facts, &mut ctx.attempts, &asked, &mut state).state;
    attempt.sent = true;
    Running { ctx, asked: *asked, attempt }
}

/// Tokens of the consumer's limit that are taken.
fn taken(gateway: &Gateway) -> u64 {
    let scope = gateway.limits.all().into_iter().find(|scope| scope.name == "consumer 'one'").unwrap();
    100_000 - scope.remaining(None, gateway.limits.now()).tokens.unwrap().remaining
}

fn used(input: u64, output: u64) -> Usage {
    Usage { input, output, ..Usage::default() }
}

#[tokio::test]
async fn a_whole_answer_is_booked_as_reported_and_what_was_reserved_is_settled() {
    let (gateway, _folder) = accounted("");
    let Running { mut ctx, asked, mut attempt } = state(&gateway, Api::Chat, CHAT).await;
    assert!(taken(&gateway) > 1000, "so much was reserved");
    attempt.status = Some(http::StatusCode::OK);
    ctx.metering.usage = Some(Metered::reported(used(3, 5)));
    gateway.clock.pass(std::time::Duration::from_micros(250));
    assert!(book_answer(&gateway, ctx.books(), &asked, &attempt, gateway.clock.now()).is_none(), "nobody waits for it");
    assert!(ctx.metering.booked && ctx.metering.permit.is_none());
    assert_eq!(taken(&gateway), 8);
    // Whatever comes later is not booked again.
    assert!(book_answer(&gateway, ctx.books(), &asked, &attempt, gateway.clock.now()).is_none());
    book_attempt(&gateway, &mut ctx.books(), &asked, &attempt, AttemptOutcome::Ok);
    let rows = booked(&gateway).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    let row = &rows[0];
    let told = ["request", "consumer", "model", "pool", "backend", "outcome", "source"].map(|name| row[name].as_str().unwrap_or("?"));
    assert_eq!(told, ["the-id", "one", "m", "pool", "a", "ok", "reported"], "{row}");
    assert_eq!((&row["input_tokens"], &row["output_tokens"], &row["status"], &row["us"]), (&json!(3), &json!(5), &json!(200), &json!(250)));
    let paid = row["cost_usd"].as_f64().or_else(|| row["cost_usd"].as_str()?.parse().ok()).unwrap();
    assert!((paid - 53e-6).abs() < 1e-12, "three tokens at a dollar and five at ten, of a million: {row}");
}

#[tokio::test]
async fn what_asks_no_model_and_what_is_free_is_not_booked() {
    let (gateway, _folder) = accounted("");
    let Running { mut ctx, mut asked, attempt } = state(&gateway, Api::Chat, CHAT).await;
    asked.object = Some("files/f".to_owned());
    assert!(book_answer(&gateway, ctx.books(), &asked, &attempt, gateway.clock.now()).is_none());
    ctx.metering.booked = false;
    (asked.object, asked.part) = (None, Some(spillway_plugins::api::Part::CountTokens));
    assert!(book_answer(&gateway, ctx.books(), &asked, &attempt, gateway.clock.now()).is_none());
    ctx.metering.booked = false;
    book_attempt(&gateway, &mut ctx.books(), &asked, &attempt, AttemptOutcome::Cancelled);
    assert_eq!(booked(&gateway).await.len(), 0);
    settle(&gateway, &ctx.facts, &mut ctx.metering);
    assert_eq!((taken(&gateway), ctx.metering.permit.is_none()), (0, true), "what is still reserved was not used");
}

#[tokio::test]
async fn a_strict_ledger_has_the_row_before_the_answer_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _) = ledger_in(folder.path());
    let rest = consumer("one", "limits = { tokens_per_minute = 100000 }") + "[ledger]\ndurability = \"strict\"\n";
    let gateway = Setup { server: &server, rest: &rest, ..Setup::default() }.gateway();
    let Running { mut ctx, asked, mut attempt } = state(&gateway, Api::Chat, CHAT).await;
    attempt.status = Some(http::StatusCode::OK);
    ctx.metering.whole = true;
    ctx.metering.plain = Some(r#"{"choices":[{"message":{"content":"hello there"}}]}"#.into());
    book_answer(&gateway, ctx.books(), &asked, &attempt, gateway.clock.now()).expect("the row is waited for").await;
    let mut rows = Vec::new();
    crate::ledger::export::export(folder.path(), 0, i64::MAX >> 20, crate::ledger::export::Format::JsonLines, &mut rows).unwrap();
    let row: Value = serde_json::from_slice(&rows).unwrap();
    assert_eq!((&row["source"], &row["outcome"]), (&json!("estimated"), &json!("ok")));
    let estimated = ctx.metering.usage.unwrap();
    assert_eq!((&row["output_tokens"], taken(&gateway)), (&json!(estimated.usage.output), estimated.usage.tokens()));
}

/// The row of an attempt that ends like this, if it is booked; and the state that it leaves.
async fn fail_over(
    status: Option<u16>,
    sent: bool,
    outcome: AttemptOutcome,
    change: impl Fn(&mut Running),
) -> (Option<Value>, RequestCtx, u64) {
    let (gateway, _folder) = accounted("");
    let mut state = state(&gateway, Api::Chat, CHAT).await;
    state.attempt.status = status.map(|status| http::StatusCode::from_u16(status).unwrap());
    state.attempt.sent = sent;
    change(&mut state);
    let Running { mut ctx, asked, attempt } = state;
    book_attempt(&gateway, &mut ctx.books(), &asked, &attempt, outcome);
    let rows = booked(&gateway).await;
    assert!(rows.len() <= 1, "{rows:?}");
    (rows.first().cloned(), ctx, taken(&gateway))
}

#[tokio::test]
async fn only_an_attempt_that_may_have_cost_something_is_booked() {
    let timeout = AttemptOutcome::Broken(ErrorKind::Timeout);
    for (status, sent, outcome, expected) in [
        (None, true, timeout, true),
        (None, false, timeout, false),
        (None, true, AttemptOutcome::Broken(ErrorKind::Connect), false),
        (Some(200), true, AttemptOutcome::Broken(ErrorKind::Reset), true),
        (Some(200), true, AttemptOutcome::Failed, true),
        (Some(500), true, AttemptOutcome::Failed, false),
        (Some(429), true, AttemptOutcome::Throttled, false),
        (Some(400), true, AttemptOutcome::CallerFault, false),
        (None, true, AttemptOutcome::Cancelled, true),
        (None, false, AttemptOutcome::Cancelled, false),
    ] {
        let (row, ..) = fail_over(status, sent, outcome, |_| ()).await;
        assert_eq!(row.is_some(), expected, "{status:?} {sent} {outcome:?}");
        if let Some(row) = row {
            assert_eq!((row["outcome"].as_str(), row["source"].as_str()), (Some(outcome.label()), Some("estimated")));
        }
    }
    let (row, ..) = fail_over(Some(400), true, AttemptOutcome::CallerFault, |state| state.attempt.filtered = true).await;
    let row = row.expect("a filter that stopped the prompt has read it");
    assert_eq!((&row["output_tokens"], row["input_tokens"].as_u64().is_some_and(|input| input > 0)), (&json!(0), true));
}

#[tokio::test]
async fn what_was_reserved_stays_so_for_the_next_attempt_of_the_request() {
    let (row, ctx, taken) = fail_over(None, true, AttemptOutcome::Broken(ErrorKind::Timeout), |state| {
        state.ctx.metering.usage = Some(Metered::reported(used(3, 5)));
        state.ctx.metering.whole = true;
    })
    .await;
    let row = row.expect("it told what it used");
    assert_eq!((&row["source"], &row["output_tokens"]), (&json!("reported"), &json!(5)));
    assert!(ctx.metering.permit.is_some() && !ctx.metering.booked && taken > 1000, "{taken}");
    assert!(ctx.metering.usage.is_none() && !ctx.metering.whole, "what it told is nothing of the next one");
}

#[tokio::test]
async fn what_the_caller_has_a_part_of_is_settled() {
    let (row, ctx, taken) = fail_over(Some(200), true, AttemptOutcome::Broken(ErrorKind::Reset), |state| {
        state.ctx.reply.status = Some(200);
        state.ctx.metering.usage = Some(Metered::reported(used(3, 5)));
    })
    .await;
    assert!(row.is_some() && ctx.metering.booked && ctx.metering.permit.is_none());
    assert_eq!(taken, 8);
}

#[tokio::test]
async fn a_request_whose_caller_left_is_settled_though_nothing_was_answered() {
    let (row, ctx, taken) = fail_over(None, true, AttemptOutcome::Cancelled, |_| ()).await;
    let row = row.expect("it may have cost something");
    assert!(ctx.metering.booked && ctx.metering.permit.is_none(), "there is no next attempt");
    let tokens = |name: &str| row[name].as_u64().unwrap();
    assert_eq!(taken, tokens("input_tokens") + tokens("output_tokens"));
}

#[tokio::test]
async fn a_part_that_another_answer_continues_is_not_what_the_caller_gets() {
    let (gateway, _folder) = accounted("");
    let Running { mut ctx, asked, mut attempt } = state(&gateway, Api::Chat, CHAT).await;
    attempt.status = Some(http::StatusCode::OK);
    ctx.reply.status = Some(200);
    ctx.unfinished.rescue = Some(crate::proxy::unfinished::Rescue::Begins);
    book_attempt(&gateway, &mut ctx.books(), &asked, &attempt, AttemptOutcome::Broken(ErrorKind::Reset));
    assert!(!ctx.metering.booked && ctx.metering.permit.is_some());
    let rows = booked(&gateway).await;
    assert!(matches!(&rows[0]["answered"], Value::Bool(false) | Value::Number(_)) && rows[0]["answered"] != json!(1), "{rows:?}");
}

#[tokio::test]
async fn turns_of_a_socket_are_booked_one_by_one() {
    let (gateway, _folder) = accounted("");
    let Running { mut ctx, mut asked, attempt } = state(&gateway, Api::Chat, CHAT).await;
    asked.api = Api::Realtime;
    let bound = usage_bound::of(&ctx.facts, &ctx.body, &asked);
    book_turn(&gateway, &mut ctx.books(), &asked, &attempt, Some(used(10, 20)));
    book_turn(&gateway, &mut ctx.books(), &asked, &attempt, None);
    book_unsettled(&gateway, &mut ctx.books(), &asked, &attempt, 2);
    book_unsettled(&gateway, &mut ctx.books(), &asked, &attempt, 0);
    book_attempt(&gateway, &mut ctx.books(), &asked, &attempt, AttemptOutcome::Ok);
    let rows = booked(&gateway).await;
    let told: Vec<_> = rows.iter().map(|row| (row["source"].as_str().unwrap(), row["output_tokens"].as_u64().unwrap())).collect();
    assert_eq!(told, [("reported", 20), ("estimated", bound.output), ("estimated", bound.output * 2)]);
    assert!(ctx.metering.permit.is_some(), "the socket goes on");
    assert_eq!(ctx.metering.usage.unwrap().usage.output, 20 + bound.output * 3);
}

#[tokio::test]
async fn what_no_member_was_asked_for_costs_nothing_and_was_a_request() {
    let (gateway, _folder) = accounted("");
    let Running { mut ctx, asked, .. } = state(&gateway, Api::Chat, CHAT).await;
    book_cached(&gateway, ctx.books(), &asked, "exact").await;
    assert!(ctx.metering.booked && ctx.metering.permit.is_none());
    let Running { mut ctx, asked, .. } = state(&gateway, Api::Chat, CHAT).await;
    book_judged(&gateway, ctx.books(), &asked, "blocked").await;
    assert_eq!(taken(&gateway), 0);
    let rows = booked(&gateway).await;
    let told: Vec<_> = rows.iter().map(|row| (&row["outcome"], &row["cache"], &row["input_tokens"], &row["attempt"])).collect();
    assert_eq!(told, [(&json!("ok"), &json!("exact"), &json!(0), &json!(1)), (&json!("blocked"), &Value::Null, &json!(0), &json!(1))]);
}

#[test]
fn tags_are_those_of_the_config_and_not_of_any_length() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _) = ledger_in(folder.path());
    let rest = "[ledger]\ntags = [\"x-team\", \"x-app\"]\n";
    let gateway = Setup { server: &server, rest, ..Setup::default() }.gateway();
    let rules = &gateway.runtime.load().config.usage;
    let mut headers = http::HeaderMap::new();
    assert_eq!(tags(rules, &headers), None);
    headers.insert("x-team", http::HeaderValue::from_str(&"t".repeat(100)).unwrap());
    headers.insert("x-other", "o".parse().unwrap());
    let told: Value = serde_json::from_str(&tags(rules, &headers).unwrap()).unwrap();
    assert_eq!(told, json!({ "x-team": "t".repeat(TAG) }));
}
