//! The frames of a socket (RFC 6455), without a connection: bytes come in and go out.

use std::io::{self, Read, Write};

use bytes::{Buf as _, Bytes, BytesMut};
use tungstenite::error::CapacityError;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message, Utf8Bytes};

/// Bytes on their way in and out.
#[derive(Debug, Default)]
struct Pipe {
    input: BytesMut,
    output: BytesMut,
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = into.len().min(self.input.len());
        self.input.copy_to_slice(&mut into[..count]);
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a caller has said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A message.
    Text(Utf8Bytes),
    /// One that is no text.
    Binary,
    /// One that is longer than allowed. Nothing after it is heard.
    TooLong,
    /// Something that is none. Nothing after it is heard.
    Broken,
}

/// One socket's frames.
#[derive(Debug)]
pub(super) struct Wire {
    socket: WebSocket<Pipe>,
    /// Nothing is said any more: a close frame is on its way, from here or from there.
    over: bool,
    /// Nothing is heard any more.
    deaf: bool,
    /// Both sides have closed.
    done: bool,
}

/// Most that is read of a caller at once.
const PIECE: usize = 4096;

impl Wire {
    /// A server's, for messages of at most so many bytes.
    pub(super) fn new(longest: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(PIECE)
            .write_buffer_size(0)
            .max_message_size(Some(longest))
            .max_frame_size(Some(longest));
        Wire { socket: WebSocket::from_raw_socket(Pipe::default(), Role::Server, Some(config)), over: false, deaf: false, done: false }
    }

    /// Takes bytes of the caller's.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if !self.deaf {
            self.socket.get_mut().input.extend_from_slice(bytes);
        }
    }

    /// The next thing that it says. Pings are answered, and so is a close.
    pub(super) fn next(&mut self) -> Option<Heard> {
        while !self.deaf {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Some(Heard::Text(text)),
                Ok(Message::Binary(_)) => return Some(Heard::Binary),
                Ok(Message::Close(_)) => self.over = true,
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => (self.deaf, self.over, self.done) = (true, true, true),
                Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => {
                    self.deaf = true;
                    return Some(Heard::TooLong);
                }
                Err(_) => {
                    self.deaf = true;
                    return Some(Heard::Broken);
                }
            }
        }
        None
    }

    /// Says a message, unless the socket is over.
    pub(super) fn say(&mut self, text: String) {
        if !self.over {
            let _ = self.socket.send(Message::Text(text.into()));
        }
    }

    /// Says that nothing more comes. The caller's own close ends it.
    pub(super) fn close(&mut self, code: CloseCode, reason: &'static str) {
        if !self.over {
            self.over = true;
            let _ = self.socket.close(Some(CloseFrame { code, reason: reason.into() }));
            self.done = self.deaf;
        }
    }

    /// Whether nothing is said any more.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether nothing is heard any more either.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// What is to be sent.
    pub(super) fn take_out(&mut self) -> Option<Bytes> {
        let _ = self.socket.flush();
        let output = &mut self.socket.get_mut().output;
        (!output.is_empty()).then(|| std::mem::take(output).freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(longest: usize) -> (Wire, WebSocket<Pipe>) {
        (Wire::new(longest), WebSocket::from_raw_socket(Pipe::default(), Role::Client, None))
    }

    /// Hands over what a caller has sent, in pieces.
    fn hear(wire: &mut Wire, caller: &mut WebSocket<Pipe>, piece: usize) -> Vec<Heard> {
        let sent = std::mem::take(&mut caller.get_mut().output);
        let mut heard = Vec::new();
        for bytes in sent.chunks(piece) {
            wire.feed(bytes);
            heard.extend(std::iter::from_fn(|| wire.next()));
        }
        heard
    }

    fn answer(wire: &mut Wire, caller: &mut WebSocket<Pipe>) -> Option<Message> {
        caller.get_mut().input.extend_from_slice(&wire.take_out()?);
        caller.read().ok()
    }

    #[test]
    fn messages_pass_in_any_pieces() {
        for piece in [1, 7, 4096, 1 << 20] {
            let (mut wire, mut caller) = pair(1 << 20);
            let long = "é".repeat(50_000);
            caller.send(Message::text(long.clone())).unwrap();
            caller.send(Message::Ping(Bytes::from_static(b"p"))).unwrap();
            caller.send(Message::text("second")).unwrap();
            assert_eq!(hear(&mut wire, &mut caller, piece), [Heard::Text(long.into()), Heard::Text("second".into())]);
            assert_eq!(answer(&mut wire, &mut caller), Some(Message::Pong(Bytes::from_static(b"p"))));
            wire.say("third".to_owned());
            assert_eq!(answer(&mut wire, &mut caller), Some(Message::text("third")));
            assert!(!wire.is_over() && wire.take_out().is_none());
        }
    }

    #[test]
    fn either_side_may_close() {
        let (mut wire, mut caller) = pair(100);
        caller.close(None).unwrap();
        assert_eq!(hear(&mut wire, &mut caller, 100), []);
        assert!(wire.is_over());
        assert!(matches!(answer(&mut wire, &mut caller), Some(Message::Close(_))));
        let (mut wire, mut caller) = pair(100);
        wire.close(CloseCode::Away, "x");
        wire.say("late".to_owned());
        assert!(wire.is_over() && !wire.is_done());
        assert!(matches!(answer(&mut wire, &mut caller), Some(Message::Close(Some(frame))) if frame.code == CloseCode::Away));
        let _ = caller.flush();
        assert_eq!(hear(&mut wire, &mut caller, 100), []);
        assert!(wire.is_done());
    }

    #[test]
    fn what_is_no_message_is_the_last_thing_that_is_heard() {
        let (mut wire, mut caller) = pair(100);
        caller.send(Message::text("x".repeat(101))).unwrap();
        caller.send(Message::text("y")).unwrap();
        assert_eq!(hear(&mut wire, &mut caller, 1000), [Heard::TooLong]);
        for broken in [&b"\x81\x05hello"[..], b"\xc1\x80abcd", b"\x81\x81\0\0\0\0\xff", b"\x83\x80abcd", b"\x80\x80abcd"] {
            let (mut wire, _) = pair(100);
            wire.feed(broken);
            assert_eq!((wire.next(), wire.next()), (Some(Heard::Broken), None), "{broken:?}");
            wire.close(CloseCode::Protocol, "x");
            assert!(wire.is_done() && wire.take_out().is_some());
        }
    }
}
