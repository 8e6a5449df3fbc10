//! Chat and legacy completion chunks.
//!
//! The texts of a choice follow each other (reasoning, content, calls) and are compared as one. Calls may be
//! interleaved, and are compared one by one.

use serde_json::{Map, Value};

use super::side::{Channel, Difference, Found, Need, Side, WHOLE, channel, is_filled, number, string, text};

/// The members that are the same in all chunks of an answer.
const IDENTITY: [&str; 4] = ["id", "created", "model", "system_fingerprint"];
/// The members that are only in the first chunk, at Azure.
const PROMPT: [&str; 2] = ["prompt_filter_results", "prompt_annotations"];
/// Texts of a delta.
const TEXTS: [&str; 4] = ["reasoning", "reasoning_content", "content", "refusal"];
/// Other known members of a delta.
const OTHERS: [&str; 3] = ["role", "tool_calls", "function_call"];

pub(super) fn walk(chunk: &mut Map<String, Value>, side: &mut impl Side) -> Result<Found, Difference> {
    for name in IDENTITY {
        if let Some(value) = chunk.get_mut(name) {
            side.identity(channel(WHOLE, 0, name), value)?;
        }
    }
    let mut found = Found::default();
    for name in PROMPT {
        if is_filled(chunk, name) {
            found.note(side.mark(channel(WHOLE, 0, name), "", Need::Optional)?);
        }
    }
    if found.sent {
        PROMPT.iter().for_each(|name| drop(chunk.remove(*name)));
    }
    let Some(Value::Array(choices)) = chunk.get_mut("choices") else {
        side.foreign()?;
        return Ok(Found::NEWS);
    };
    if choices.is_empty() {
        found.news |= is_filled(chunk, "usage");
        return Ok(found);
    }
    let mut left = Vec::with_capacity(choices.len());
    for mut choice in choices.drain(..) {
        let Value::Object(members) = &mut choice else { return Err(Difference::Unreadable) };
        let of_choice = walk_choice(members, side)?;
        found.sent |= of_choice.sent;
        found.news |= of_choice.news;
        if of_choice.news || !of_choice.sent {
            left.push(choice);
        }
    }
    *choices = left;
    Ok(found)
}

fn walk_choice(choice: &mut Map<String, Value>, side: &mut impl Side) -> Result<Found, Difference> {
    let index = if choice.contains_key("index") { number(choice, "index")? } else { 0 };
    let mut found = Found::default();
    if is_filled(choice, "logprobs") {
        // They belong to tokens, and a token may be cut.
        side.foreign()?;
    }
    if is_filled(choice, "text") {
        side.turn(index, "text")?;
        text(side, choice, "text", flow(index), &mut found)?;
        if !choice.contains_key("text") {
            choice.insert("text".into(), "".into());
        }
    }
    if let Some(Value::Object(delta)) = choice.get_mut("delta") {
        walk_delta(index, delta, side, &mut found)?;
    }
    if is_filled(choice, "finish_reason") {
        let sent = side.ends(index, string(choice, "finish_reason"))?;
        found.note(sent);
        if sent {
            choice.insert("finish_reason".into(), Value::Null);
        }
    }
    Ok(found)
}

/// The texts of a choice, one after the other.
fn flow(index: u64) -> Channel {
    channel(index, 0, "flow")
}

fn walk_delta(index: u64, delta: &mut Map<String, Value>, side: &mut impl Side, found: &mut Found) -> Result<(), Difference> {
    if delta.keys().any(|key| !TEXTS.contains(&key.as_str()) && !OTHERS.contains(&key.as_str()) && is_filled(delta, key)) {
        side.foreign()?;
        found.news = true;
    }
    said(side, delta, "role", channel(index, 0, "role"), Need::Optional, found)?;
    let both = is_filled(delta, "reasoning") && string(delta, "reasoning") == string(delta, "reasoning_content");
    for name in TEXTS {
        if !is_filled(delta, name) {
            continue;
        }
        if both && name == "reasoning_content" {
            // Some servers send it under both names.
            continue;
        }
        side.turn(index, name)?;
        text(side, delta, name, flow(index), found)?;
        if both && name == "reasoning" {
            match delta.get("reasoning").cloned() {
                Some(rest) => drop(delta.insert("reasoning_content".into(), rest)),
                None => drop(delta.remove("reasoning_content")),
            }
        }
    }
    if let Some(Value::Object(call)) = delta.get_mut("function_call") {
        side.turn(index, "function_call")?;
        walk_function(call, channel(index, 0, "function"), side, found)?;
        if call.is_empty() {
            delta.remove("function_call");
        }
    }
    if let Some(Value::Array(calls)) = delta.get_mut("tool_calls") {
        let mut left = Vec::with_capacity(calls.len());
        for mut call in calls.drain(..) {
            let Value::Object(members) = &mut call else { return Err(Difference::Unreadable) };
            side.turn(index, "tool_calls")?;
            let of_call = walk_call(index, members, side)?;
            found.sent |= of_call.sent;
            found.news |= of_call.news;
            if of_call.news || !of_call.sent {
                left.push(call);
            }
        }
        *calls = left;
        if calls.is_empty() {
            delta.remove("tool_calls");
        }
    }
    Ok(())
}

fn walk_call(index: u64, call: &mut Map<String, Value>, side: &mut impl Side) -> Result<Found, Difference> {
    let mut found = Found::default();
    let number = number(call, "index")?;
    if is_filled(call, "custom") {
        return Err(Difference::Unreadable);
    }
    if is_filled(call, "id") {
        // Every answer has its own id: the caller keeps the first one.
        let sent = side.mark(channel(index, number, "id"), "", Need::Optional)?;
        found.note(sent);
        if sent {
            call.remove("id");
        }
    }
    said(side, call, "type", channel(index, number, "type"), Need::Optional, &mut found)?;
    if let Some(Value::Object(function)) = call.get_mut("function") {
        walk_function(function, channel(index, number, "arguments"), side, &mut found)?;
    }
    Ok(found)
}

/// A function's name and arguments.
fn walk_function(function: &mut Map<String, Value>, arguments: Channel, side: &mut impl Side, found: &mut Found) -> Result<(), Difference> {
    said(side, function, "name", channel(arguments.outer, arguments.inner, "name"), Need::Required, found)?;
    text(side, function, "arguments", arguments, found)
}

/// A fact under `key`, which is removed if it was sent already.
fn said(
    side: &mut impl Side,
    object: &mut Map<String, Value>,
    key: &str,
    at: Channel,
    need: Need,
    found: &mut Found,
) -> Result<(), Difference> {
    if !is_filled(object, key) {
        return Ok(());
    }
    let sent = side.mark(at, string(object, key), need)?;
    found.note(sent);
    if sent {
        object.remove(key);
    }
    Ok(())
}
