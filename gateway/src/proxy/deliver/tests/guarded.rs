//! Answers under guard.

use super::*;
use crate::proxy::delivery::Withheld;
use crate::proxy::fixtures::plain;

fn guarded(window: &str) -> String {
    format!("[plugins.guard]\nwords = [\"heron\"]\nanswers = true\nwindow = {window}\n")
}

async fn chat(rest: &str, text: &str, steps: Vec<Step>) -> Delivered {
    delivered(Setup { rest, ..Setup::default() }, Api::Chat, text, steps).await
}

fn answer(text: &str) -> String {
    format!(
        "{{\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}}}}],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":5}}}}"
    )
}

#[tokio::test]
async fn a_plain_answer_passes_whole_or_not_at_all() {
    let rest = guarded("5");
    let passed = chat(&rest, CHAT, plain(200, &answer("a crane"))).await;
    assert_eq!((passed.delivery.clone(), passed.got().text()), (Delivery::Complete, answer("a crane")));
    let blocked = chat(&rest, CHAT, plain(200, &answer("a heron"))).await;
    let Delivery::Blocked(Withheld::Found(finding)) = &blocked.delivery else { panic!("{:?}", blocked.delivery) };
    assert_eq!((finding.to_string().as_str(), blocked.got.is_none()), ("rule 'words'", true));
    assert_eq!(
        (blocked.usage(), blocked.ctx.metering.booked, blocked.closed),
        (used(3, 5), true, None),
        "it was made, and its target did as it should"
    );
}

#[tokio::test]
async fn only_those_who_are_guarded_are() {
    let mut own = delivered_after(
        Setup { rest: &guarded("5"), ..Setup::default() },
        Api::Chat,
        CHAT,
        plain(200, &answer("a heron")),
        Duration::ZERO,
        |_, facts| {
            facts.internal = true;
        },
    )
    .await;
    assert_eq!(own.delivery, Delivery::Complete);
    own = delivered(
        Setup { rest: "[plugins.guard]\nwords = [\"heron\"]\n", ..Setup::default() },
        Api::Chat,
        CHAT,
        plain(200, &answer("a heron")),
    )
    .await;
    assert_eq!(own.delivery, Delivery::Complete, "answers are not looked at");
}

#[tokio::test]
async fn a_stream_that_begins_with_what_may_not_pass_is_refused() {
    let blocked = chat(&guarded("50"), STREAM, events(&[&content("a her"), &content("on"), &stop(), DONE])).await;
    assert!(matches!(blocked.delivery, Delivery::Blocked(Withheld::Found(_))) && blocked.got.is_none(), "{:?}", blocked.delivery);
    assert!(blocked.ctx.metering.booked && blocked.answered, "its target did as it should");
}

#[tokio::test]
async fn a_stream_ends_before_what_may_not_pass_as_its_apis_own_filter_would_end_it() {
    let passes = content(&"all is well here and there ".repeat(4));
    let blocked = chat(&guarded("2"), STREAM, events(&[&passes, &content("a heron"), &content(" flies"), &stop(), DONE])).await;
    assert!(matches!(blocked.delivery, Delivery::Blocked(Withheld::Found(_))), "{:?}", blocked.delivery);
    let got = blocked.got();
    assert!(got.text().contains("all is well") && !got.text().contains("heron") && got.text().contains("content_filter"), "{}", got.text());
    assert_eq!((got.ended, got.text().ends_with(DONE)), (Ended::Whole, true));
}

#[tokio::test]
async fn a_stream_that_passes_loses_nothing() {
    let (one, two, last) = (content(&"all is well ".repeat(9)), content("here"), stop());
    let whole = chat(&guarded("2"), STREAM, events(&[&one, &two, &last, DONE])).await;
    assert_eq!((whole.delivery.clone(), whole.got().text()), (Delivery::Complete, format!("{one}{two}{last}{DONE}")));
}
