//! Events of the Responses API: items, their parts, and the text in them.

use serde_json::{Map, Value};

use super::side::{Difference, Found, Need, Side, WHOLE, channel, is_filled, kind_of, number, string, text};

/// Items that only the model writes.
const ITEMS: [&str; 4] = ["message", "reasoning", "function_call", "custom_tool_call"];

pub(super) fn walk(name: &[u8], event: &mut Map<String, Value>, side: &mut impl Side) -> Result<Found, Difference> {
    let kind = kind_of(name, event).into_owned();
    if let Some(Value::Object(response)) = event.get_mut("response") {
        identify_response(response, side)?;
    }
    let Some(kind) = kind.strip_prefix("response.") else {
        if !matches!(kind.as_str(), "keepalive" | "ping") {
            side.foreign()?;
        }
        return Ok(Found::default());
    };
    match kind {
        "created" | "queued" | "in_progress" => side.mark(channel(WHOLE, 0, kind.to_owned()), "", Need::Optional).map(Found::of),
        "completed" | "incomplete" | "failed" => {
            side.over()?;
            Ok(Found::NEWS)
        }
        "output_item.added" | "output_item.done" => item(kind, event, side),
        // The effects of a backend's own tool have already happened.
        _ if kind.contains("_call.") || kind.contains("mcp_") => hosted(side),
        _ => match kind.rsplit_once('.') {
            Some((of, "delta")) => delta(of, event, side),
            Some((of @ ("content_part" | "reasoning_summary_part"), step @ ("added" | "done"))) => part(of, step, event, side),
            Some((of, "done")) => {
                identify_item(event, side)?;
                side.closes(channel(number(event, "output_index")?, inner(event)?, of.to_owned())).map(Found::of)
            }
            _ => hosted(side),
        },
    }
}

fn hosted(side: &mut impl Side) -> Result<Found, Difference> {
    side.foreign()?;
    Ok(Found::NEWS)
}

/// The number of the part that an event belongs to.
fn inner(event: &Map<String, Value>) -> Result<u64, Difference> {
    match ["content_index", "summary_index"].iter().find(|key| event.contains_key(**key)) {
        Some(key) => number(event, key),
        None => Ok(0),
    }
}

fn delta(of: &str, event: &mut Map<String, Value>, side: &mut impl Side) -> Result<Found, Difference> {
    identify_item(event, side)?;
    if is_filled(event, "logprobs") {
        // They belong to tokens, and a token may be cut.
        side.foreign()?;
    }
    if !event.get("delta").is_some_and(Value::is_string) {
        return hosted(side);
    }
    let mut found = Found::default();
    let at = channel(number(event, "output_index")?, inner(event)?, of.to_owned());
    text(side, event, "delta", at, &mut found)?;
    Ok(found)
}

fn part(of: &str, step: &str, event: &mut Map<String, Value>, side: &mut impl Side) -> Result<Found, Difference> {
    identify_item(event, side)?;
    let Some(Value::Object(part)) = event.get("part") else { return Err(Difference::Unreadable) };
    if is_filled(part, "annotations") || is_filled(part, "logprobs") {
        side.foreign()?;
    }
    let at = channel(number(event, "output_index")?, inner(event)?, format!("{of}.{step}"));
    side.mark(at, string(part, "type"), Need::Required).map(Found::of)
}

fn item(step: &str, event: &mut Map<String, Value>, side: &mut impl Side) -> Result<Found, Difference> {
    let index = number(event, "output_index")?;
    let Some(Value::Object(item)) = event.get_mut("item") else { return Err(Difference::Unreadable) };
    if !ITEMS.contains(&string(item, "type")) {
        return hosted(side);
    }
    let said = format!("{} {} {}", string(item, "type"), string(item, "role"), string(item, "name"));
    identify(index, item, side)?;
    if step == "output_item.done" {
        return side.ends(index, &said).map(Found::of);
    }
    side.mark(channel(index, 0, "added"), &said, Need::Required).map(Found::of)
}

/// The facts of the response that the caller keeps.
fn identify_response(response: &mut Map<String, Value>, side: &mut impl Side) -> Result<(), Difference> {
    for name in ["id", "created_at", "model"] {
        if let Some(value) = response.get_mut(name) {
            side.identity(channel(WHOLE, 0, name), value)?;
        }
    }
    if let Some(Value::Array(items)) = response.get_mut("output") {
        for (index, item) in items.iter_mut().enumerate() {
            if let Value::Object(item) = item {
                identify(index as u64, item, side)?;
            }
        }
    }
    Ok(())
}

/// The ids of an item.
fn identify(index: u64, item: &mut Map<String, Value>, side: &mut impl Side) -> Result<(), Difference> {
    if is_filled(item, "encrypted_content") {
        // It depends on its item's id, which may be the other stream's.
        return Err(Difference::Unreadable);
    }
    for name in ["id", "call_id"] {
        if let Some(value) = item.get_mut(name) {
            side.identity(channel(index, 0, name), value)?;
        }
    }
    Ok(())
}

fn identify_item(event: &mut Map<String, Value>, side: &mut impl Side) -> Result<(), Difference> {
    let index = number(event, "output_index")?;
    match event.get_mut("item_id") {
        Some(value) => side.identity(channel(index, 0, "id"), value),
        None => Ok(()),
    }
}
