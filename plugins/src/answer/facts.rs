//! The facts that decide whether an answer may be cached and given to another request.

use std::borrow::Cow;

use super::read;
use crate::api::Api;
use crate::json::{Item, Kind, Tree};

/// Facts about an answer besides its content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AnswerFacts {
    /// It is complete: every choice has a finish reason, and a stream has its end.
    pub complete: bool,
    /// It calls tools, the caller's or the backend's own, or contains their results.
    pub calls_tools: bool,
    /// A content filter stopped it or removed something, or its stop reason is a refusal.
    pub filtered: bool,
}

/// Reads an answer's facts, from its plain form or from a stream.
///
/// `None` if it can't be parsed, or if the API is not supported here.
pub fn facts(api: Api, answer: &[u8], streamed: bool) -> Option<AnswerFacts> {
    if !api.writes_texts() && api != Api::Embeddings {
        return None;
    }
    let (assembled, whole);
    let answer = if streamed {
        let read = read::stream(api, answer)?;
        (assembled, whole) = (read.answer.to_string(), read.whole);
        assembled.as_bytes()
    } else {
        whole = true;
        answer
    };
    let tree = Tree::parse(answer)?;
    let answer = Some(tree.root()).filter(|answer| answer.is_object())?;
    let [error, choices, prompt, annotations] = answer.get_all(["error", "choices", "prompt_filter_results", "prompt_annotations"]);
    let mut facts = match api {
        Api::Chat | Api::Completions => of_choices(choices, [prompt, annotations]),
        Api::Responses => of_response(answer),
        Api::Messages => of_message(answer),
        _ => AnswerFacts { complete: is_filled(answer.get("data")), ..AnswerFacts::default() },
    };
    facts.complete &= whole && error.is_null();
    facts.filtered |= error.get("code").is("content_filter") || holds_hit(error);
    Some(facts)
}

/// `filters` are the results of filters for the prompt.
fn of_choices(choices: Item<'_>, filters: [Item<'_>; 2]) -> AnswerFacts {
    let mut facts = AnswerFacts { complete: is_filled(choices), ..AnswerFacts::default() };
    for choice in choices.items() {
        let [message, reason, results, result] =
            choice.get_all(["message", "finish_reason", "content_filter_results", "content_filter_result"]);
        let [calls, call] = message.get_all(["tool_calls", "function_call"]);
        facts.calls_tools |= is_filled(calls) || !call.is_null();
        match reason.text() {
            Some(reason) => {
                facts.calls_tools |= matches!(reason.as_ref(), "tool_calls" | "function_call");
                facts.filtered |= reason == "content_filter";
            }
            None => facts.complete = false,
        }
        facts.filtered |= holds_hit(results) || holds_hit(result);
    }
    facts.filtered |= filters.into_iter().any(holds_hit);
    facts
}

fn of_response(answer: Item<'_>) -> AnswerFacts {
    let calls = |item: Item<'_>| !["message", "reasoning"].iter().any(|kind| item.get("type").is(kind));
    AnswerFacts {
        complete: answer.get("status").is("completed"),
        calls_tools: answer.get("output").items().any(calls),
        filtered: answer.get("incomplete_details").get("reason").is("content_filter") || holds_hit(answer.get("content_filters")),
    }
}

fn of_message(answer: Item<'_>) -> AnswerFacts {
    let reason = answer.get("stop_reason").text();
    let calls = |block: Item<'_>| !["text", "thinking", "redacted_thinking"].iter().any(|kind| block.get("type").is(kind));
    AnswerFacts {
        complete: reason.is_some() && answer.get("content").kind() == Kind::Array,
        calls_tools: reason.as_deref() == Some("tool_use") || answer.get("content").items().any(calls),
        filtered: reason.as_deref() == Some("refusal"),
    }
}

/// Whether a filter's results say, at any depth, that something was removed.
fn holds_hit(results: Item<'_>) -> bool {
    let hit = |(name, value): (Cow<'_, str>, Item<'_>)| {
        (matches!(name.as_ref(), "filtered" | "blocked" | "detected") && value.is_true()) || holds_hit(value)
    };
    results.members().any(hit) || results.items().any(holds_hit)
}

/// Whether it is a list with something in it.
fn is_filled(list: Item<'_>) -> bool {
    list.items().next().is_some()
}
