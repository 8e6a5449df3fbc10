//! Whether a plain answer with a success status holds no answer: it is not whole, or it is empty.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use spillway_plugins::api::Api;
use spillway_plugins::json::Reader;
use spillway_plugins::tokens::Reported;

/// Whether the text of a plain answer, which begins as an object, holds none. An answer is one however it ended: with a finish
/// reason, a call of a tool, a filter's mark, or an empty text. One of an unknown form may be one. Only a text that looks as if
/// it held none is read.
pub(super) fn holds_none(api: Api, whole: &[u8]) -> bool {
    if whole.trim_ascii_end().last() != Some(&b'}') {
        return true;
    }
    let has_choices = matches!(api, Api::Chat | Api::Completions);
    let Some(list) = list_of(api) else { return false };
    if list.find(whole).is_some_and(|at| has_list(&whole[at + list.needle().len()..], has_choices)) {
        return false;
    }
    let (mut reader, mut members, mut empty) = (Reader::new(whole).strict(), 0_usize, false);
    let mut reported = Reported::default();
    let read = reader.object(|key, value| {
        members += 1;
        empty |= has_choices && key == "choices" && !value.is_filled(whole);
        if key == "usage" {
            reported.read(whole, &value);
        }
    });
    // A model that has written something has answered, however little of it came.
    empty &= reported.usage(api).is_none_or(|usage| usage.output == 0);
    read.is_err() || reader.end().is_err() || members == 0 || empty
}

/// What finds the list that every answer of this API has.
fn list_of(api: Api) -> Option<&'static Finder<'static>> {
    static CHOICES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"choices\""));
    static OUTPUT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"output\""));
    static CONTENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"content\""));
    static DATA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"data\""));
    Some(match api {
        Api::Chat | Api::Completions => &CHOICES,
        Api::Responses => &OUTPUT,
        Api::Messages => &CONTENT,
        Api::Embeddings | Api::ImageGenerations => &DATA,
        _ => return None,
    })
}

/// Whether the text after a key begins a list, and a filled one if it must be.
fn has_list(rest: &[u8], filled: bool) -> bool {
    let Some(list) = rest.trim_ascii_start().strip_prefix(b":").and_then(|rest| rest.trim_ascii_start().strip_prefix(b"[")) else {
        return false;
    };
    !filled || list.trim_ascii_start().first() != Some(&b']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_however_it_ended() {
        for (api, text) in [
            (Api::Chat, r#"{"id":"c","choices":[{"index":0,"message":{"content":""},"finish_reason":"stop"}]}"#),
            (Api::Chat, "{ \"choices\" : [ {} ] } \n"),
            (Api::Chat, r#"{"choices":[{"index":0,"finish_reason":"content_filter"}],"prompt_filter_results":[]}"#),
            (Api::Chat, r#"{"metadata":{"choices":[]},"choices":[{"message":{"tool_calls":[{}]}}]}"#),
            (Api::Chat, r#"{"metadata":{"choices":1},"\u0063hoices":[{}]}"#),
            (Api::Completions, r#"{"choices":[{"text":""}]}"#),
            (Api::Responses, r#"{"id":"r","status":"completed","output":[]}"#),
            (Api::Responses, r#"{"id":"r","status":"queued"}"#),
            (Api::Messages, r#"{"type":"message","content":[],"stop_reason":"end_turn"}"#),
            (Api::Messages, r#"{"stop_reason":"refusal"}"#),
            (Api::Chat, r#"{"answer":"of an unknown form"}"#),
            (Api::Chat, r#"{"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":7}}"#),
            (Api::ImageGenerations, r#"{"created":1,"data":[]}"#),
            (Api::Embeddings, r#"{"data":[{"embedding":[1]}]}"#),
            (Api::Speech, "{}"),
        ] {
            assert!(!holds_none(api, text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_is_not_whole_or_empty_is_none() {
        for api in [Api::Chat, Api::Completions, Api::Responses, Api::Messages, Api::Embeddings, Api::ImageGenerations] {
            for text in ["{\"id\":", "{}", "{ }\n", "{\"id\":{}", "{no json}"] {
                assert!(holds_none(api, text.as_bytes()), "{text}");
            }
        }
        for text in [
            "{\"choices\":[]}",
            "{\"choices\": [ ] ,\"usage\":{}}",
            "{\"choices\":[],\"usage\":{\"completion_tokens\":0}}",
            "{\"choices\":null}",
            "{\"choices\":[{\"index\":0",
        ] {
            assert!(holds_none(Api::Chat, text.as_bytes()), "{text}");
        }
    }
}
