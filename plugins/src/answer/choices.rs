//! Chats and completions: `choices` with a `message` or `text`, and chunks with a `delta` or `text`.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::events::Events;
use crate::api::Api;
use crate::sse::{Fate, Splitter};

/// What stands beside the choices, in an answer as in its chunks.
const BESIDE: [&str; 4] = ["id", "created", "model", "system_fingerprint"];

pub(super) fn to_plain(api: Api, events: &Events) -> Option<Value> {
    let object = if api == Api::Chat { "chat.completion" } else { "text_completion" };
    let mut answer = json!({ "object": object });
    let mut choices: Vec<Value> = Vec::new();
    for chunk in &events.data {
        // Azure's filter chunks say nothing of the answer itself.
        for name in BESIDE.into_iter().chain(["service_tier"]) {
            let empty = chunk[name].is_null() || chunk[name] == "" || chunk[name] == 0;
            if !empty && answer[name].is_null() {
                answer[name] = chunk[name].clone();
            }
        }
        for name in ["usage", "prompt_filter_results"] {
            if !chunk[name].is_null() {
                answer[name] = chunk[name].clone();
            }
        }
        for piece in chunk["choices"].as_array().into_iter().flatten() {
            add_piece(api, choice(api, &mut choices, piece["index"].as_u64().unwrap_or(0)), piece);
        }
    }
    if choices.is_empty() {
        return None;
    }
    choices.sort_by_key(|choice| choice["index"].as_u64());
    answer["choices"] = choices.into();
    Some(answer)
}

/// The choice with this index, made at its first piece.
fn choice(api: Api, choices: &mut Vec<Value>, index: u64) -> &mut Value {
    let at = choices.iter().position(|choice| choice["index"] == index).unwrap_or_else(|| {
        let mut choice = json!({ "index": index, "finish_reason": null, "logprobs": null });
        if api == Api::Chat {
            choice["message"] = json!({ "role": "assistant", "content": null });
        } else {
            choice["text"] = json!("");
        }
        choices.push(choice);
        choices.len() - 1
    });
    &mut choices[at]
}

fn add_piece(api: Api, choice: &mut Value, piece: &Value) {
    if !piece["finish_reason"].is_null() {
        choice["finish_reason"] = piece["finish_reason"].clone();
    }
    if let Value::Object(results) = &piece["content_filter_results"] {
        let known = choice.as_object_mut().map(|choice| choice.entry("content_filter_results").or_insert_with(|| json!({})));
        if let Some(Value::Object(known)) = known {
            known.extend(results.clone());
        }
    }
    if let Value::Object(logprobs) = &piece["logprobs"] {
        if choice["logprobs"].is_null() {
            choice["logprobs"] = json!({});
        }
        for (name, value) in logprobs {
            append(&mut choice["logprobs"][name], value);
        }
    }
    if api == Api::Completions {
        append(&mut choice["text"], &piece["text"]);
        return;
    }
    let Value::Object(delta) = &piece["delta"] else { return };
    for (name, value) in delta.iter().filter(|(_, value)| !value.is_null()) {
        match name.as_str() {
            "role" => choice["message"]["role"] = value.clone(),
            "tool_calls" => value.as_array().into_iter().flatten().for_each(|call| add_call(&mut choice["message"]["tool_calls"], call)),
            _ => merge(&mut choice["message"][name], value),
        }
    }
}

fn add_call(calls: &mut Value, piece: &Value) {
    if !calls.is_array() {
        *calls = json!([]);
    }
    let Value::Array(list) = calls else { return };
    let index = usize::try_from(piece["index"].as_u64().unwrap_or(0)).unwrap_or(0).min(list.len());
    if index == list.len() {
        list.push(json!({}));
    }
    let Value::Object(piece) = piece else { return };
    for (name, value) in piece.iter().filter(|(name, value)| *name != "index" && !value.is_null()) {
        match name.as_str() {
            "id" | "type" => list[index][name] = value.clone(),
            _ => merge(&mut list[index][name], value),
        }
    }
}

/// Texts and lists grow, objects are merged member by member, anything else is replaced.
fn merge(known: &mut Value, more: &Value) {
    match (&mut *known, more) {
        (Value::Object(known), Value::Object(more)) => {
            for (name, value) in more {
                // A call is named once.
                if name == "name" {
                    known.insert(name.clone(), value.clone());
                } else {
                    merge(known.entry(name.clone()).or_insert(Value::Null), value)
                }
            }
        }
        _ => append(known, more),
    }
}

