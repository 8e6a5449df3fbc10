//! Anthropic's messages as events.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Lines, Object, filled, list, object};

/// Fields that are known only at the end.
const AT_END: [&str; 4] = ["stop_reason", "stop_sequence", "stop_details", "container"];

/// Streams a message. `None` if it isn't finished.
pub(in crate::answer) fn stream(answer: &Object) -> Option<Bytes> {
    filled(answer, "stop_reason")?;
    // The SDKs use the counts of the last event without a check.
    let usage = answer.get("usage").and_then(Value::as_object).filter(|usage| usage.contains_key("output_tokens"))?;
    let Some(Value::Array(content)) = answer.get("content") else { return None };
    let mut lines = Lines::default();
    lines.named("message_start", object([("message", opening(answer, usage).into())]));
    for (index, block) in content.iter().enumerate() {
        let block = block.as_object()?;
        let (start, deltas) = take_apart(block);
        lines.named("content_block_start", object([("index", index.into()), ("content_block", start.into())]));
        for delta in deltas {
            lines.named("content_block_delta", object([("index", index.into()), ("delta", delta)]));
        }
        lines.named("content_block_stop", object([("index", index.into())]));
    }
    let mut delta = object([("stop_reason", Value::Null), ("stop_sequence", Value::Null)]);
    delta.extend(AT_END.iter().filter_map(|key| answer.get(*key).map(|value| ((*key).to_owned(), value.clone()))));
    lines.named("message_delta", object([("delta", delta.into()), ("usage", usage.clone().into())]));
    lines.named("message_stop", Object::new());
    Some(lines.finish())
}

/// The message before its first block.
fn opening(answer: &Object, usage: &Object) -> Object {
    let mut message = answer.clone();
    message.insert("content".to_owned(), json!([]));
    for key in AT_END {
        // These two always exist and are null here; the others occur only if they come later.
        if key == "stop_reason" || message.contains_key(key) {
            message.insert(key.to_owned(), Value::Null);
        }
    }
    let mut usage = usage.clone();
    let output = usage.get("output_tokens").and_then(Value::as_u64).unwrap_or(0);
    usage.insert("output_tokens".to_owned(), output.min(1).into());
    message.insert("usage".to_owned(), usage.into());
    message
}

/// A block as it starts, and its deltas. Kinds without deltas start complete.
fn take_apart(block: &Object) -> (Object, Vec<Value>) {
    let mut start = block.clone();
    let mut deltas = Vec::new();
    match filled(block, "type") {
        Some("text") => {
            if block.get("citations").is_some_and(Value::is_array) {
                start.insert("citations".to_owned(), json!([]));
                deltas.extend(list(block, "citations").iter().map(|citation| json!({"type": "citations_delta", "citation": citation})));
            }
            move_text(block, &mut start, &mut deltas, "text");
        }
        Some("thinking") => {
            move_text(block, &mut start, &mut deltas, "thinking");
            move_text(block, &mut start, &mut deltas, "signature");
        }
        _ => {
            if let Some(input) = block.get("input").filter(|input| input.is_object()) {
                start.insert("input".to_owned(), json!({}));
                // The API sends an empty text for an empty input.
                let text = if input.as_object().is_some_and(Object::is_empty) { String::new() } else { input.to_string() };
                deltas.push(json!({"type": "input_json_delta", "partial_json": text}));
            }
        }
    }
    (start, deltas)
}

fn move_text(block: &Object, start: &mut Object, deltas: &mut Vec<Value>, key: &str) {
    if let Some(text) = filled(block, key) {
        start.insert(key.to_owned(), "".into());
        deltas.push(json!({"type": format!("{key}_delta"), key: text}));
    }
}
