//! All texts of an answer, by channel: text, reasoning, refusals, calls, of every choice, block and item.
//!
//! Each event is read independently of its API: every text counts that isn't known to be a name or a number. So texts
//! in unknown members are read, too. Events that repeat a text only cost time.

use std::collections::HashMap;

use crate::fnv::fnv1a;
use crate::json::{self, Kind, Reader};
use crate::mapped::Mapped;
use crate::visible::{shows_nothing, untagged, with_tags};
use crate::walk::{Token, Tokens, Unreadable};

/// Members with names or bytes, which contain no text.
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

/// Members of an answer that repeat the request.
const ASKED: [&str; 7] = ["instructions", "tools", "metadata", "text", "tool_choice", "input", "prompt"];

/// Members whose objects the model writes: everything in them is a text, also names and numbers.
const WRITTEN: [&str; 5] = ["input", "arguments", "args", "action", "parameters"];

/// Deepest level at which an element's own number is read.
const NUMBERED: usize = 8;

/// The texts of an answer, or of a part of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnswerText {
    channels: Vec<Channel>,
    by_place: HashMap<u64, usize>,
    bytes: usize,
}

/// The text of one place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Channel {
    /// Equal for places that differ only in numbers: clients show their texts as one.
    group: u64,
    text: String,
}

/// An object or array that is being read.
#[derive(Clone, Copy)]
struct Frame {
    object: bool,
    place: At,
    /// The place of the next value.
    next: At,
    /// Elements so far.
    count: u64,
}

/// The place of a value.
#[derive(Clone, Copy, Default)]
struct At {
    place: u64,
    group: u64,
    silent: bool,
    written: bool,
    /// Whether it is a response, which repeats the request.
    response: bool,
}

impl At {
    fn below(self, step: u64) -> u64 {
        (self.place ^ step).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    }

    fn member(self, name: &str) -> At {
        let step = fnv1a(name.bytes());
        // `text` in a response is a format; elsewhere it is a text.
        let silent = self.silent || (!self.written && SILENT.contains(&name)) || (self.response && ASKED.contains(&name));
        At {
            place: self.below(step),
            group: (self.group ^ step).wrapping_mul(0x100_0000_01b3),
            silent,
            written: self.written || WRITTEN.contains(&name),
            response: name == "response",
        }
    }

    fn element(self, number: u64) -> At {
        At { place: self.below(number ^ (1 << 63)), response: false, ..self }
    }
}

impl AnswerText {
    /// Adds the texts in an event's data, or in a whole plain answer.
    ///
    /// # Errors
    /// [`Unreadable`] if it is not JSON, or could be read in two ways.
    pub fn add(&mut self, data: &[u8]) -> Result<(), Unreadable> {
        if data.is_empty() || data.starts_with(b"[DONE]") {
            return Ok(());
        }
        let mut tokens = Tokens::new(data)?;
        let mut frames: Vec<Frame> = Vec::new();
        // Typed events have their position next to their text.
        let root = At { place: beside(data), ..At::default() };
        while let Some(token) = tokens.token()? {
            let deep = frames.len();
            // Texts in a list are lines of one channel.
            let listed = frames.last().is_some_and(|frame| !frame.object);
            let at = match (&token, frames.last_mut()) {
                (Token::Name(_) | Token::End, _) => At::default(),
                (_, None) => root,
                (_, Some(frame)) if frame.object => frame.next,
                (Token::Text(_) | Token::Number(_), Some(frame)) => frame.place,
                (token, Some(frame)) => {
                    let position = frame.count;
                    frame.count += 1;
                    let numbered = matches!(token, Token::Object) && deep <= NUMBERED && !frame.place.silent;
                    let number = if numbered { number(data, tokens.range().start) } else { None };
                    frame.place.element(number.unwrap_or(position))
                }
            };
            match token {
                Token::Object => frames.push(Frame { object: true, place: at, next: at, count: 0 }),
                Token::Array => frames.push(Frame { object: false, place: at, next: at, count: 0 }),
                Token::End => {
                    frames.pop();
                }
                Token::Name(name) => {
                    let Some(frame) = frames.last_mut() else { continue };
                    frame.next = frame.place.member(&name);
                    let (at, is_said) = (frame.place, frame.place.written && !frame.place.silent);
                    if is_said {
                        self.add_text(At { place: at.below(2), ..at }, &name, true);
                    }
                }
                Token::Text(text) if !at.silent => self.add_text(at, &text, listed),
                Token::Number(digits) if at.written && !at.silent => self.add_text(at, digits, listed),
                Token::Text(_) | Token::Number(_) | Token::Word => {}
            }
        }
        Ok(())
    }

