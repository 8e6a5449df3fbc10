//! Anthropic's events: blocks, one after the other.

use serde_json::{Map, Value};

use super::side::{Difference, Found, Need, Side, WHOLE, channel, is_filled, kind_of, number, string, text};

/// Blocks that only the model writes.
const BLOCKS: [&str; 4] = ["text", "thinking", "redacted_thinking", "tool_use"];

pub(super) fn walk(name: &[u8], event: &mut Map<String, Value>, side: &mut impl Side) -> Result<Found, Difference> {
    let kind = kind_of(name, event).into_owned();
    match kind.as_str() {
        "message_start" => {
            if event.get("message").and_then(Value::as_object).is_some_and(|message| is_filled(message, "container")) {
                side.foreign()?;
            }
            side.mark(channel(WHOLE, 0, "message_start"), "", Need::Required).map(Found::of)
        }
        "content_block_start" => block(event, side),
        "content_block_delta" => delta(event, side),
        "content_block_stop" => side.ends(number(event, "index")?, "").map(Found::of),
        "message_delta" | "message_stop" => {
            side.over()?;
            Ok(Found::NEWS)
        }
        "ping" => Ok(Found::default()),
        _ => {
            side.foreign()?;
            Ok(Found::NEWS)
        }
    }
}

fn block(event: &Map<String, Value>, side: &mut impl Side) -> Result<Found, Difference> {
    let index = number(event, "index")?;
    let Some(Value::Object(block)) = event.get("content_block") else { return Err(Difference::Unreadable) };
    let kind = string(block, "type");
    if !BLOCKS.contains(&kind) || ["text", "thinking", "input", "citations", "signature"].iter().any(|key| is_filled(block, key)) {
        side.foreign()?;
        return Ok(Found::NEWS);
    }
    // Each answer has its own ids for its calls.
    side.mark(channel(index, 0, "block"), &format!("{kind} {}", string(block, "name")), Need::Required).map(Found::of)
}

fn delta(event: &mut Map<String, Value>, side: &mut impl Side) -> Result<Found, Difference> {
    let index = number(event, "index")?;
    let Some(Value::Object(delta)) = event.get_mut("delta") else { return Err(Difference::Unreadable) };
    let (key, kind) = match string(delta, "type") {
        "text_delta" => ("text", "text"),
        "thinking_delta" => ("thinking", "thinking"),
        "input_json_delta" => ("partial_json", "arguments"),
        "signature_delta" => {
            // Signatures of the same text differ each time: the first one is equally valid.
            return side.mark(channel(index, 0, "signature"), "", Need::Optional).map(Found::of);
        }
        _ => {
            side.foreign()?;
            return Ok(Found::NEWS);
        }
    };
    let mut found = Found::default();
    text(side, delta, key, channel(index, 0, kind), &mut found)?;
    Ok(found)
}
