//! The content of a message: a text, or parts of many types.
//!
//! Parts of all dialects are read in the same way; they don't contradict each other, and backends use those of others.
//! Recursion ends at the deepest nesting that `serde_json` accepts.

use serde_json::{Map, Value};

use super::message::{Call, Message};

/// Adds a content to a message.
pub(super) fn add(message: &mut Message, content: &Value) {
    match content {
        Value::String(text) => message.say(text),
        Value::Array(parts) => parts.iter().for_each(|part| add(message, part)),
        Value::Object(part) => add_part(message, part),
        Value::Number(_) | Value::Bool(_) => message.say(&content.to_string()),
        Value::Null => {}
    }
}

/// The value of a member, if it is a text.
pub(super) fn text<'v>(part: &'v Map<String, Value>, name: &str) -> Option<&'v str> {
    part.get(name).and_then(Value::as_str)
}

fn add_part(message: &mut Message, part: &Map<String, Value>) {
    match text(part, "type").unwrap_or_default() {
        "tool_use" | "server_tool_use" | "mcp_tool_use" => message.calls.push(call(part, "input")),
        // Encrypted by the provider.
        "redacted_thinking" => {}
        "document" | "search_result" => add_document(message, part),
        "image_url" | "input_image" | "image" | "input_audio" | "audio" | "file" | "input_file" | "video_url" => message.attachments += 1,
        _ => add_any(message, part),
    }
}

/// A part whose texts have typical names: `text`, `input_text`, `output_text`, `refusal`, `thinking`, a shell's output,
/// and unknown types. A part without any text is an attachment.
fn add_any(message: &mut Message, part: &Map<String, Value>) {
    let mut found = false;
    for name in ["text", "refusal", "thinking", "stdout", "stderr"] {
        if let Some(text) = text(part, name) {
            message.say(text);
            found = true;
        }
    }
    if let Some(content) = part.get("content") {
        add(message, content);
        found = true;
    }
    if !found {
        message.attachments += 1;
    }
}

/// Anthropic's documents and search results: a text, parts, or a file.
fn add_document(message: &mut Message, part: &Map<String, Value>) {
    for name in ["title", "context"] {
        message.say(text(part, name).unwrap_or_default());
    }
    if let Some(content) = part.get("content") {
        return add(message, content);
    }
    let source = part.get("source").and_then(Value::as_object);
    match source.and_then(|source| text(source, "type")) {
        Some("text") => message.say(source.and_then(|source| text(source, "data")).unwrap_or_default()),
        Some("content") => add(message, source.and_then(|source| source.get("content")).unwrap_or(&Value::Null)),
        _ => message.attachments += 1,
    }
}

/// A call whose arguments are the member `arguments`: a text, or JSON.
pub(super) fn call(part: &Map<String, Value>, arguments: &str) -> Call {
    Call { name: text(part, "name").unwrap_or_default().to_owned(), arguments: part.get(arguments).map(as_text).unwrap_or_default() }
}

/// A text unchanged, anything else as JSON.
pub(super) fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
