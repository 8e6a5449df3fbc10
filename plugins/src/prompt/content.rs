//! The content of a message: a text, or parts of many types.
//!
//! Parts of all dialects are read in the same way; they don't contradict each other, and backends use those of others.
//! Recursion ends at the deepest nesting that the reader accepts.

use std::borrow::Cow;

use super::message::{Call, Message};
use crate::json::{Item, Kind};

/// Adds a content to a message.
pub(super) fn add<'t>(message: &mut Message<'t>, content: Item<'t>) {
    match content.kind() {
        Kind::String => message.say(content.str()),
        Kind::Array => content.items().for_each(|part| add(message, part)),
        Kind::Object => add_part(message, content),
        Kind::Number | Kind::Bool => message.say(content.to_text()),
        Kind::Null => {}
    }
}

fn add_part<'t>(message: &mut Message<'t>, part: Item<'t>) {
    match part.get("type").str().as_ref() {
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
fn add_any<'t>(message: &mut Message<'t>, part: Item<'t>) {
    let mut found = false;
    for name in ["text", "refusal", "thinking", "stdout", "stderr"] {
        if let Some(text) = part.get(name).text() {
            message.say(text);
            found = true;
        }
    }
    if part.has("content") {
        add(message, part.get("content"));
        found = true;
    }
    if !found {
        message.attachments += 1;
    }
}

/// Anthropic's documents and search results: a text, parts, or a file.
fn add_document<'t>(message: &mut Message<'t>, part: Item<'t>) {
    for name in ["title", "context"] {
        message.say(part.get(name).str());
    }
    if part.has("content") {
        return add(message, part.get("content"));
    }
    let source = part.get("source");
    match source.get("type").str().as_ref() {
        "text" => message.say(source.get("data").str()),
        "content" => add(message, source.get("content")),
        _ => message.attachments += 1,
    }
}

/// A call whose arguments are the member `arguments`: a text, or JSON.
pub(super) fn call<'t>(part: Item<'t>, arguments: &str) -> Call<'t> {
    Call { name: part.get("name").str(), arguments: as_text(part.get(arguments)) }
}

/// A text unchanged, anything else as JSON.
pub(super) fn as_text(value: Item<'_>) -> Cow<'_, str> {
    if value.is_null() { Cow::Borrowed("") } else { value.to_text() }
}
