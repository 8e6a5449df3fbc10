//! One exchange on a connection: sends a request, reads its answer.
//!
//! An answer may come while the request is still being sent. It is read then, and the rest of the request is sent as far
//! as the backend takes it, so that neither side waits for the other.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};

use super::answer::{Answer, BadAnswer};
use super::chunks::Piece;
use super::idle::IdleConnections;
use super::remote::Remote;
use super::transport::{News, Transport};
use super::unsent::{MOST_SLICES, Unsent};

/// Room for the first read: a head and 16 KiB of the body.
const FIRST: usize = 20 * 1024;
/// Bounds of the room for later reads. It grows while reads fill it.
const ROOM: (usize, usize) = (4 * 1024, 64 * 1024);

/// Pieces of a body that are shorter than this are joined.
const JOINED: usize = 4 * 1024;

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The connection ended or broke before a byte of the answer came.
    #[error("the connection was closed without an answer")]
    NoAnswer,
    /// The connection broke within the answer.
    #[error("the connection broke: {0}")]
    Broke(#[from] io::Error),
    /// What came is no answer.
    #[error("{0}")]
    Answer(#[from] BadAnswer),
}

/// A connection with an exchange on it.
#[derive(Debug)]
pub struct Connection {
    remote: Arc<Remote>,
    transport: Transport,
    unsent: Unsent,
    /// Whether something was written that the transport has not sent.
    unflushed: bool,
    /// Whether the whole request was sent.
    sent: bool,
    answer: Answer,
    /// Whether a byte of the answer came.
    begun: bool,
    /// Whether short pieces of the body that were read together are handed on as one.
    joins: bool,
    /// Why nothing more can be read, if that is not reported yet.
    failed: Option<BadAnswer>,
    /// Bytes that were read and not yet taken.
    buffer: BytesMut,
    room: usize,
}

impl Connection {
    /// On a connection to `remote`, either new or idle.
    pub fn new(remote: Arc<Remote>, transport: Transport) -> Self {
        Connection {
            remote,
            transport,
            unsent: Unsent::default(),
            unflushed: false,
            sent: false,
            answer: Answer::new(false),
            begun: false,
            joins: false,
            failed: None,
            buffer: BytesMut::new(),
            room: ROOM.0,
        }
    }

    /// Begins an exchange with this request, whose head is the first piece; `to_head` if it is a `HEAD`.
    pub fn begin(&mut self, request: impl IntoIterator<Item = Bytes>, to_head: bool) {
        (self.unsent, self.unflushed, self.sent) = (Unsent::new(request), true, false);
        (self.answer, self.begun) = (Answer::new(to_head), false);
        (self.joins, self.failed) = (false, None);
    }

    /// Sends the request, as much as possible in one write. It is also ready if the answer has come or the connection takes
    /// nothing more: then it is time to read.
    ///
    /// # Errors
    /// [`ExchangeError`], of an answer that came meanwhile.
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ExchangeError>> {
        if self.poll_write(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        self.poll_answer(cx)
    }

    /// Reads the head of the answer.
    ///
    /// # Errors
    /// [`ExchangeError`]
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ExchangeError>> {
        let _ = self.poll_write(cx);
        self.poll_answer(cx)
    }

    /// Reads the next bytes of the body; `None` at its end.
    ///
    /// # Errors
    /// [`ExchangeError`]
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ExchangeError>> {
        let _ = self.poll_write(cx);
        if let Some(failed) = self.failed.take() {
            return Poll::Ready(Err(failed.into()));
        }
        loop {
            match self.answer.read_body(&mut self.buffer)? {
                Piece::Data(bytes) => return Poll::Ready(Ok(Some(if self.joins { self.with_next(bytes) } else { bytes }))),
                Piece::End => return Poll::Ready(Ok(None)),
                Piece::More => {}
            }
            let left = usize::try_from(self.answer.left()).unwrap_or(usize::MAX);
            let room = self.room.max(left.min(ROOM.1));
            let count = ready!(self.poll_fill(cx, room))?;
            self.room = match count {
                0 => {
                    self.answer.closed()?;
                    self.room
                }
                count if count >= self.room => self.room * 2,
                count if count < self.room / 4 => self.room / 2,
                _ => self.room,
            }
            .clamp(ROOM.0, ROOM.1);
        }
    }

    /// From here on, short pieces that come in one read, such as several events of a stream, are handed on as one.
    pub fn join_short_pieces(&mut self) {
        self.joins = true;
    }

    /// From here on the answer comes in short pieces, over some time: see [`Transport::acknowledge_late`].
    pub fn acknowledge_late(&self) {
        self.transport.acknowledge_late();
    }

    /// A short piece, together with those that were read with it.
    fn with_next(&mut self, piece: Bytes) -> Bytes {
        let mut joined = BytesMut::new();
        while !self.buffer.is_empty() && joined.len().max(piece.len()) < JOINED {
            match self.answer.read_body(&mut self.buffer) {
                Ok(Piece::Data(next)) => {
                    if joined.is_empty() {
                        joined.reserve(piece.len() + next.len() + self.buffer.len());
                        joined.extend_from_slice(&piece);
                    }
                    joined.extend_from_slice(&next);
                }
                Ok(Piece::End | Piece::More) => break,
                Err(error) => {
                    // What came before it comes first.
                    self.failed = Some(error);
                    break;
                }
            }
        }
        if joined.is_empty() { piece } else { joined.freeze() }
    }

    /// The answer, as far as it was read.
    pub fn answer(&self) -> &Answer {
        &self.answer
    }

    /// Whether another request can use the connection once this answer is over.
    pub fn may_be_kept(&self) -> bool {
        self.sent && self.answer.keeps_alive()
    }

    /// Whether it answers with success what it can't have read yet: that is the answer to something else.
    pub fn is_answered_too_soon(&self) -> bool {
        !self.sent && self.answer.head().is_some_and(|head| head.status.is_success())
    }

    /// A backend whose answers can't be told apart: no connection to it is used again for a while.
    pub fn distrust(&self) {
        self.remote.distrust();
    }

    /// Keeps the connection for another request if its answer was read to its end; otherwise closes it. Bytes that were read
    /// with the answer and are behind it are never taken for another one.
    pub fn release(self, idle: &IdleConnections) {
        if !self.answer.is_over() {
            return;
        }
        if News::of(&self.buffer) == News::Stray {
            self.distrust();
        }
        if self.may_be_kept() && self.buffer.is_empty() {
            self.remote.keep(self.transport, idle);
        }
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ExchangeError>> {
        while !self.answer.read_head(&mut self.buffer)? {
            match ready!(self.poll_fill(cx, FIRST)) {
                Ok(0) if self.begun => return Poll::Ready(Err(BadAnswer::Cut.into())),
                Err(error) if self.begun => return Poll::Ready(Err(error.into())),
                Ok(0) | Err(_) => return Poll::Ready(Err(ExchangeError::NoAnswer)),
                Ok(_) => self.begun = true,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        let filled = self.transport.poll_fill(cx, &mut self.buffer, room);
        if filled.is_pending() && self.buffer.is_empty() {
            // A quiet stream keeps no memory.
            self.buffer = BytesMut::new();
        }
        filled
    }

    /// Writes what is left of the request. It is ready if nothing is, or nothing more can be written.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.unsent.is_empty() {
            let mut slices = [IoSlice::new(&[]); MOST_SLICES];
            let count = self.unsent.slices(&mut slices);
            match ready!(self.transport.poll_write(cx, &slices[..count])) {
                Ok(written) if written > 0 => self.unsent.sent(written),
                Ok(_) | Err(_) => return self.stop_writing(),
            }
        }
        if self.unflushed {
            match ready!(self.transport.poll_flush(cx)) {
                Ok(()) => (self.unflushed, self.sent) = (false, true),
                Err(_) => return self.stop_writing(),
            }
        }
        Poll::Ready(())
    }

    /// A backend may answer and close before it has read the whole request: what it answered is read.
    fn stop_writing(&mut self) -> Poll<()> {
        (self.unsent, self.unflushed) = (Unsent::default(), false);
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests;
