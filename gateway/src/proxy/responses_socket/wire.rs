//! A socket's messages, independent of a connection: bytes in, bytes out. The size of what is held is known exactly.

use std::collections::VecDeque;

use bytes::Bytes;
use spillway_plugins::frames::{Frame, Frames, frame_head};

/// RFC 6455, 7.4.1.
pub(super) mod close {
    pub(in super::super) const AWAY: u16 = 1001;
    pub(in super::super) const PROTOCOL: u16 = 1002;
    pub(in super::super) const UNSUPPORTED: u16 = 1003;
    pub(in super::super) const NO_STATUS: u16 = 1005;
    pub(in super::super) const NOT_UTF8: u16 = 1007;
    pub(in super::super) const TOO_LONG: u16 = 1009;
    pub(in super::super) const AGAIN: u16 = 1013;
}

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PONG: u8 = 0x8a;

/// What was read from a caller.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// A message.
    Text(String),
    /// An error after which nothing more is read: the close code, and the reason.
    Broken(u16, &'static str),
}

/// One socket's messages.
#[derive(Debug)]
pub(super) struct Wire {
    frames: Frames,
    /// The part of a message that has arrived.
    text: Vec<u8>,
    longest: usize,
    out: VecDeque<Bytes>,
    /// A close frame was sent or received: nothing more is sent.
    over: bool,
    /// From now on only a close frame is read.
    ignores_messages: bool,
    /// The caller has sent its close frame.
    closed: bool,
}

impl Wire {
    /// A server's side, for messages of at most so many bytes.
    pub(super) fn new(longest: usize) -> Self {
        Wire {
            frames: Frames::of_caller(),
            text: Vec::new(),
            longest,
            out: VecDeque::new(),
            over: false,
            ignores_messages: false,
            closed: false,
        }
    }

    /// Bytes that are held of an incomplete message.
    pub(super) fn held(&self) -> usize {
        self.text.capacity()
    }

    /// Reads the caller's bytes up to the next message or error. Pings and close frames are answered.
    pub(super) fn receive(&mut self, bytes: &mut &[u8]) -> Option<Received> {
        while let Some(frame) = self.frames.next(bytes) {
            match frame {
                Frame::Part(_) if self.ignores_messages => {}
                Frame::Part(part) => {
                    if part.binary {
                        return Some(self.broken(close::UNSUPPORTED, "messages on this socket are text"));
                    }
                    if part.begins {
                        self.text = Vec::new();
                    }
                    let ends = part.ends;
                    let more = part.unmasked();
                    // Grow by an eighth, not to twice the size: the budget must have room for it.
                    let (length, more_length) = (self.text.len(), more.size_hint().0);
                    if self.text.capacity() < length + more_length {
                        self.text.reserve_exact(more_length + length / 8);
                    }
                    self.text.extend(more);
                    if self.text.len() > self.longest {
                        return Some(self.broken(close::TOO_LONG, "the message is too long"));
                    }
                    if ends {
                        return Some(match String::from_utf8(std::mem::take(&mut self.text)) {
                            Ok(text) => Received::Text(text),
                            Err(_) => self.broken(close::NOT_UTF8, "messages on this socket are UTF-8"),
                        });
                    }
                }
                Frame::Control(8, payload) => {
                    if !self.over {
                        let code = payload.first_chunk().map_or(close::NO_STATUS, |code| u16::from_be_bytes(*code));
                        self.close(if (1000..5000).contains(&code) && code != close::NO_STATUS { code } else { 1000 }, "");
                    }
                    self.ignore_messages();
                    self.closed = true;
                }
                Frame::Control(9, payload) if !self.over => self.push(PONG, payload.into()),
                Frame::Control(..) => {}
            }
        }
        let is_new = self.frames.is_lost() && !self.ignores_messages;
        is_new.then(|| self.broken(close::PROTOCOL, "the socket's frames can't be read"))
    }

    fn broken(&mut self, code: u16, why: &'static str) -> Received {
        self.ignore_messages();
        Received::Broken(code, why)
    }

    /// From here on only a close frame is read.
    pub(super) fn ignore_messages(&mut self) {
        self.ignores_messages = true;
        self.text = Vec::new();
    }

    fn push(&mut self, first: u8, payload: Bytes) {
        self.out.push_back(frame_head(first, payload.len()).into());
        self.out.push_back(payload);
    }

    /// Sends a message, unless the socket was closed.
    pub(super) fn say(&mut self, text: String) {
        if !self.over {
            self.push(TEXT, text.into());
        }
    }

    /// Sends a close frame. The caller's own close frame ends the connection.
    pub(super) fn close(&mut self, code: u16, reason: &str) {
        if !self.over {
            self.push(CLOSE, [&code.to_be_bytes(), reason.as_bytes()].concat().into());
            self.over = true;
        }
        self.ignore_messages();
    }

