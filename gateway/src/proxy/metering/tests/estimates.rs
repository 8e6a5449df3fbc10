//! What is booked where nobody reports.

use super::*;
use crate::config::DeploymentPrice;
use spillway_plugins::request::StreamOptions;

const ANSWER: &str = r#"{"choices":[{"message":{"role":"assistant","content":"hello there, how are you today?"}}]}"#;

/// The row of a whole answer, after this change to what is known of it.
async fn whole(text: &str, change: impl FnOnce(&mut Running)) -> (Value, Usage) {
    whole_on("", text, change).await
}

/// The same, with more in the config.
async fn whole_on(config: &str, text: &str, change: impl FnOnce(&mut Running)) -> (Value, Usage) {
    let (gateway, _folder) = accounted(config);
    let mut state = state(&gateway, Api::Chat, text).await;
    state.attempt.status = Some(http::StatusCode::OK);
    state.ctx.metering.whole = true;
    (state.ctx.metering.plain, state.ctx.metering.length) = (Some(ANSWER.into()), ANSWER.len() as u64);
    change(&mut state);
    let Running { mut ctx, asked, attempt } = state;
    let bound = usage_bound::of(&ctx.facts, &ctx.body, &asked);
    assert!(book_answer(&gateway, ctx.books(), &asked, &attempt, gateway.clock.now()).is_none());
    let rows = booked(&gateway).await;
    assert_eq!(rows.len(), 1);
    let tokens = |name: &str| rows[0][name].as_u64().unwrap();
    assert_eq!(taken(&gateway), tokens("input_tokens") + tokens("output_tokens"), "what is booked is what is taken");
    (rows[0].clone(), bound)
}

fn output(row: &Value) -> u64 {
    assert_eq!(row["source"], "estimated");
    row["output_tokens"].as_u64().unwrap()
}

#[tokio::test]
async fn an_answer_that_shows_all_of_its_text_is_estimated() {
    let (row, bound) = whole(CHAT, |_| ()).await;
    assert!((3..20).contains(&output(&row)) && output(&row) < bound.output, "{row}");
    assert!(row["input_tokens"].as_u64().is_some_and(|input| (1..=bound.input).contains(&input)), "{row}");
}

#[tokio::test]
async fn by_length_it_is_estimated_without_a_tokenizer() {
    let (row, bound) = whole_on("[usage]\nestimate = \"by-length\"\n", CHAT, |_| ()).await;
    assert_eq!((output(&row), &row["input_tokens"]), (ANSWER.len() as u64 / 4, &json!(bound.input)), "{row}");
    // What may hide some of its text is booked at its bound, however texts are counted.
    let reasons = |state: &mut Running| state.asked.fields.reasoning = Some(true);
    let (row, bound) = whole_on("[usage]\nestimate = \"by-length\"\n", CHAT, reasons).await;
    assert_eq!(output(&row), bound.output);
}

#[tokio::test]
async fn whatever_may_hide_some_of_it_is_booked_at_its_bound() {
    let (row, bound) = whole(CHAT, |state| state.ctx.metering.whole = false).await;
    assert_eq!((output(&row), &row["input_tokens"]), (bound.output, &json!(bound.input)), "it is not whole");
    let (row, bound) = whole(CHAT, |state| state.ctx.body.kept = None).await;
    assert_eq!(output(&row), bound.output, "its prompt is gone");
    let (row, bound) = whole(CHAT, |state| state.asked.fields.reasoning = Some(true)).await;
    assert_eq!(output(&row), bound.output, "thoughts are not shown");
    let (row, bound) = whole(CHAT, |state| {
        (state.asked.fields.stream, state.asked.fields.stream_options) = (true, StreamOptions::Odd);
    })
    .await;
    assert_eq!(output(&row), bound.output, "its usage may be hidden");
    let (row, bound) = whole(CHAT, |state| (state.ctx.metering.plain, state.ctx.body.input_bound) = (None, Some(77))).await;
    assert_eq!((output(&row), &row["input_tokens"]), (bound.output, &json!(77)), "there is no text");
}

