//! What kind of answer it is: whole or not, with calls, marked by a content filter.

use serde_json::Value;

use super::events::Events;
use super::plain;
use crate::api::Api;

/// What is known of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// It came to its end, and every part of it did.
    pub complete: bool,
    /// It calls tools, or was made with their help.
    pub calls_tools: bool,
    /// A content filter stopped it, or marked something in it or its prompt.
    pub filtered: bool,
}

/// Reads an answer; `None` if it can't be understood.
pub fn facts(api: Api, answer: &[u8], streamed: bool) -> Option<Facts> {
    if streamed {
        return of_stream(api, &Events::read(answer));
    }
    of_plain(api, &serde_json::from_slice(answer).ok()?)
}

pub(super) fn of_stream(api: Api, events: &Events) -> Option<Facts> {
    let mut facts = of_plain(api, &plain(api, events)?)?;
    let ended = match api {
        Api::Chat | Api::Completions => events.done,
        Api::Messages => events.of("message_stop").next().is_some(),
        _ => true,
    };
    let broke = events.data.iter().any(|event| event["type"] == "error" || (event["error"].is_object() && event["type"].is_null()));
    facts.complete &= ended && !broke;
    // Azure's filter can speak in chunks of its own.
    facts.filtered |= events.data.iter().any(|event| is_marked(event));
    Some(facts)
}

fn of_plain(api: Api, answer: &Value) -> Option<Facts> {
    if !answer["error"].is_null() {
        return Some(Facts::default());
    }
    let mut facts = match api {
        Api::Chat | Api::Completions => of_choices(answer["choices"].as_array()?),
        Api::Responses => {
            let output = answer["output"].as_array()?;
            let other = |item: &Value| !matches!(item["type"].as_str(), Some("message" | "reasoning"));
            Facts {
                complete: answer["status"] == "completed",
                calls_tools: output.iter().any(other),
                filtered: answer["incomplete_details"]["reason"] == "content_filter",
            }
        }
        Api::Messages => {
            let other = |block: &Value| !matches!(block["type"].as_str(), Some("text" | "thinking" | "redacted_thinking"));
            Facts {
                complete: answer["stop_reason"].is_string(),
                calls_tools: answer["content"].as_array()?.iter().any(other),
                filtered: answer["stop_reason"] == "refusal",
            }
        }
        Api::Embeddings => Facts { complete: !answer["data"].as_array()?.is_empty(), ..Facts::default() },
        _ => return None,
    };
    facts.filtered |= is_marked(answer);
    Some(facts)
}

fn of_choices(choices: &[Value]) -> Facts {
    let calls = |choice: &Value| {
        let message = &choice["message"];
        message["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty()) || message["function_call"].is_object()
    };
    Facts {
        complete: !choices.is_empty() && choices.iter().all(|choice| choice["finish_reason"].is_string()),
        calls_tools: choices.iter().any(calls),
        filtered: choices.iter().any(|choice| choice["finish_reason"] == "content_filter"),
    }
}

/// Whether a content filter marked something in an answer or chunk, or in its prompt.
fn is_marked(answer: &Value) -> bool {
    let marked = |results: &Value| {
        let mut results = results.as_object().into_iter().flat_map(|results| results.values());
        results.any(|result| result["filtered"] == true || result["detected"] == true)
    };
    let list = |name: &str| answer[name].as_array().into_iter().flatten();
    list("choices").chain(list("prompt_filter_results")).chain(list("content_filters")).any(|one| marked(&one["content_filter_results"]))
}
