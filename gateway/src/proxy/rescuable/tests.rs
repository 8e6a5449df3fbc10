//! Streams that may be continued.

use spillway_plugins::stream::StreamWatch;

use super::*;
use crate::proxy::fixtures::{STREAM, Setup, body, model_request};
use crate::proxy::unfinished::Rescue;

const RESCUE: &str = "streams = { rescue = \"verified\", rescue_max = \"1KiB\" }";

fn rescuing(server: &str) -> Gateway {
    Setup { server, pool: RESCUE, ..Setup::default() }.gateway()
}

/// How a stream with this change may be continued.
fn kind(gateway: &Gateway, api: Api, change: impl FnOnce(&mut ModelRequest, &mut RequestBody, &mut Unfinished)) -> &'static str {
    let (mut asked, mut body, mut unfinished) = (model_request(gateway, api, STREAM), body(gateway, STREAM), Unfinished::default());
    change(&mut asked, &mut body, &mut unfinished);
    match Rescuable::new(gateway, &body, &unfinished, &asked) {
        Some(Rescuable::Again(_)) => "again",
        Some(Rescuable::Same(None)) => "same",
        Some(Rescuable::Same(Some(_))) => "same, and known",
        None => "not",
    }
}

#[test]
fn it_depends_on_what_is_asked_and_on_what_can_be_asked_again() {
    let gateway = rescuing("");
    assert_eq!(kind(&Setup::default().gateway(), Api::Chat, |_, _, _| ()), "not", "it is no default");
    assert_eq!(kind(&gateway, Api::Chat, |_, _, _| ()), "again");
    assert_eq!(kind(&gateway, Api::Chat, |_, _, unfinished| unfinished.rescue = Some(Rescue::Tried)), "not", "once a request");
    assert_eq!(kind(&gateway, Api::Chat, |_, body, _| body.kept = None), "not");
    assert_eq!(kind(&gateway, Api::Chat, |asked, _, _| asked.elsewhere = Some(vec![1])), "not", "nobody else has it");
    assert_eq!(kind(&gateway, Api::Chat, |asked, _, _| asked.sealed = true), "not");
    assert_eq!(kind(&gateway, Api::Responses, |asked, _, _| asked.object = Some("responses/r".to_owned())), "not");
    assert_eq!(kind(&gateway, Api::Responses, |asked, _, _| asked.stores = true), "not", "it would have another name");
    assert_eq!(kind(&gateway, Api::Responses, |_, _, _| ()), "again");
    let background = |asked: &mut ModelRequest, _: &mut RequestBody, _: &mut Unfinished| {
        (asked.stores, asked.fields.references.background) = (true, true);
    };
    assert_eq!(kind(&gateway, Api::Responses, background), "same");
    assert_eq!(kind(&gateway, Api::Speech, |_, _, _| ()), "not");
}

fn chunk(text: &str) -> Bytes {
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n").into()
}

#[test]
fn what_was_sent_is_kept_as_far_as_there_is_room() {
    let gateway = rescuing("");
    let asked = model_request(&gateway, Api::Chat, STREAM);
    let mut rescuable = Rescuable::new(&gateway, &body(&gateway, STREAM), &Unfinished::default(), &asked).unwrap();
    let state = StreamState::default();
    assert!(rescuable.push(&chunk("hello"), &state));
    assert!(gateway.metrics.buffered.get() > 0, "it takes its share");
    let due = rescuable.continuation().expect("it can be continued");
    assert!(matches!(due.continuation, Continuation::Again(_)));
    drop(due);
    assert_eq!(gateway.metrics.buffered.get(), 0);
    let full = rescuing("max_body = \"200B\"\nmax_buffered = \"200B\"");
    let asked = model_request(&full, Api::Chat, STREAM);
    let mut rescuable = Rescuable::new(&full, &body(&full, STREAM), &Unfinished::default(), &asked).unwrap();
    assert!(!rescuable.push(&chunk(&"x".repeat(300)), &state));
}

#[test]
fn the_rest_of_a_response_is_asked_for_behind_the_last_event_that_was_sent() {
    let created = "data: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_1\"}}\n\n";
    let mut watch = StreamWatch::new(Api::Responses, 1, false);
    let gateway = rescuing("");
    let mut rescuable = Rescuable::Same(None);
    assert!(rescuable.push(&Bytes::new(), &StreamState::default()));
    assert!(matches!(rescuable, Rescuable::Same(None)));
    watch.feed(created.into());
    assert!(rescuable.push(&Bytes::new(), watch.state()));
    watch.feed("data: {\"type\":\"response.output_text.delta\",\"sequence_number\":4,\"delta\":\"x\"}\n\n".into());
    assert!(rescuable.push(&Bytes::new(), watch.state()));
    let due = rescuable.continuation().expect("its name is known");
    let Continuation::Same(resumed) = &due.continuation else { panic!("it is the same response") };
    assert_eq!(resumed.asks(), ("responses/resp_1".to_owned(), "stream=true&starting_after=4".to_owned()));
    assert!(Rescuable::Same(None).continuation().is_none());
    assert_eq!(gateway.metrics.buffered.get(), 0);
}
