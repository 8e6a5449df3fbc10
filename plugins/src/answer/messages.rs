//! Anthropic's messages: content blocks, and events that begin, continue and end each.

use serde_json::{Value, json};

use super::events::{Events, typed};

pub(super) fn to_plain(events: &Events) -> Option<Value> {
    let mut message = events.of("message_start").next()?["message"].clone();
    let mut blocks: Vec<Value> = Vec::new();
    // What a block's call is made with comes as text in pieces.
    let mut inputs: Vec<String> = Vec::new();
    for event in &events.data {
        let index = event["index"].as_u64().and_then(|index| usize::try_from(index).ok()).unwrap_or(0).min(blocks.len());
        match event["type"].as_str() {
            Some("content_block_start") if index == blocks.len() => {
                blocks.push(event["content_block"].clone());
                inputs.push(String::new());
            }
            Some("content_block_delta") if index < blocks.len() => add_delta(&mut blocks[index], &mut inputs[index], &event["delta"]),
            Some("message_delta") => {
                for name in ["stop_reason", "stop_sequence"] {
                    if !event["delta"][name].is_null() {
                        message[name] = event["delta"][name].clone();
                    }
                }
                for (name, value) in event["usage"].as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
                    message["usage"][name] = value.clone();
                }
            }
            _ => {}
        }
    }
    for (block, input) in blocks.iter_mut().zip(&inputs).filter(|(_, input)| !input.is_empty()) {
        // As it came, if it is no JSON: an answer that was cut.
        block["input"] = serde_json::from_str(input).unwrap_or_else(|_| Value::from(input.as_str()));
    }
    if !message.is_object() {
        return None;
    }
    message["content"] = blocks.into();
    Some(message)
}

fn add_delta(block: &mut Value, input: &mut String, delta: &Value) {
    for (kind, name) in [("text_delta", "text"), ("thinking_delta", "thinking"), ("signature_delta", "signature")] {
        if delta["type"] == kind {
            let known = block[name].as_str().unwrap_or_default().to_owned();
            block[name] = (known + delta[name].as_str().unwrap_or_default()).into();
        }
    }
    if delta["type"] == "input_json_delta" {
        input.push_str(delta["partial_json"].as_str().unwrap_or_default());
    }
    if delta["type"] == "citations_delta" {
        if !block["citations"].is_array() {
            block["citations"] = json!([]);
        }
        if let Value::Array(citations) = &mut block["citations"] {
            citations.push(delta["citation"].clone());
        }
    }
}

pub(super) fn to_stream(answer: &Value) -> Option<String> {
    let blocks = answer["content"].as_array()?;
    let mut begun = answer.clone();
    begun["content"] = json!([]);
    begun["stop_reason"] = Value::Null;
    begun["stop_sequence"] = Value::Null;
    if answer["usage"].is_object() {
        begun["usage"]["output_tokens"] = 1.into();
    }
    let mut text = typed(&json!({ "type": "message_start", "message": begun }));
    for (index, block) in blocks.iter().enumerate() {
        text += &write_block(index, block);
    }
    let delta = json!({ "stop_reason": answer["stop_reason"], "stop_sequence": answer["stop_sequence"] });
    let usage = if answer["usage"].is_object() { answer["usage"].clone() } else { json!({ "output_tokens": 0 }) };
    text += &typed(&json!({ "type": "message_delta", "delta": delta, "usage": usage }));
    text += &typed(&json!({ "type": "message_stop" }));
    Some(text)
}

fn write_block(index: usize, block: &Value) -> String {
    let mut empty = block.clone();
    let mut deltas = Vec::new();
    for (kind, name) in [("text_delta", "text"), ("thinking_delta", "thinking"), ("signature_delta", "signature")] {
        if block[name].is_string() {
            deltas.push(json!({ "type": kind, name: block[name] }));
            empty[name] = "".into();
        }
    }
    for citation in block["citations"].as_array().into_iter().flatten() {
        deltas.push(json!({ "type": "citations_delta", "citation": citation }));
        empty["citations"] = json!([]);
    }
    if block["input"].is_object() {
        deltas.push(json!({ "type": "input_json_delta", "partial_json": block["input"].to_string() }));
        empty["input"] = json!({});
    }
    let mut text = typed(&json!({ "type": "content_block_start", "index": index, "content_block": empty }));
    for delta in deltas {
        text += &typed(&json!({ "type": "content_block_delta", "index": index, "delta": delta }));
    }
    text + &typed(&json!({ "type": "content_block_stop", "index": index }))
}
