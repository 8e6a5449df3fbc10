//! The usage that a realtime socket reports: at the end of each response, of each transcription of the input, and in
//! any other event that ends something.
//!
//! It also counts the responses that are not settled yet: those that the caller asked for, and those that have begun.
//!
//! Reads the server's side of a WebSocket (RFC 6455, section 5.2; unmasked, without extensions) as it passes. Only the
//! relevant part of a message is kept, however long it is and however many frames it has.

use super::{Reported, Usage};
use crate::api::Api;
use crate::excerpt::{self, Excerpt};
use crate::frames::Frames;
use crate::json::{Kind, Reader};

/// The meaning of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketEvent {
    /// A response begins.
    Begun,
    /// A response has ended, with this usage if it reports any.
    Ended(Option<Usage>),
    /// Something other than a response has ended, with this usage.
    Other(Usage),
}

/// Reads a socket's frames.
#[derive(Debug)]
pub struct SocketTap {
    frames: Frames,
    message: Excerpt,
    /// Responses that have not ended.
    unsettled: Unsettled,
}

/// Responses that were requested or have begun, and have not ended. A requested response is the same one when it
/// begins; some begin without a request, if the server detects the end of a turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Unsettled {
    /// Requested, and not begun.
    asked: u32,
    /// Begun, and not ended.
    begun: u32,
}

impl Unsettled {
    fn asked(&mut self, count: u32) {
        self.asked = self.asked.saturating_add(count);
    }

    fn begins(&mut self) {
        self.asked = self.asked.saturating_sub(1);
        self.begun = self.begun.saturating_add(1);
    }

    fn ends(&mut self) {
        // Some servers don't report the beginning.
        let from = if self.begun > 0 { &mut self.begun } else { &mut self.asked };
        *from = from.saturating_sub(1);
    }

    fn count(self) -> u32 {
        self.asked.saturating_add(self.begun)
    }
}

impl Default for SocketTap {
    fn default() -> Self {
        SocketTap { frames: Frames::of_server(), message: Excerpt::new(excerpt::message), unsettled: Unsettled::default() }
    }
}

