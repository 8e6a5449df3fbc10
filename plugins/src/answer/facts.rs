//! The facts that decide whether an answer may be cached and given to another request.

use serde_json::Value;

use super::read;
use crate::api::Api;

/// Facts about an answer besides its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnswerFacts {
    /// It is complete: every choice has a finish reason, and a stream has its end.
    pub complete: bool,
    /// It calls tools, the caller's or the backend's own, or contains their results.
    pub calls_tools: bool,
    /// A content filter stopped it or removed something, or its stop reason is a refusal.
    pub filtered: bool,
    /// Finish reasons of the choices, in order; of a response the status, or the reason why it is incomplete.
    pub finish: Vec<String>,
}

/// Reads an answer's facts, from its plain form or from a stream.
///
/// `None` if it can't be parsed, or if the API is not supported here.
pub fn facts(api: Api, answer: &[u8], streamed: bool) -> Option<AnswerFacts> {
    if !matches!(api, Api::Chat | Api::Completions | Api::Responses | Api::Messages | Api::Embeddings) {
        return None;
    }
    let (answer, whole) = if streamed {
        let read = read::stream(api, answer)?;
        (read.answer, read.whole)
    } else {
        (serde_json::from_slice(answer).ok().filter(Value::is_object)?, true)
    };
    let mut facts = match api {
        Api::Chat | Api::Completions => of_choices(&answer),
        Api::Responses => of_response(&answer),
        Api::Messages => of_message(&answer),
        _ => AnswerFacts { complete: list(&answer["data"]).next().is_some(), ..AnswerFacts::default() },
    };
    let error = &answer["error"];
    facts.complete &= whole && error.is_null();
    facts.filtered |= error["code"] == "content_filter" || holds_hit(error);
    Some(facts)
}

fn of_choices(answer: &Value) -> AnswerFacts {
    let mut facts = AnswerFacts { complete: list(&answer["choices"]).next().is_some(), ..AnswerFacts::default() };
    for choice in list(&answer["choices"]) {
        let message = &choice["message"];
        facts.calls_tools |= list(&message["tool_calls"]).next().is_some() || !message["function_call"].is_null();
        match choice["finish_reason"].as_str() {
            Some(reason) => {
                facts.calls_tools |= matches!(reason, "tool_calls" | "function_call");
                facts.filtered |= reason == "content_filter";
                facts.finish.push(reason.to_owned());
            }
            None => facts.complete = false,
        }
        facts.filtered |= ["content_filter_results", "content_filter_result"].iter().any(|key| holds_hit(&choice[*key]));
    }
    facts.filtered |= ["prompt_filter_results", "prompt_annotations"].iter().any(|key| holds_hit(&answer[*key]));
    facts
}

fn of_response(answer: &Value) -> AnswerFacts {
    let reason = answer["incomplete_details"]["reason"].as_str();
    let calls = |item: &Value| !matches!(item["type"].as_str(), Some("message" | "reasoning"));
    AnswerFacts {
        complete: answer["status"] == "completed",
        calls_tools: list(&answer["output"]).any(calls),
        filtered: reason == Some("content_filter") || holds_hit(&answer["content_filters"]),
        finish: super::text::response_finish(answer).into_iter().collect(),
    }
}

fn of_message(answer: &Value) -> AnswerFacts {
    let reason = answer["stop_reason"].as_str();
    let calls = |block: &Value| !matches!(block["type"].as_str(), Some("text" | "thinking" | "redacted_thinking"));
    AnswerFacts {
        complete: reason.is_some() && answer["content"].is_array(),
        calls_tools: reason == Some("tool_use") || list(&answer["content"]).any(calls),
        filtered: reason == Some("refusal"),
        finish: reason.map(str::to_owned).into_iter().collect(),
    }
}

/// Whether a filter's results say, at any depth, that something was removed.
fn holds_hit(results: &Value) -> bool {
    match results {
        Value::Object(fields) => fields
            .iter()
            .any(|(key, value)| (matches!(key.as_str(), "filtered" | "blocked" | "detected") && *value == true) || holds_hit(value)),
        Value::Array(list) => list.iter().any(holds_hit),
        _ => false,
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
