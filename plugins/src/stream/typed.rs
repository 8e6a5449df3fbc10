//! Streams whose events have a `type`: Responses, Anthropic messages, audio and images.

use super::choices::Choices;
use super::shape::Found;
use super::state::{StreamState, fault_of};
use crate::api::Api;
use crate::json::{Kind, Reader, Value};
use crate::objects;
use crate::sse::Event;
use crate::tokens::Reported;

/// Reads one event. Returns whether it could be read.
pub(super) fn read(api: Api, event: &Event<'_>, state: &mut StreamState, choices: &mut Choices, found: &mut Found) -> bool {
    let (mut kind, mut failed, mut stopped, mut item, mut image) = (None, false, false, None, None);
    let data = &event.data;
    let read = Reader::new(data).strict().members(|key, value| match key {
        b"type" => kind = value.as_str(data).map(|kind| kind.into_owned()),
        b"sequence_number" => {
            if let Some(number) = value.as_u64(data) {
                state.sequence = Some(number);
                found.number(&value);
            }
        }
        b"obfuscation" if value.kind == Kind::String => found.padding(&value),
        b"response" | b"item" if api == Api::Responses => {
            nested_usage(data, &value, &mut state.reported);
            found.more();
            item = Some(value);
        }
        b"message" if api == Api::Messages => {
            nested_usage(data, &value, &mut state.reported);
            state.reported.precedes_output();
            container(data, &value, state);
            if state.stored {
                state.made.message(data, &value);
            }
            found.more();
        }
        b"content_block" if api == Api::Messages => {
            state.made.block(data, &value);
            found.more();
        }
        b"usage" if api.makes_images() => image = Some(value),
        b"usage" => {
            state.reported.read(data, &value);
            found.more();
        }
        b"error" => failed = value.kind != Kind::Null,
        b"delta" if value.kind == Kind::Object => {
            let _ = Reader::within(data, &value).members(|key, value| match key {
                b"stop_reason" => stopped |= value.kind == Kind::String,
                b"text" | b"thinking" | b"partial_json" => state.output(data, &value, found),
                b"container" => {
                    state.made.container(data, &value);
                    found.more();
                }
                _ => {}
            });
        }
        b"delta" => state.output(data, &value, found),
        _ => {}
    });
    if read.is_err() {
        return false;
    }
    let created = item.clone();
    if let Some(item) = item {
        // The sealed content of an item that was only added may be incomplete.
        state.made.item(data, &item, !kind.as_deref().is_some_and(|kind| kind.ends_with(".added")));
    }
    let kind = kind.unwrap_or_else(|| String::from_utf8_lossy(event.name).into_owned());
    if let ("response.created", Some(response)) = (kind.as_str(), &created) {
        state.response = objects::own_name(data, response);
    }
    match image {
        Some(usage) if kind.ends_with(".completed") => state.reported.add_image(data, &usage),
        Some(usage) => state.reported.read(data, &usage),
        None => {}
    }
    if failed || stopped || !is_delta(api, &kind) {
        found.more();
    }
    match (api, kind.as_str()) {
        (_, "error") => state.fault = Some(fault_of(data)),
        (Api::Responses, "response.failed") => {
            // The error may come in an event of its own; then this one has null.
            let fault = fault_of(data);
            state.fault.get_or_insert(fault);
            state.done = true;
        }
        (Api::Responses, "response.completed" | "response.incomplete") => finish(state),
        (Api::Messages, "message_stop") => finish(state),
        (Api::Messages, "message_delta") => {
            state.content |= stopped;
            state.finished |= stopped;
        }
        (Api::Messages, "content_block_delta") => state.content = true,
        (Api::Messages, _) => {}
        (Api::Responses, kind) if is_output(kind) => state.content = true,
        (Api::Responses, _) if failed => state.fault = Some(fault_of(data)),
        (Api::Responses, _) => {}
        (_, kind) if kind.ends_with(".completed") && api.makes_images() => {
            // One event for each image.
            state.content = true;
            state.finished = true;
            state.done |= choices.one_has_ended();
        }
        (_, kind) if kind.ends_with(".done") || kind.ends_with(".completed") => finish(state),
        (_, kind) if kind.ends_with(".delta") || kind.ends_with(".segment") || kind.ends_with("partial_image") => state.content = true,
        (_, _) if failed => state.fault = Some(fault_of(data)),
        (_, _) => {}
    }
    true
}

/// Whether an event of this kind only brings a piece of a text.
fn is_delta(api: Api, kind: &str) -> bool {
    if api == Api::Messages { kind == "content_block_delta" } else { kind.ends_with(".delta") }
}

/// Whether an event of a response is output, or reports a tool that its server runs: that costs, and may have effects,
/// so it must not be repeated at another target.
fn is_output(kind: &str) -> bool {
    const ENDS: [&str; 4] = [".delta", ".done", ".partial_image", ".annotation.added"];
    const TOOLS: [&str; 3] = ["_call.", "_call_", "mcp_list_tools."];
    ENDS.iter().any(|end| kind.ends_with(end)) || TOOLS.iter().any(|tool| kind.contains(tool))
}

/// The container that a message runs in.
fn container(data: &[u8], message: &Value, state: &mut StreamState) {
    let _ = Reader::within(data, message).members(|key, value| {
        if key == b"container" {
            state.made.container(data, &value);
        }
    });
}

/// The usage of a response or message inside an event.
fn nested_usage(data: &[u8], value: &Value, reported: &mut Reported) {
    if value.kind == Kind::Object {
        let _ = Reader::within(data, value).members(|key, value| reported.read_member(data, key, &value));
    }
}

fn finish(state: &mut StreamState) {
    state.content = true;
    state.finished = true;
    state.done = true;
}
