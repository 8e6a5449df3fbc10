//! Anthropic's events: a message starts empty, and its content blocks are filled one after the other.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::event::{EventContent, Object, Read, for_each, index_of, take_object};
use super::merge::{append, overwrite};

/// The message so far.
#[derive(Default)]
struct Events {
    message: Object,
    blocks: BTreeMap<u64, Block>,
    error: Option<Value>,
    started: bool,
    stopped: bool,
    unreadable: bool,
}

/// A content block so far.
#[derive(Default)]
struct Block {
    fields: Object,
    /// The JSON text of its `input`.
    input: String,
    stopped: bool,
}

/// Reads a stream.
pub(super) fn read(events: &[u8]) -> Option<Read> {
    let mut read = Events::default();
    for_each(events, |told| match told {
        EventContent::Object(kind, event) => read.take(&kind, event),
        EventContent::Done => {}
        EventContent::Unreadable => read.unreadable = true,
    });
    read.finish()
}

impl Events {
    fn take(&mut self, kind: &str, mut event: Object) {
        match kind {
            "message_start" => {
                self.started = true;
                match take_object(&mut event, "message") {
                    Some(message) => self.message = message,
                    None => self.unreadable = true,
                }
            }
            "content_block_start" => match (index_of(&event, "index"), take_object(&mut event, "content_block")) {
                (Some(index), Some(fields)) => drop(self.blocks.insert(index, Block { fields, ..Block::default() })),
                _ => self.unreadable = true,
            },
            "content_block_delta" => {
                let block = index_of(&event, "index").and_then(|index| self.blocks.get_mut(&index));
                let taken = block.zip(take_object(&mut event, "delta")).is_some_and(|(block, delta)| block.take(delta));
                self.unreadable |= !taken;
            }
            "content_block_stop" => match index_of(&event, "index").and_then(|index| self.blocks.get_mut(&index)) {
                Some(block) => block.stopped = true,
                None => self.unreadable = true,
            },
            "message_delta" => self.take_end(event),
            "message_stop" => self.stopped = true,
            "error" => self.error = Some(event.remove("error").unwrap_or_else(|| json!({}))),
            // A ping, or a new kind of event, which must be ignored.
            _ => {}
        }
    }

    /// The counts are cumulative: the latest ones are correct.
    fn take_end(&mut self, mut event: Object) {
        if let Some(usage) = take_object(&mut event, "usage") {
            match self.message.get_mut("usage") {
                Some(Value::Object(known)) => overwrite(known, usage),
                _ => drop(self.message.insert("usage".to_owned(), usage.into())),
            }
        }
        let delta = take_object(&mut event, "delta").unwrap_or_default();
        event.remove("type");
        overwrite(&mut self.message, event);
        overwrite(&mut self.message, delta);
    }

    fn finish(mut self) -> Option<Read> {
        if !self.started && self.error.is_none() {
            return None;
        }
        let whole = self.started && self.stopped && !self.unreadable && self.error.is_none();
        let mut whole = whole && self.message.get("stop_reason").is_some_and(Value::is_string);
        let mut content = Vec::with_capacity(self.blocks.len());
        for block in self.blocks.into_values() {
            whole &= block.stopped;
            let (block, readable) = block.finish();
            whole &= readable;
            content.push(block);
        }
        self.message.insert("content".to_owned(), content.into());
        if let Some(error) = self.error {
            self.message.insert("error".to_owned(), error);
        }
        Some(Read { answer: self.message.into(), whole })
    }
}

impl Block {
    /// False if the delta's kind is unknown.
    fn take(&mut self, mut delta: Object) -> bool {
        let kind = delta.remove("type");
        let (key, from) = match kind.as_ref().and_then(Value::as_str) {
            Some("text_delta") => ("text", "text"),
            Some("thinking_delta") => ("thinking", "thinking"),
            Some("signature_delta") => ("signature", "signature"),
            Some("citations_delta") => ("citations", "citation"),
            Some("input_json_delta") => {
                let json = delta.get("partial_json").and_then(Value::as_str);
                self.input.push_str(json.unwrap_or_default());
                return json.is_some();
            }
            _ => return false,
        };
        match delta.remove(from) {
            Some(text @ Value::String(_)) if key != "citations" => append(&mut self.fields, key.to_owned(), text),
            Some(citation @ Value::Object(_)) if key == "citations" => append(&mut self.fields, key.to_owned(), vec![citation].into()),
            _ => false,
        }
    }

    /// The block, and whether its input was complete. If not, the input stays a text.
    fn finish(mut self) -> (Value, bool) {
        let mut readable = true;
        if !self.input.is_empty() {
            let input = serde_json::from_str(&self.input).unwrap_or_else(|_| {
                readable = false;
                self.input.into()
            });
            self.fields.insert("input".to_owned(), input);
        }
        (self.fields.into(), readable)
    }
}