    /// Whether nothing more is sent.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether nothing more is read either: the caller has closed, or its frames are malformed.
    pub(super) fn is_done(&self) -> bool {
        self.over && (self.closed || self.frames.is_lost())
    }

    /// The next bytes to be sent, at most so many.
    pub(super) fn take_out(&mut self, most: usize) -> Option<Bytes> {
        let mut next = self.out.pop_front()?;
        if next.len() > most {
            let rest = next.split_off(most);
            self.out.push_front(rest);
            return Some(next);
        }
        // A head is sent together with its payload.
        match self.out.pop_front() {
            Some(following) if next.len() + following.len() <= most => Some([next, following].concat().into()),
            Some(following) => {
                self.out.push_front(following);
                Some(next)
            }
            None => Some(next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of a caller's.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = frame_head(first, payload.len());
        frame[1] |= 0x80;
        frame.extend([1, 2, 3, 4]);
        frame.extend(payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    fn received(wire: &mut Wire, sent: &[u8], piece: usize) -> Vec<Received> {
        let mut received = Vec::new();
        for mut bytes in sent.chunks(piece) {
            received.extend(std::iter::from_fn(|| wire.receive(&mut bytes)));
        }
        received
    }

    fn said(wire: &mut Wire, most: usize) -> Vec<u8> {
        std::iter::from_fn(|| wire.take_out(most)).inspect(|piece| assert!(piece.len() <= most)).flatten().collect()
    }

    #[test]
    fn messages_pass_in_any_pieces() {
        let long = "é".repeat(50_000);
        let (begin, end) = long.as_bytes().split_at(40_001);
        let sent = [frame(0x01, begin), frame(0x89, b"p"), frame(0x80, end), frame(TEXT, b"second")].concat();
        for piece in [1, 7, 4096, 1 << 20] {
            let mut wire = Wire::new(1 << 20);
            assert_eq!(received(&mut wire, &sent, piece), [Received::Text(long.clone()), Received::Text("second".to_owned())]);
            assert_eq!((said(&mut wire, 100), wire.held()), (vec![PONG, 1, b'p'], 0));
            wire.say("third".to_owned());
            wire.say("x".repeat(70_000));
            let out = said(&mut wire, 1000);
            assert_eq!((&out[..7], &out[7..9], out.len()), (&b"\x81\x05third"[..], &b"\x81\x7f"[..], 7 + 10 + 70_000));
        }
    }

    #[test]
    fn either_side_may_close() {
        let mut wire = Wire::new(100);
        assert_eq!(received(&mut wire, &frame(CLOSE, &1000u16.to_be_bytes()), 3), []);
        assert!(wire.is_over() && wire.is_done());
        assert_eq!(said(&mut wire, 100), [CLOSE, 2, 3, 232]);
        let mut wire = Wire::new(100);
        wire.close(close::AWAY, "x");
        wire.say("late".to_owned());
        assert!(wire.is_over() && !wire.is_done());
        assert_eq!(said(&mut wire, 100), [CLOSE, 3, 3, 233, b'x']);
        assert_eq!(received(&mut wire, &frame(TEXT, &[b'x'; 90]), 100), []);
        assert_eq!((wire.held(), received(&mut wire, &frame(CLOSE, b""), 100)), (0, vec![]));
        assert!(wire.is_done() && wire.take_out(100).is_none());
    }

    #[test]
    fn what_is_no_message_is_the_last_thing_that_is_heard() {
        let too_long = [frame(TEXT, &[b'x'; 101]), frame(TEXT, b"y")].concat();
        let binary = [frame(0x82, b"{}"), frame(TEXT, b"y")].concat();
        let no_text = frame(TEXT, b"\xff");
        for (sent, code) in [(too_long, close::TOO_LONG), (binary, close::UNSUPPORTED), (no_text, close::NOT_UTF8)] {
            let mut wire = Wire::new(100);
            assert!(matches!(received(&mut wire, &sent, 1000)[..], [Received::Broken(broken, _)] if broken == code));
            wire.close(code, "x");
            assert!(!wire.is_done() && wire.take_out(100).is_some());
        }
        for broken in [&b"\x81\x05hello"[..], b"\xc1\x80abcd", b"\x83\x80abcd", b"\x80\x80abcd", b"\x09\x80abcd", b"\x89\xfe\x00\x7eabcd"] {
            let mut wire = Wire::new(100);
            assert!(matches!(received(&mut wire, broken, 100)[..], [Received::Broken(close::PROTOCOL, _)]), "{broken:?}");
            wire.close(close::PROTOCOL, "x");
            assert!(wire.is_done() && wire.take_out(100).is_some());
        }
    }
}