impl SocketTap {
    /// Reads the next bytes and calls `each` for each relevant message that ends in them, with the number of bytes up
    /// to the end of that message.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(SocketEvent, usize)) {
        let mut rest = bytes;
        while let Some(part) = self.frames.next_part(&mut rest) {
            if part.begins {
                self.message.reset();
            }
            self.message.push(part.payload);
            if part.ends
                && let Some(event) = self.message_ends()
            {
                each(event, bytes.len() - rest.len());
            }
        }
    }

    /// Whether the server has said that it closes the socket.
    pub fn has_closed(&self) -> bool {
        self.frames.has_closed()
    }

    /// Whether it is between two messages.
    pub fn is_between_messages(&self) -> bool {
        self.frames.is_between_messages()
    }

    /// Whether the frame boundaries are lost: then the socket's usage is unknown.
    pub fn is_lost(&self) -> bool {
        self.frames.is_lost()
    }

    /// The caller has asked for so many responses.
    pub fn asked(&mut self, responses: u32) {
        self.unsettled.asked(responses);
    }

    /// The number of responses that were requested or have begun, and have not ended.
    pub fn under_way(&self) -> u32 {
        self.unsettled.count()
    }

    /// The meaning of the message that has ended.
    fn message_ends(&mut self) -> Option<SocketEvent> {
        let text = self.message.text();
        let (mut kind, mut reported) = (None, Reported::default());
        let _ = Reader::new(text).members(|key, value| match key {
            b"type" => kind = value.as_str(text),
            b"usage" => reported.read(text, &value),
            b"response" if value.kind == Kind::Object => {
                let _ = Reader::within(text, &value).members(|key, value| reported.read_member(text, key, &value));
            }
            _ => {}
        });
        let usage = reported.usage(Api::Realtime);
        let kind = kind.as_deref().unwrap_or("");
        let ends = [".done", ".completed", ".incomplete", ".failed"].iter().any(|end| kind.ends_with(end));
        let event = match (kind, usage) {
            ("response.created", _) => Some(SocketEvent::Begun),
            ("response.done", usage) => Some(SocketEvent::Ended(usage)),
            (_, Some(usage)) if ends => Some(SocketEvent::Other(usage)),
            _ => None,
        };
        match event {
            Some(SocketEvent::Begun) => self.unsettled.begins(),
            Some(SocketEvent::Ended(_)) => self.unsettled.ends(),
            _ => {}
        }
        self.message.reset();
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::frame_head;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        [&frame_head(first, payload.len()), payload].concat()
    }

    #[test]
    fn each_turn_is_read_whatever_its_pieces() {
        let usage = r#""usage":{"total_tokens":30,"input_tokens":20,"output_tokens":10,"input_token_details":{"text_tokens":5,"audio_tokens":15,"cached_tokens":4},"output_token_details":{"text_tokens":2,"audio_tokens":8}}"#;
        let short = format!(r#"{{"type":"response.done","event_id":"e","response":{{"id":"r",{usage}}}}}"#);
        let long = format!(r#"{{"type":"response.done","response":{{{usage},"output":["{}"]}}}}"#, "x".repeat(100_000));
        let late = format!(r#"{{"response":{{{usage},"metadata":{{"usage":"none"}}}},"type":"response.done"}}"#);
        let begun = r#"{"type":"response.created","response":{"usage":{"input_tokens":999,"output_tokens":1}}}"#;
        let mut stream = frame(0x81, begun.as_bytes());
        stream.extend(frame(0x81, short.as_bytes()));
        stream.extend(frame(0x82, &[0x81, 5, 1, 2, 3]));
        stream.extend(frame(0x81, long.as_bytes()));
        // Fragments, with a ping in between.
        let (first, second) = short.split_at(40);
        stream.extend(frame(0x01, first.as_bytes()));
        stream.extend(frame(0x89, b"ping"));
        stream.extend(frame(0x80, second.as_bytes()));
        // The end in a frame of its own, and a caller's metadata behind the usage.
        stream.extend(frame(0x01, late.as_bytes()));
        stream.extend(frame(0x80, b""));
        let expected = Usage { input: 20, output: 10, cached_input: 4, input_audio: 15, output_audio: 8, ..Usage::default() };
        for size in [1, 3, 100, 4096, stream.len()] {
            let mut tap = SocketTap::default();
            let mut told = Vec::new();
            stream.chunks(size).for_each(|piece| tap.push(piece, |one, _| told.push(one)));
            let ended = SocketEvent::Ended(Some(expected));
            assert_eq!(told, [SocketEvent::Begun, ended, ended, ended, ended], "pieces of {size}");
            assert_eq!(tap.under_way(), 0);
        }
    }

    #[test]
    fn what_was_asked_for_or_began_is_under_way_until_it_ends() {
        let mut tap = SocketTap::default();
        let each = |tap: &mut SocketTap, kind: &str| {
            tap.push(&frame(0x81, format!(r#"{{"type":"{kind}","response":{{}}}}"#).as_bytes()), |_, _| {});
            tap.under_way()
        };
        // Unasked, and settled: it doesn't settle what is asked for later.
        assert_eq!((each(&mut tap, "response.created"), each(&mut tap, "response.done")), (1, 0));
        tap.asked(2);
        assert_eq!(tap.under_way(), 2);
        assert_eq!(each(&mut tap, "response.created"), 2, "one that was asked for and begins is one");
        assert_eq!(each(&mut tap, "response.done"), 1);
        assert_eq!(each(&mut tap, "response.done"), 0, "one whose beginning nobody told");
        assert_eq!(each(&mut tap, "response.done"), 0);
        tap.asked(u32::MAX);
        tap.asked(5);
        assert_eq!(each(&mut tap, "response.created"), u32::MAX);
    }

    #[test]
    fn transcriptions_report_beside_the_responses() {
        let of = |text: &str| {
            let mut told = Vec::new();
            SocketTap::default().push(&frame(0x81, text.as_bytes()), |one, _| told.push(one));
            told
        };
        let kind = "conversation.item.input_audio_transcription.completed";
        let by_tokens = format!(
            r#"{{"type":"{kind}","item_id":"i","transcript":"hi","usage":{{"type":"tokens","input_tokens":40,"output_tokens":9,"input_token_details":{{"audio_tokens":40}}}}}}"#
        );
        assert_eq!(of(&by_tokens), [SocketEvent::Other(Usage { input: 40, output: 9, input_audio: 40, ..Usage::default() })]);
        let by_length = format!(r#"{{"type":"{kind}","usage":{{"type":"duration","seconds":3.2}}}}"#);
        assert_eq!(of(&by_length), [SocketEvent::Other(Usage { milliseconds: 3200, ..Usage::default() })]);
        for nothing in [
            r#"{"type":"response.output_item.done","item":{"usage":{"input_tokens":1}}}"#,
            r#"{"type":"session.updated","usage":{"input_tokens":1}}"#,
            r#"{"type":"conversation.item.input_audio_transcription.completed"}"#,
        ] {
            assert_eq!(of(nothing), []);
        }
        assert_eq!(of(r#"{"type":"response.done","response":{"usage":null}}"#), [SocketEvent::Ended(None)]);
    }

    #[test]
    fn where_a_message_ends_is_told() {
        let one = frame(0x81, br#"{"type":"response.done","response":{}}"#);
        let two = [&one[..], &one[..], &[0x81, 5]].concat();
        let mut ends = Vec::new();
        SocketTap::default().push(&two, |_, end| ends.push(end));
        assert_eq!(ends, [one.len(), 2 * one.len()]);
    }

    #[test]
    fn what_is_no_servers_frame_is_lost() {
        let masked = [&[0x81, 0x85, 1, 2, 3, 4][..], &[0; 5]].concat();
        let compressed = frame(0xc1, b"what an extension would make of it");
        let within = [frame(0x01, b"{"), frame(0x81, b"{}")].concat();
        let of_nothing = frame(0x80, b"{}");
        let reserved = frame(0x83, b"{}");
        for bytes in [masked, compressed, within, of_nothing, reserved] {
            let mut tap = SocketTap::default();
            tap.push(&bytes, |_, _| panic!());
            assert!(tap.is_lost());
        }
    }

    proptest::proptest! {
        /// Each response is asked for or not, begins or not, and ends or not; they overlap in any order, and what
        /// begins unasked does so while nothing waits to begin.
        #[test]
        fn never_fewer_are_under_way_than_asked_for_or_begun(steps in proptest::collection::vec(0u8..4, 0..200)) {
            let (mut counted, mut waiting, mut running) = (Unsettled::default(), 0u32, 0u32);
            for step in steps {
                match step {
                    0 => {
                        waiting += 1;
                        counted.asked(1);
                    }
                    1 if waiting > 0 => {
                        (waiting, running) = (waiting - 1, running + 1);
                        counted.begins();
                    }
                    2 if waiting == 0 => {
                        running += 1;
                        counted.begins();
                    }
                    3 if running > 0 => {
                        running -= 1;
                        counted.ends();
                    }
                    _ => {}
                }
                proptest::prop_assert_eq!(counted.count(), waiting + running);
            }
        }

        #[test]
        fn nothing_breaks_it(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2000), cut in 1usize..64) {
            let mut tap = SocketTap::default();
            bytes.chunks(cut).for_each(|piece| tap.push(piece, |_, _| {}));
            proptest::prop_assert!(tap.frames.held() <= 10);
        }

        #[test]
        fn any_frames_and_any_pieces_tell_the_same(
            junk in "\\PC{0,400}", frames in proptest::collection::vec(1usize..300, 0..8), cut in 1usize..500, first in proptest::bool::ANY
        ) {
            let junk = serde_json::json!({ "usage": { "input_tokens": 7777 }, "text": junk }).to_string();
            let usage = r#""usage":{"input_tokens":20,"output_tokens":10}"#;
            let response = if first { format!("{usage},\"x\":{junk}") } else { format!("\"x\":{junk},{usage}") };
            let text = format!(r#"{{"x":{junk},"response":{{{response}}},"type":"response.done"}}"#);
            let mut rest = text.as_bytes();
            let mut stream = Vec::new();
            for length in frames {
                let (part, behind) = rest.split_at(length.min(rest.len()));
                stream.extend(frame(if stream.is_empty() { 0x01 } else { 0x00 }, part));
                rest = behind;
            }
            stream.extend(frame(if stream.is_empty() { 0x81 } else { 0x80 }, rest));
            let mut told = Vec::new();
            let mut tap = SocketTap::default();
            stream.chunks(cut).for_each(|piece| tap.push(piece, |one, _| told.push(one)));
            proptest::prop_assert_eq!(told, [SocketEvent::Ended(Some(Usage { input: 20, output: 10, ..Usage::default() }))]);
        }
    }
}
