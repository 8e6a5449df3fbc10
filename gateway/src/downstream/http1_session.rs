//! A caller's connection on which the gateway itself speaks HTTP/1.1: one request of the strict form after the other.
//!
//! Nothing is reserved while nothing comes: an idle connection has no buffer, and no head of an earlier request.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType, OrErr};
use spillway_plugins::auth::certificate::CertificateNames;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::request_heads::{Begin, RequestHeads};
use super::socket::Socket;
use crate::scratch;
use crate::timer::Timer;

/// What comes next on a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A request with a head of the strict form.
    Request,
    /// A head that Pingora reads.
    Other,
    /// The caller has closed the connection, or it broke.
    Closed,
}

/// How the body of the answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    /// No head was written yet.
    Nothing,
    /// By its length, or it has no body.
    Length,
    /// By an empty chunk.
    Chunked,
    /// It has ended.
    Over,
}

/// Bytes that a head, and the beginning of its body, are read by.
const ROOM: usize = 4 * 1024;
/// Most bytes that are read at once because the last request on the connection was as long.
const MOST_ROOM: usize = 20 * 1024;
/// Most bytes that are reserved because a caller announced them.
const TRUSTED: usize = 1 << 20;
/// Most bytes of the next request that a caller may send while it waits for its answer.
const AHEAD: usize = 64 * 1024;

/// A caller's connection.
pub struct Http1Session {
    pub(super) socket: Socket,
    /// Bytes that were read and not used.
    buffer: BytesMut,
    heads: RequestHeads,
    /// Bytes of the body that were not handed on.
    left: usize,
    /// Room for the first read of a request: callers repeat themselves, and a request that is as long as the one before
    /// comes in one read.
    room: usize,
    pub(super) sending: Sending,
    /// Whether the connection may carry another request.
    pub(super) keep: bool,
    certificate: Option<CertificateNames>,
    write_timeout: Option<Duration>,
    /// For waiting within requests.
    pub(super) timer: Timer,
}

impl Http1Session {
    /// A connection that was just accepted.
    pub fn new(socket: Socket, certificate: Option<CertificateNames>) -> Self {
        Http1Session {
            socket,
            buffer: BytesMut::new(),
            heads: RequestHeads::default(),
            left: 0,
            room: ROOM,
            sending: Sending::Over,
            keep: true,
            certificate,
            write_timeout: None,
            timer: Timer::default(),
        }
    }

    /// The connection, and the bytes that were read and not used.
    pub fn into_parts(self) -> (Socket, BytesMut, Option<CertificateNames>) {
        (self.socket, self.buffer, self.certificate)
    }

    /// The head of the request.
    pub fn head(&self) -> &RequestHeader {
        self.heads.head()
    }

    /// The head of the request, to change it.
    pub fn head_mut(&mut self) -> &mut RequestHeader {
        self.heads.head_mut()
    }

    /// The first value of a field of the head: for names that few requests have.
    pub fn rare_field(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.heads.rare_field(name)
    }

    /// The names in the client certificate of the connection.
    pub fn certificate(&self) -> Option<&CertificateNames> {
        self.certificate.as_ref()
    }

