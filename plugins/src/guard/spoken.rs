//! All that an answer says, channel by channel: text, reasoning, refusals, calls, of every choice, block and item.
//!
//! It reads each event by itself and knows no API: every text counts that isn't known to be a name or a number. What
//! an API says in a member that nobody here has heard of is read, too. Events that repeat a text only cost time.

use std::collections::BTreeMap;

use serde_json::Value;

/// Members that name things or hold bytes, and say nothing.
const SILENT: [&str; 27] = [
    "id",
    "object",
    "type",
    "model",
    "role",
    "status",
    "finish_reason",
    "stop_reason",
    "stop_sequence",
    "system_fingerprint",
    "service_tier",
    "item_id",
    "call_id",
    "tool_call_id",
    "tool_use_id",
    "previous_response_id",
    "response_id",
    "signature",
    "encrypted_content",
    "b64_json",
    "partial_image_b64",
    "data",
    "obfuscation",
    "usage",
    "prompt_filter_results",
    "content_filter_results",
    "logprobs",
];

/// Members of an answer that repeat what was asked.
const ASKED: [&str; 7] = ["instructions", "tools", "metadata", "text", "tool_choice", "input", "prompt"];

/// The texts of an answer, or of a part of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spoken {
    channels: BTreeMap<String, String>,
    heard: usize,
}

/// Something that can't be read, and so not judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it can't be read")]
pub struct Unreadable;

impl Spoken {
    /// Adds what an event's data says, or a whole plain answer.
    ///
    /// # Errors
    /// [`Unreadable`] if it is no JSON.
    pub fn add(&mut self, data: &[u8]) -> Result<(), Unreadable> {
        if data.is_empty() || data.starts_with(b"[DONE]") {
            return Ok(());
        }
        let value: Value = serde_json::from_slice(data).map_err(|_| Unreadable)?;
        let place = |name: &str| value[name].as_u64().map_or_else(String::new, |number| number.to_string());
        // Typed events say where they belong beside what they say.
        let channel = format!("{}.{}.{}.{}", place("output_index"), place("content_index"), place("summary_index"), place("index"));
        self.walk(&value, &channel, false);
        Ok(())
    }

    fn walk(&mut self, value: &Value, channel: &str, in_response: bool) {
        match value {
            Value::String(text) => {
                self.heard += text.len();
                self.channels.entry(channel.to_owned()).or_default().push_str(text);
            }
            Value::Array(list) => list.iter().enumerate().for_each(|(position, element)| {
                let index = element["index"].as_u64().unwrap_or(position as u64);
                self.walk(element, &format!("{channel}[{index}]"), false);
            }),
            Value::Object(members) => {
                for (name, member) in members.iter().filter(|(name, _)| !SILENT.contains(&name.as_str())) {
                    // `text` of a response is a format; anywhere else it is a text.
                    if !(in_response && ASKED.contains(&name.as_str())) {
                        self.walk(member, &format!("{channel}/{name}"), name == "response");
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Bytes that were said in all.
    pub fn heard(&self) -> usize {
        self.heard
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.channels.values().all(|text| text.trim().is_empty())
    }

    /// All that was said, a line for each channel.
    pub fn text(&self) -> String {
        self.channels.values().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// The last `most` characters of each channel: what comes next is judged together with them.
    pub fn ends(mut self, most: usize) -> Self {
        for text in self.channels.values_mut() {
            let keep = text.char_indices().rev().nth(most.saturating_sub(1)).map_or(0, |(at, _)| at);
            text.drain(..keep);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(events: &[Value]) -> String {
        let mut spoken = Spoken::default();
        events.iter().for_each(|event| spoken.add(event.to_string().as_bytes()).unwrap());
        spoken.text()
    }

    #[test]
    fn pieces_join_within_a_channel_only() {
        let delta = |index: u64, delta: Value| json!({ "id": "c", "model": "m", "choices": [{ "index": index, "delta": delta, "finish_reason": null }] });
        let text = said(&[
            delta(0, json!({ "role": "assistant", "content": "for" })),
            delta(1, json!({ "content": "other" })),
            delta(0, json!({ "content": "bidden" })),
            delta(0, json!({ "reasoning": "hm", "content": [{ "type": "thinking", "thinking": [{ "text": "list" }] }] })),
            delta(0, json!({ "tool_calls": [{ "index": 1, "id": "t", "function": { "name": "f", "arguments": "{\"a\":" } }] })),
            delta(0, json!({ "tool_calls": [{ "index": 1, "function": { "arguments": "\"b\"}" } }] })),
            delta(0, json!({ "tool_calls": [{ "index": 2, "custom": { "input": "custom" } }] })),
        ]);
        for expected in ["forbidden", "other", "hm", "list", "{\"a\":\"b\"}", "custom"] {
            assert!(text.lines().any(|line| line == expected), "{expected} in {text}");
        }
        assert!(!text.contains("assistant"));
    }

    #[test]
    fn every_typed_event_is_read_by_itself() {
        let text = said(&[
            json!({ "type": "content_block_delta", "index": 3, "delta": { "type": "text_delta", "text": "blo" } }),
            json!({ "type": "content_block_delta", "index": 3, "delta": { "type": "text_delta", "text": "ck" } }),
            json!({ "type": "content_block_delta", "index": 4, "delta": { "type": "input_json_delta", "partial_json": "call" } }),
            json!({ "type": "response.reasoning_summary_text.delta", "item_id": "i", "output_index": 0, "summary_index": 0, "delta": "think" }),
            json!({ "type": "response.custom_tool_call_input.delta", "output_index": 1, "delta": "tool" }),
            json!({ "type": "response.completed", "response": {
                "instructions": "asked", "text": { "format": { "type": "text" } },
                "output": [{ "type": "message", "content": [{ "type": "output_text", "text": "whole" }] }, { "type": "code_interpreter_call", "code": "code" }],
            } }),
        ]);
        for expected in ["block", "call", "think", "tool", "whole", "code"] {
            assert!(text.lines().any(|line| line == expected), "{expected} in {text}");
        }
        assert!(!text.contains("asked"));
        assert_eq!(Spoken::default().add(b"\"\\ud800"), Err(Unreadable));
        assert_eq!(Spoken::default().add(b"[DONE]"), Ok(()));
    }

    #[test]
    fn the_end_stays_for_the_next_look() {
        let mut spoken = Spoken::default();
        spoken.add(json!({ "text": "0123456789ä" }).to_string().as_bytes()).unwrap();
        let mut ends = spoken.ends(3);
        assert_eq!(ends.text(), "89ä");
        ends.add(json!({ "text": "x" }).to_string().as_bytes()).unwrap();
        assert_eq!(ends.text(), "89äx");
    }
}
