//! Answers that have not come to their end.

use bytes::Bytes;
use spillway_plugins::tokens::Usage;

use super::*;

const TEXT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hello\"}}]}\n\n";
const STOP: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":3}}\n\n";

/// What is known of a stream of which so much came.
fn left(events: &[&'static str]) -> Metering {
    let mut watch = StreamWatch::new(Api::Chat, 1, false);
    events.iter().for_each(|event| drop(watch.feed(Bytes::from_static(event.as_bytes()))));
    let mut metering = Metering::default();
    AnswerReader::Stream(Box::new(watch)).end(&mut metering, Api::Chat);
    metering
}

#[test]
fn a_stream_that_was_finished_has_told_what_it_used_and_another_has_not() {
    let whole = left(&[TEXT, STOP]);
    let usage = Usage { input: 2, output: 3, ..Usage::default() };
    assert_eq!((whole.usage, whole.whole), (Some(Metered::reported(usage)), true));
    let cut = left(&[TEXT]);
    assert_eq!((cut.usage, cut.whole, cut.output.is_empty()), (None, false, false), "its text is measured");
}

#[test]
fn a_plain_answer_that_ends_early_tells_nothing() {
    let mut metering = Metering::default();
    let mut tap = Tap::of(None, None).unwrap();
    tap.push(b"{\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":3}");
    AnswerReader::Plain(tap).end(&mut metering, Api::Chat);
    assert!(metering.usage.is_none() && !metering.whole);
}