    fn add_text(&mut self, at: At, text: &str, line: bool) {
        self.bytes += text.len();
        let next = self.channels.len();
        let index = *self.by_place.entry(at.place).or_insert(next);
        if index == next {
            self.channels.push(Channel { group: at.group, text: String::new() });
        }
        if let Some(channel) = self.channels.get_mut(index) {
            if line && !channel.text.is_empty() {
                channel.text.push('\n');
            }
            channel.text.push_str(text);
        }
    }

    /// Bytes of all texts so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.channels.iter().all(|channel| channel.text.trim().is_empty())
    }

    /// All texts, one line per channel.
    pub fn text(&self) -> String {
        self.channels.iter().map(|channel| channel.text.as_str()).collect::<Vec<_>>().join("\n")
    }

    /// The same as a reader sees it: what a service checks.
    pub fn seen(&self) -> String {
        let mut seen = String::with_capacity(self.channels.iter().map(|channel| channel.text.len() + 1).sum());
        for channel in &self.channels {
            seen.push_str(&with_tags(&channel.text));
            seen.push('\n');
        }
        seen
    }

    /// Calls `look` with the text of every channel, with all of them together, and with those that clients show as one.
    /// Stops when `look` finds something.
    pub fn find<F>(&self, mut look: impl FnMut(&str) -> Option<F>) -> Option<F> {
        if let [only] = self.channels.as_slice() {
            return look(&only.text);
        }
        let each = self.channels.iter().find_map(|channel| look(&channel.text));
        let found = each.or_else(|| look(&self.text()));
        found.or_else(|| {
            let mut groups: Vec<(u64, usize)> = self.channels.iter().enumerate().map(|(at, channel)| (channel.group, at)).collect();
            groups.sort_unstable();
            let mut joined = String::new();
            groups.chunk_by(|one, other| one.0 == other.0).filter(|group| group.len() > 1).find_map(|group| {
                joined.clear();
                group.iter().filter_map(|(_, at)| self.channels.get(*at)).for_each(|channel| joined.push_str(&channel.text));
                look(&joined)
            })
        })
    }

    /// The last `most` visible characters of each channel: the next texts are checked together with them. An escape is one
    /// character, so that escapes push nothing out of sight.
    pub fn ends(mut self, most: usize) -> Self {
        let counts = |c: char| !shows_nothing(c) || untagged(c).is_some();
        for Channel { text, .. } in &mut self.channels {
            if text.len() <= most {
                continue;
            }
            if let Some(mapped) = Mapped::unescaped(text) {
                let seen = mapped.shown().rev().filter(|(shown, _)| shown.chars().any(counts));
                let mut kept: Vec<_> = seen.take(most).filter_map(|(_, range)| text.get(range)).collect();
                kept.reverse();
                *text = kept.concat();
                continue;
            }
            let seen = text.char_indices().rev().filter(|(_, c)| counts(*c));
            let keep = seen.take(most).last().map_or(text.len(), |(at, _)| at);
            text.drain(..keep);
            text.retain(counts);
        }
        self
    }
}

