//! Token counts if a backend reports none: with the tokenizer of the model's family, by the published rules. Takes
//! microseconds to milliseconds: not for every request.
//!
//! Sources: `tiktoken/model.py` (the family of a model) and the OpenAI cookbook's "How to count tokens with tiktoken"
//! (what a message adds). Anthropic publishes no tokenizer; OpenAI's newest is used instead.

use serde_json::Value;

use super::bound::{IMAGE, input_bound};
use super::tokenizer::Tokenizer;
use crate::json::Encoded;

/// Tokens that every message adds, and every answer.
const MESSAGE: u64 = 3;

/// The number of tokens in the prompt of a JSON request body. A body that is not JSON gets the cheap estimate.
pub fn prompt_tokens(body: &[u8], tokenizer: &Tokenizer) -> u64 {
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else { return input_bound(body, Encoded::default()) };
    let mut tokens = 0;
    for (name, value) in &fields {
        tokens += match (name.as_str(), value) {
            ("messages" | "input", Value::Array(list)) if list.iter().any(Value::is_object) => {
                MESSAGE + list.iter().map(|message| MESSAGE + texts(message, tokenizer)).sum::<u64>()
            }
            // Tokens that the caller has made itself.
            ("input" | "prompt", Value::Array(list)) => list.iter().map(|one| given(one, tokenizer)).sum(),
            ("input" | "prompt" | "system" | "instructions" | "tools" | "functions" | "messages", value) => texts(value, tokenizer),
            _ => 0,
        };
    }
    tokens
}

/// The number of tokens in the texts of a plain JSON answer.
pub fn answer_tokens(answer: &[u8], tokenizer: &Tokenizer) -> u64 {
    serde_json::from_slice(answer).map_or_else(|_| input_bound(answer, Encoded::default()), |answer| output_texts(&answer, tokenizer))
}

/// The tokens of what a model wrote or thought, anywhere in an answer: the same texts as in a stream.
fn output_texts(value: &Value, tokenizer: &Tokenizer) -> u64 {
    match value {
        Value::Array(list) => list.iter().map(|one| output_texts(one, tokenizer)).sum(),
        Value::Object(fields) => {
            let is_call =
                fields.get("type").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("tool_use") || kind.ends_with("_call"));
            fields
                .iter()
                .map(|(name, value)| match (name.as_str(), value) {
                    (
                        "content" | "text" | "refusal" | "arguments" | "thinking" | "reasoning_content" | "reasoning" | "transcript",
                        Value::String(text),
                    ) => tokenizer.count(text),
                    ("input", Value::String(text)) if is_call => tokenizer.count(text),
                    ("input", Value::Object(_)) if is_call => tokenizer.count(&value.to_string()),
                    (_, value) => output_texts(value, tokenizer),
                })
                .sum()
        }
        _ => 0,
    }
}

/// Whether a model may think without showing all of it, by its name: then the text of its answer doesn't show its
/// usage.
pub fn may_reason(model: &str) -> bool {
    const SHOWN: [&str; 4] = ["gpt-3.5", "gpt-35", "gpt-4", "gpt-oss"];
    const HIDDEN: [&str; 10] = ["o1", "o3", "o4", "o5", "gpt-", "chat-latest", "codex", "computer-use", "gemini-", "grok-"];
    let name = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
    let name = name.strip_prefix("ft:").unwrap_or(&name);
    let begins = |names: &[&str]| names.iter().any(|known| name.starts_with(known));
    begins(&HIDDEN) && !begins(&SHOWN)
}

fn given(value: &Value, tokenizer: &Tokenizer) -> u64 {
    match value {
        Value::Number(_) => 1,
        Value::Array(list) => list.iter().filter(|one| one.is_number()).count() as u64,
        other => texts(other, tokenizer),
    }
}

/// The tokens of all texts in a value; the types of parts don't count, and an image counts as an image.
fn texts(value: &Value, tokenizer: &Tokenizer) -> u64 {
    match value {
        Value::String(text) if text.starts_with("data:") => IMAGE,
        Value::String(text) => tokenizer.count(text),
        Value::Array(list) => list.iter().map(|one| texts(one, tokenizer)).sum(),
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "type" | "id" | "tool_call_id" | "detail" | "media_type" | "cache_control"))
            .map(|(name, value)| match (name.as_str(), value) {
                ("image_url" | "data", Value::String(_)) => IMAGE,
                ("name", value) => 1 + texts(value, tokenizer),
                (_, value) => texts(value, tokenizer),
            })
            .sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}