#[tokio::test]
async fn more_than_the_bound_was_seen() {
    let capped = r#"{"model":"m","max_tokens":1,"messages":[]}"#;
    let long = format!("\"{}\"", "x".repeat(4000));
    let (row, bound) = whole(capped, |state| {
        state.ctx.metering.whole = false;
        (state.ctx.metering.length, state.ctx.metering.plain) = (long.len() as u64, Some(long.into()));
    })
    .await;
    assert_eq!((bound.output, output(&row)), (1, 1000), "a quarter of its bytes");
    // It was too long to be kept.
    let (row, _) = whole(capped, |state| (state.ctx.metering.plain, state.ctx.metering.length) = (None, 80_000)).await;
    assert_eq!(output(&row), 20_000);
}

#[tokio::test]
async fn an_answer_whose_caller_left_is_booked_by_what_was_read_on() {
    let (gateway, _folder) = accounted("");
    let estimate = async || {
        let Running { mut ctx, asked, mut attempt } = state(&gateway, Api::Chat, CHAT).await;
        attempt.status = Some(http::StatusCode::OK);
        ctx.reply.status = Some(200);
        let estimate = hand_over(&mut ctx.books(), &asked, &attempt, gateway.clock.now());
        assert!(ctx.metering.booked && ctx.metering.permit.is_none());
        (estimate, usage_bound::of(&ctx.facts, &ctx.body, &asked))
    };
    let (mut told, _) = estimate().await;
    let mut tap = spillway_plugins::tokens::AnswerUsage::default();
    tap.push(br#"{"usage":{"prompt_tokens":4,"completion_tokens":6}}"#);
    told.set_reported(tap.read().usage(told.api()));
    told.book(&gateway);
    let (mut untold, bound) = estimate().await;
    untold.has_read(OutputMeter::default(), Reported::default(), false);
    untold.book_by_length(&gateway);
    let rows = booked(&gateway).await;
    let booked: Vec<_> = rows
        .iter()
        .map(|row| (row["outcome"].as_str().unwrap(), row["source"].as_str().unwrap(), row["output_tokens"].as_u64().unwrap()))
        .collect();
    assert_eq!(booked, [("cancelled", "reported", 6), ("cancelled", "estimated", bound.output)]);
    assert_eq!(taken(&gateway), 10 + bound.input + bound.output);
}

#[test]
fn what_has_no_price_is_paid_as_the_dearest_that_has_one_or_not_known() {
    let gateway = fixtures::gateway("");
    let model = Arc::clone(gateway.runtime.load().model("m").unwrap());
    let usage = used(1_000_000, 1_000_000);
    let dollars = |count: u64| Cost::Known(Money(count * Money::USD.0));
    assert_eq!(Settled::Reported(usage).cost(model.members[0].price.as_ref(), None, None).0, dollars(11));
    assert_eq!(Settled::Reported(usage).cost(model.members[1].price.as_ref(), None, None).0, Cost::Unknown);
    let hourly = DeploymentPrice::Hourly(Some(Money(5)));
    assert_eq!(Settled::Bound(usage).cost(Some(&hourly), None, None).0, Cost::Hourly(Money(5)));
    assert_eq!(
        (Settled::Bound(usage).metered(), Settled::Reported(usage).metered()),
        (Metered::estimated(usage), Metered::reported(usage))
    );
}

#[tokio::test]
async fn one_half_that_was_reported_is_kept() {
    let half =
        |text: &'static str| move |state: &mut Running| state.ctx.metering.so_far = spillway_plugins::tokens::read_whole(text.as_bytes());
    let (row, _) = whole(CHAT, half(r#"{"usage":{"prompt_tokens":77}}"#)).await;
    assert!(row["input_tokens"] == 77 && (3..20).contains(&output(&row)), "{row}");
    let output_only = r#"{"usage":{"completion_tokens":33}}"#;
    let (row, _) = whole(CHAT, half(output_only)).await;
    assert_eq!(output(&row), 33);
    // Thoughts that aren't shown were counted, too.
    let (row, _) = whole(CHAT, |state| {
        half(output_only)(state);
        state.asked.fields.reasoning = Some(true);
    })
    .await;
    assert_eq!(output(&row), 33);
    let (row, bound) = whole(CHAT, |state| {
        half(output_only)(state);
        state.ctx.metering.whole = false;
    })
    .await;
    assert_eq!(output(&row), bound.output, "there may have been more");
}
