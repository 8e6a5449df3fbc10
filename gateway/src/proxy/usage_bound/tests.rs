//! What a request may use at most.

use super::*;
use crate::proxy::fixtures::{CHAT, Setup, body, facts, gateway, model_request};

fn send_and_judge(api: Api, body: &str) -> ModelRequest {
    model_request(&gateway(""), api, body)
}

#[test]
fn a_prompt_is_bounded_by_its_text_and_a_file_by_nothing() {
    let chat = send_and_judge(Api::Chat, CHAT);
    let (short, long) = (input(&chat, CHAT.as_bytes()), input(&chat, CHAT.repeat(10).as_bytes()));
    assert!(short > 0 && long > short, "{short} {long}");
    assert_eq!(input(&send_and_judge(Api::Transcriptions, CHAT), &[b'x'; 10_000]), 0);
}

#[test]
fn each_api_is_counted_in_the_units_in_which_it_is_billed() {
    let capped = r#"{"model":"m","max_tokens":50,"n":2,"messages":[]}"#;
    let of = |api| usage(&send_and_judge(api, capped), 7, 3000, 1000);
    let text = Usage { input: 7, output: 100, ..Usage::default() };
    assert_eq!(of(Api::Chat), text);
    // A member has no price per character.
    assert_eq!(of(Api::Speech), Usage { output: 4500, characters: 3000, ..text });
    assert_eq!(of(Api::Embeddings), Usage { output: 0, ..text });
    assert_eq!(of(Api::ImageGenerations).images, 2);
    assert_eq!((of(Api::Transcriptions).milliseconds, of(Api::Translations).milliseconds), (3000, 3000));
    assert_eq!(usage(&send_and_judge(Api::Chat, CHAT), 7, 3000, 1000).output, 1000, "what is assumed without a cap");
    assert_eq!(usage(&send_and_judge(Api::ImageGenerations, CHAT), 7, 3000, 1000).images, 1);
}

#[test]
fn sums_of_bounds_do_not_overflow() {
    let most = send_and_judge(Api::Chat, r#"{"model":"m","max_tokens":18446744073709551615,"n":9,"messages":[]}"#);
    let bound = usage(&most, u64::MAX, usize::MAX, 0);
    assert_eq!((bound.input, bound.output), (MOST, MOST));
    assert_eq!(usage(&send_and_judge(Api::Transcriptions, CHAT), 0, usize::MAX, 0).milliseconds, u64::MAX / BYTES_PER_SECOND);
}

#[test]
fn what_is_free_uses_nothing() {
    let mut count = send_and_judge(Api::Messages, CHAT);
    count.part = Some(spillway_plugins::api::Part::CountTokens);
    assert!(count.is_free());
    assert_eq!(usage(&count, 7, 3000, 1000), Usage::default());
}

#[test]
fn a_request_under_way_keeps_the_bound_that_was_reserved() {
    let gateway = Setup { rest: "[usage]\nassume_completion = 40\n", ..Setup::default() }.gateway();
    let (facts, chat) = (facts(&gateway), model_request(&gateway, Api::Chat, CHAT));
    let mut kept = body(&gateway, CHAT);
    assert_eq!(of(&facts, &kept, &chat), Usage { input: input(&chat, CHAT.as_bytes()), output: 40, ..Usage::default() });
    kept.input_bound = Some(123);
    assert_eq!(of(&facts, &kept, &chat).input, 123);
    kept.kept = None;
    assert_eq!(of(&facts, &kept, &chat).input, 123);
    kept.input_bound = None;
    assert_eq!(of(&facts, &kept, &chat).input, 0);
}

#[test]
fn speech_has_tokens_for_each_byte() {
    assert_eq!((spoken(0), spoken(1000), spoken(u64::MAX)), (0, 1500, MOST));
}

#[test]
fn images_are_bounded_by_quality_and_size() {
    let of =
        |more: &str| usage(&send_and_judge(Api::ImageGenerations, &format!(r#"{{"model":"m","prompt":"x"{more}}}"#)), 7, 3000, 1000).output;
    assert_eq!(of(""), 6240, "the most of those that may be chosen");
    assert_eq!(of(r#","n":4,"quality":"low","size":"1024x1024""#), 4 * 272);
    assert_eq!(of(r#","quality":"medium","size":"auto""#), 1584);
    assert_eq!(of(r#","quality":7,"size":null"#), 6240);
}