/// A number for the position of a typed event.
fn beside(data: &[u8]) -> u64 {
    const NAMES: [&str; 4] = ["output_index", "content_index", "summary_index", "index"];
    let mut place = 0;
    // This can't fail: the text was parsed before.
    let _ = Reader::new(data).object(|name, value| {
        if let (Some(which), Some(number)) = (NAMES.iter().position(|known| *known == name), value.as_u64(data)) {
            place ^= (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(which as u32 * 16);
        }
    });
    place
}

/// The number that an element of a list has in itself.
fn number(data: &[u8], at: usize) -> Option<u64> {
    let mut number = None;
    // Nothing after the element is read.
    let _ = Reader::within(data, &json::Value { kind: Kind::Object, range: at..data.len() }).object(|name, value| {
        if name == "index" {
            number = value.as_u64(data);
        }
    });
    number
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said(events: &[Value]) -> String {
        let mut spoken = AnswerText::default();
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
        assert_eq!(AnswerText::default().add(b"\"\\ud800"), Err(Unreadable));
        assert_eq!(AnswerText::default().add(b"[DONE]"), Ok(()));
    }

    #[test]
    fn the_end_stays_for_the_next_look() {
        let mut spoken = AnswerText::default();
        spoken.add(json!({ "text": "0123456789ä" }).to_string().as_bytes()).unwrap();
        let mut ends = spoken.ends(3);
        assert_eq!(ends.text(), "89ä");
        ends.add(json!({ "text": "x" }).to_string().as_bytes()).unwrap();
        assert_eq!(ends.text(), "89äx");
    }

    fn is_found(spoken: &AnswerText, word: &str) -> bool {
        let rules = crate::guard::Rules::new(&[], &[word.to_owned()], None, None).unwrap();
        rules.answer(spoken).is_some()
    }

    #[test]
    fn what_clients_show_as_one_is_judged_as_one() {
        let parts = |texts: &[&str]| {
            let content: Vec<Value> = texts.iter().map(|text| json!({ "type": "text", "text": text })).collect();
            let mut spoken = AnswerText::default();
            spoken.add(json!({ "content": content }).to_string().as_bytes()).unwrap();
            spoken
        };
        for texts in [&["project", "heron"][..], &["pro", "ject her", "on"], &["x", "pro\u{200b}ject ｈｅｒｏｎ"], &["1"; 12]] {
            let word = if texts.len() > 10 { "111111111111" } else { "project heron" };
            assert!(is_found(&parts(texts), word), "{texts:?}");
        }
        assert!(!is_found(&parts(&["project", "x", "heron"]), "project heron"));
    }

    #[test]
    fn what_a_model_writes_itself_has_no_names_of_the_api() {
        let mut spoken = AnswerText::default();
        let call = json!({ "type": "tool_use", "id": "secret", "input": { "id": "heron", "data": ["crane"], "stork": 4711 } });
        spoken.add(json!({ "content": [call] }).to_string().as_bytes()).unwrap();
        for word in ["heron", "crane", "stork", "4711"] {
            assert!(is_found(&spoken, word), "{word}");
        }
        assert!(!is_found(&spoken, "secret"));
        assert_eq!(AnswerText::default().add(br#"{"a":"x","a":"y"}"#), Err(Unreadable));
    }

    #[test]
    fn characters_that_show_nothing_push_nothing_out_of_sight() {
        let mut spoken = AnswerText::default();
        let event = |text: String| json!({ "text": text }).to_string();
        spoken.add(event(format!("her{}", "\u{200b}".repeat(1000))).as_bytes()).unwrap();
        spoken = spoken.ends(20);
        assert_eq!(spoken.text(), "her");
        spoken.add(event("on".to_owned()).as_bytes()).unwrap();
        assert!(is_found(&spoken, "heron"));
    }

    #[test]
    fn escapes_push_nothing_out_of_sight() {
        let escaped = |text: &str| text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
        let twice = |text: &str| escaped(text).replace('\\', "\\\\");
        let event = |text: &str| json!({ "arguments": text }).to_string();
        for (begin, end) in [
            (escaped("a pröject "), escaped("hero")),
            (escaped("pröject ") + &escaped(&"\u{200b}".repeat(500)), "hero".to_owned()),
            (twice("pröject "), twice("hero")),
        ] {
            let mut spoken = AnswerText::default();
            spoken.add(event(&begin).as_bytes()).unwrap();
            spoken = spoken.ends(20);
            assert!(spoken.text().len() <= 20 * 7, "{}", spoken.text());
            // The escape that isn't whole yet.
            spoken.add(event(&(end + r"\u00")).as_bytes()).unwrap();
            spoken = spoken.ends(20);
            spoken.add(event("6e").as_bytes()).unwrap();
            assert!(is_found(&spoken, "pröject heron"), "{}", spoken.text());
        }
    }
}