    /// Whether bytes of the next request have come.
    pub fn has_begun(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Bytes of the body that were not handed on.
    pub fn body_left(&self) -> usize {
        self.left
    }

    /// Whether all bytes of the body are there.
    pub fn has_whole_body(&self) -> bool {
        self.buffer.len() >= self.left
    }

    /// Whether another request may come: the last one was read and answered to its end.
    pub fn stays(&self) -> bool {
        self.keep && self.left == 0 && self.sending == Sending::Over
    }

    /// How long a write may take.
    pub fn write_timeout(&self) -> Option<Duration> {
        self.write_timeout
    }

    /// Limits the time of a write.
    pub fn set_write_timeout(&mut self, limit: Duration) {
        self.write_timeout = Some(limit);
    }

    /// The connection ends after the next answer.
    pub fn close_after(&mut self) {
        self.keep = false;
    }

    /// Gives back what an idle connection doesn't need.
    pub fn rest(&mut self) {
        self.heads = RequestHeads::default();
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        self.timer = Timer::default();
    }

    /// Ends the connection.
    pub async fn end(&mut self) {
        self.keep = false;
        let _ = poll_fn(|cx| Pin::new(&mut self.socket).poll_shutdown(cx)).await;
    }

    /// Waits for the next request. Pingora takes those whose body is longer than `max_body`.
    pub fn poll_next(&mut self, cx: &mut Context<'_>, max_body: impl Fn() -> usize) -> Poll<Next> {
        loop {
            match self.heads.read(&mut self.buffer, &max_body) {
                Begin::Incomplete => {}
                Begin::Other => return Poll::Ready(Next::Other),
                Begin::Request { head, body, closes } => {
                    self.begin_request(head, body, closes);
                    return Poll::Ready(Next::Request);
                }
            }
            let room = if self.buffer.is_empty() { self.room } else { ROOM };
            match ready!(self.poll_fill(cx, room)) {
                Ok(0) | Err(_) => return Poll::Ready(Next::Closed),
                Ok(_) => {}
            }
        }
    }

    fn begin_request(&mut self, head: usize, body: usize, closes: bool) {
        self.left = body;
        self.room = (head + body).clamp(ROOM, MOST_ROOM).next_multiple_of(ROOM);
        self.sending = Sending::Nothing;
        self.keep &= !closes;
    }

    /// Reads more bytes; 0 at the end of the connection. `room` bytes are reserved once some are there.
    fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        if self.buffer.is_empty() {
            match &mut self.socket {
                Socket::Plain(tcp) if room > scratch::LENGTH => ready!(tcp.poll_read_ready(cx))?,
                // TLS doesn't tell whether bytes are there without reading them.
                socket => return scratch::poll_read(socket, cx, &mut self.buffer),
            }
        }
        let enough = if self.buffer.is_empty() { room } else { room.min(ROOM) };
        if self.buffer.capacity() - self.buffer.len() < enough {
            self.buffer.reserve(room);
        }
        let read = std::pin::pin!(tokio::io::AsyncReadExt::read_buf(&mut self.socket, &mut self.buffer));
        read.poll(cx)
    }

    /// Waits for more bytes of the body. Returns how many are there that were not handed on, all in one piece.
    ///
    /// # Errors
    /// If the connection ends before the body.
    pub async fn gather(&mut self) -> pingora::Result<usize> {
        let there = self.buffer.len().min(self.left);
        if there == self.left {
            return Ok(there);
        }
        let missing = (self.left - there).min(TRUSTED);
        let read = poll_fn(|cx| self.poll_fill(cx, missing)).await.or_err(ErrorType::ReadError, "a body")?;
        if read == 0 {
            return Err(Error::explain(ErrorType::ConnectionClosed, "a body ended early").into_down());
        }
        Ok(self.buffer.len().min(self.left))
    }

    /// The bytes of the body that are there.
    pub fn take_body(&mut self) -> Bytes {
        let there = self.buffer.len().min(self.left);
        self.left -= there;
        self.buffer.split_to(there).freeze()
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// If the connection ends before the body.
    pub async fn read_body(&mut self) -> pingora::Result<Option<Bytes>> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.buffer.is_empty() {
            self.gather().await?;
        }
        Ok(Some(self.take_body()))
    }

    /// Is ready when the caller has left. Bytes that it sends meanwhile are kept for the next request.
    pub fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Socket::Plain(tcp) = &self.socket
                && tcp.poll_read_ready(cx).is_pending()
            {
                return Poll::Pending;
            }
            let mut piece = [0; 512];
            let mut read = ReadBuf::new(&mut piece);
            let came = match ready!(Pin::new(&mut self.socket).poll_read(cx, &mut read)) {
                Ok(()) => read.filled(),
                Err(_) => &[],
            };
            if came.is_empty() || self.buffer.len() + came.len() > AHEAD {
                self.keep = false;
                return Poll::Ready(());
            }
            self.buffer.extend_from_slice(came);
        }
    }
}

#[cfg(test)]
mod tests;
