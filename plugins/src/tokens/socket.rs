//! The usage that a realtime socket tells: in each `response.done` event, one per turn.
//!
//! Reads the server's side of a WebSocket (RFC 6455, section 5.2; unmasked, without extensions) as it
//! passes. Of a message only its beginning and its end are kept, however long it is.

use super::{Usage, UsageTail};
use crate::api::Api;

/// How much of a message's beginning is kept: its type stands there.
const HEAD: usize = 256;

/// Reads a socket's frames.
#[derive(Debug, Default)]
pub struct SocketTap {
    /// A frame's head that is not whole yet.
    head: Vec<u8>,
    /// Bytes of the current frame's payload that are still to come.
    left: u64,
    /// Whether the current frame's payload is text, and whether it ends its message.
    text: bool,
    last: bool,
    /// Whether the message under way is text: a continuation frame doesn't say.
    message_is_text: bool,
    beginning: Vec<u8>,
    tail: UsageTail,
    lost: bool,
}

impl SocketTap {
    /// Takes the next bytes and calls `turn` for each turn that they complete, with its usage if it tells it.
    pub fn push(&mut self, mut bytes: &[u8], mut turn: impl FnMut(Option<Usage>)) {
        while !bytes.is_empty() && !self.lost {
            if self.left == 0 && !self.frame_begins(&mut bytes) {
                return;
            }
            let here = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let (payload, rest) = bytes.split_at(here);
            bytes = rest;
            self.left -= here as u64;
            if self.text {
                let room = HEAD.saturating_sub(self.beginning.len());
                self.beginning.extend_from_slice(&payload[..payload.len().min(room)]);
                self.tail.push(payload);
                if self.left == 0 && self.last && self.message_ends() {
                    turn(std::mem::take(&mut self.tail).read().usage(Api::Realtime));
                }
            }
        }
    }

    /// Reads a frame's head; `false` if it isn't whole yet.
    fn frame_begins(&mut self, bytes: &mut &[u8]) -> bool {
        while let Some((first, rest)) = bytes.split_first() {
            self.head.push(*first);
            *bytes = rest;
            let Some(second) = self.head.get(1) else { continue };
            // A server doesn't mask: whatever this is, its frames can't be told apart.
            if second & 0x80 != 0 || self.head[0] & 0x70 != 0 {
                self.lost = true;
                return false;
            }
            let extended = match second & 0x7f {
                126 => 2,
                127 => 8,
                _ => 0,
            };
            if self.head.len() < 2 + extended {
                continue;
            }
            self.left = match extended {
                0 => u64::from(second & 0x7f),
                _ => self.head[2..].iter().fold(0, |length, byte| (length << 8) | u64::from(*byte)),
            };
            let opcode = self.head[0] & 0x0f;
            self.last = self.head[0] & 0x80 != 0;
            match opcode {
                0 => self.text = self.message_is_text,
                1 | 2 => {
                    self.message_is_text = opcode == 1;
                    self.text = opcode == 1;
                }
                // Control frames may stand between a message's frames.
                _ => self.text = false,
            }
            self.head.clear();
            if self.left > 0 || (self.text && self.last) {
                return true;
            }
        }
        false
    }

    /// Whether the message that has ended is a turn's. If not, its end is forgotten.
    fn message_ends(&mut self) -> bool {
        let beginning = std::mem::take(&mut self.beginning);
        self.text = false;
        let is_turn = memchr::memmem::find(&beginning, b"\"response.done\"").is_some();
        if !is_turn {
            self.tail = UsageTail::default();
        }
        is_turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            0..126 => frame.push(payload.len() as u8),
            126..65_536 => {
                frame.push(126);
                frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
            }
            _ => {
                frame.push(127);
                frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn each_turn_is_read_whatever_its_pieces() {
        let usage = r#""usage":{"total_tokens":30,"input_tokens":20,"output_tokens":10,"input_token_details":{"text_tokens":5,"audio_tokens":15,"cached_tokens":4},"output_token_details":{"text_tokens":2,"audio_tokens":8}}"#;
        let short = format!(r#"{{"type":"response.done","event_id":"e","response":{{"id":"r",{usage}}}}}"#);
        let long = format!(r#"{{"type":"response.done","response":{{"output":["{}"],{usage}}}}}"#, "x".repeat(100_000));
        let other = r#"{"type":"response.created","response":{"usage":{"input_tokens":999,"output_tokens":1}}}"#;
        let mut stream = frame(0x81, other.as_bytes());
        stream.extend(frame(0x81, short.as_bytes()));
        stream.extend(frame(0x82, &[0x81, 5, 1, 2, 3]));
        stream.extend(frame(0x81, long.as_bytes()));
        // Fragments, with a ping in between.
        let (first, second) = short.split_at(40);
        stream.extend(frame(0x01, first.as_bytes()));
        stream.extend(frame(0x89, b"ping"));
        stream.extend(frame(0x80, second.as_bytes()));
        // The end in a frame of its own, and a caller's metadata behind the usage.
        stream.extend(frame(0x01, short.replace("}}}", "},\"metadata\":{\"usage\":\"none\"}}}").as_bytes()));
        stream.extend(frame(0x80, b""));
        let expected = Usage { input: 20, output: 10, cached_input: 4, input_audio: 15, output_audio: 8, ..Usage::default() };
        for size in [1, 3, 100, 4096, stream.len()] {
            let mut tap = SocketTap::default();
            let mut turns = Vec::new();
            stream.chunks(size).for_each(|piece| tap.push(piece, |usage| turns.push(usage)));
            assert_eq!(turns, [Some(expected); 4], "pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_servers_frame_is_left_alone() {
        let mut tap = SocketTap::default();
        let masked = [&[0x81, 0x85, 1, 2, 3, 4][..], &[0; 5]].concat();
        tap.push(&masked, |_| panic!());
        assert!(tap.lost);
    }

    proptest::proptest! {
        #[test]
        fn nothing_breaks_it(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2000), cut in 1usize..64) {
            let mut tap = SocketTap::default();
            bytes.chunks(cut).for_each(|piece| tap.push(piece, |_| {}));
            proptest::prop_assert!(tap.beginning.len() <= HEAD && tap.head.len() <= 10);
        }
    }
}