fn append(known: &mut Value, more: &Value) {
    match (&mut *known, more) {
        (_, Value::Null) => {}
        (Value::String(known), Value::String(more)) => known.push_str(more),
        (Value::Array(known), Value::Array(more)) => known.extend(more.iter().cloned()),
        _ => *known = more.clone(),
    }
}

pub(super) fn to_stream(api: Api, answer: &Value, include_usage: bool) -> Option<String> {
    let object = if api == Api::Chat { "chat.completion.chunk" } else { "text_completion" };
    let choices = answer["choices"].as_array().filter(|choices| !choices.is_empty())?;
    let mut beside = Map::new();
    for name in BESIDE {
        if let Some(value) = answer.get(name) {
            beside.insert(name.to_owned(), value.clone());
        }
    }
    beside.insert("object".to_owned(), object.into());
    if include_usage {
        beside.insert("usage".to_owned(), Value::Null);
    }
    let event = |choices: Value, more: &[(&str, &Value)]| {
        let mut chunk = beside.clone();
        chunk.insert("choices".to_owned(), choices);
        more.iter().for_each(|(name, value)| drop(chunk.insert((*name).to_owned(), (*value).clone())));
        format!("data: {}\n\n", Value::Object(chunk))
    };
    let mut text = String::new();
    if let Some(results) = answer.get("prompt_filter_results").filter(|results| !results.is_null()) {
        text += &event(json!([]), &[("prompt_filter_results", results)]);
    }
    for choice in choices {
        for piece in pieces(api, choice)? {
            text += &event(json!([piece]), &[]);
        }
    }
    if include_usage {
        text += &event(json!([]), &[("usage", answer.get("usage").filter(|usage| !usage.is_null())?)]);
    }
    Some(text + "data: [DONE]\n\n")
}

/// A choice as the pieces of a stream: what it says, and how it ends.
fn pieces(api: Api, choice: &Value) -> Option<Vec<Value>> {
    let index = choice["index"].clone();
    let end = |mut piece: Value| {
        piece["index"] = index.clone();
        piece["finish_reason"] = choice["finish_reason"].clone();
        if let Some(results) = choice.get("content_filter_results") {
            piece["content_filter_results"] = results.clone();
        }
        piece
    };
    if api == Api::Completions {
        return Some(vec![end(json!({ "text": choice["text"], "logprobs": choice["logprobs"] }))]);
    }
    let message = choice["message"].as_object()?;
    let mut delta = Map::new();
    for (name, value) in message.iter().filter(|(name, value)| *name != "role" && !value.is_null()) {
        let numbered = |(at, call): (usize, &Value)| {
            let mut call = call.clone();
            call["index"] = at.into();
            call
        };
        match (name.as_str(), value) {
            ("tool_calls", Value::Array(calls)) => drop(delta.insert(name.clone(), calls.iter().enumerate().map(numbered).collect())),
            _ => drop(delta.insert(name.clone(), value.clone())),
        }
    }
    let piece = |delta: Value, logprobs: &Value| json!({ "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": null });
    let role = message.get("role").cloned().unwrap_or_else(|| "assistant".into());
    let begun = if delta.contains_key("content") { json!("") } else { Value::Null };
    let mut pieces = vec![piece(json!({ "role": role, "content": begun }), &Value::Null)];
    if !delta.is_empty() {
        pieces.push(piece(delta.into(), &choice["logprobs"]));
    }
    pieces.push(end(json!({ "delta": {}, "logprobs": null })));
    Some(pieces)
}

/// Without the chunks that tell the usage and nothing else, and whether there was one.
pub(super) fn without_usage(stream: &Bytes) -> (Bytes, bool) {
    let mut found = false;
    let mut splitter = Splitter::default();
    let whole = splitter.feed(stream.clone(), |event| {
        let chunk: Value = serde_json::from_slice(&event.data).unwrap_or_default();
        let only = chunk["usage"].is_object()
            && chunk["choices"].as_array().is_some_and(Vec::is_empty)
            && chunk["prompt_filter_results"].is_null();
        found |= only;
        if only { Fate::Drop } else { Fate::Pass }
    });
    let tail = splitter.take_tail();
    (if tail.is_empty() { whole } else { [whole, tail].concat().into() }, found)
}
