//! Writes answers on a connection of the gateway's own: head, chunk lines and body in one system call.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, header};
use pingora::http::ResponseHeader;
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::date::get_cached_date;
use pingora::{Error, ErrorType};
use tokio::io::AsyncWrite;

use super::http1_session::{Http1Session, Sending};

/// The last chunk of a body (RFC 9112, 7.1).
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// What follows the data of a chunk, and of the last one that has data.
const AFTER_CHUNK: &[u8] = b"\r\n";
const AFTER_LAST: &[u8] = b"\r\n0\r\n\r\n";

/// A part of an answer as it is written.
struct Parts<'p> {
    /// The head, and the line before a chunk.
    before: &'p [u8],
    body: &'p [u8],
    after: &'static [u8],
}

impl Parts<'_> {
    fn len(&self) -> usize {
        self.before.len() + self.body.len() + self.after.len()
    }

    /// The bytes from `at` on.
    fn from(&self, mut at: usize) -> [IoSlice<'_>; 3] {
        [self.before, self.body, self.after].map(|part| {
            let skipped = at.min(part.len());
            at -= skipped;
            IoSlice::new(&part[skipped..])
        })
    }
}

impl Http1Session {
    /// Writes parts of an answer.
    ///
    /// # Errors
    /// If nothing more can be written to the caller.
    pub async fn write(&mut self, tasks: Vec<HttpTask>) -> pingora::Result<()> {
        let (mut before, mut body, mut over) = (BytesMut::new(), Bytes::new(), false);
        for task in tasks {
            match task {
                HttpTask::Header(head, end) => {
                    self.put_head(&head, &mut before);
                    over |= end;
                }
                HttpTask::Body(piece, end) => {
                    let piece = piece.unwrap_or_default();
                    body = if body.is_empty() { piece } else { [body, piece].concat().into() };
                    over |= end;
                }
                HttpTask::Done => over = true,
                HttpTask::Failed(error) => return Err(error),
                HttpTask::Trailer(_) | HttpTask::UpgradedBody(..) => {}
            }
        }
        self.write_parts(before, body, over).await
    }

    /// Writes the rest of a head with these fields, and the first bytes of its body.
    async fn write_parts(&mut self, mut before: BytesMut, body: Bytes, over: bool) -> pingora::Result<()> {
        let chunked = self.sending == Sending::Chunked;
        let after = match (chunked, body.is_empty(), over) {
            (true, true, true) => LAST_CHUNK,
            (true, false, true) => AFTER_LAST,
            (true, false, false) => AFTER_CHUNK,
            _ => &[],
        };
        if chunked && !body.is_empty() {
            put_size(body.len(), &mut before);
        }
        let parts = Parts { before: &before, body: &body, after };
        let mut written = 0;
        let done = poll_fn(|cx| poll_write(Pin::new(&mut self.socket), cx, &parts, &mut written)).await;
        if let Err(error) = done {
            self.keep = false;
            return Err(Error::because(ErrorType::WriteError, "writing to the caller", error).into_down());
        }
        if over {
            self.sending = Sending::Over;
        }
        Ok(())
    }

    fn put_head(&mut self, head: &ResponseHeader, out: &mut BytesMut) {
        out.reserve(1024);
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(head.status.as_str().as_bytes());
        out.extend_from_slice(b" ");
        out.extend_from_slice(head.get_reason_phrase().unwrap_or_default().as_bytes());
        out.extend_from_slice(b"\r\n");
        self.sending = Sending::Length;
        for (name, value) in &head.headers {
            if *name == header::DATE || *name == header::CONNECTION {
                continue;
            }
            if *name == header::TRANSFER_ENCODING {
                self.sending = Sending::Chunked;
            }
            put_field(name, value, out);
        }
        // A request whose body was not read to its end leaves no place where the next one could begin.
        self.keep &= self.body_left() == 0;
        put_field(&header::DATE, &get_cached_date(), out);
        out.extend_from_slice(if self.keep { b"connection: keep-alive\r\n\r\n" } else { b"connection: close\r\n\r\n" });
    }
}

fn put_field(name: &HeaderName, value: &HeaderValue, out: &mut BytesMut) {
    let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The line before the data of a chunk.
fn put_size(size: usize, out: &mut BytesMut) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    out.reserve(digits as usize + 2);
    out.extend((0..digits).rev().map(|digit| DIGITS[size >> (digit * 4) & 15]));
    out.extend_from_slice(b"\r\n");
}

fn poll_write<S: AsyncWrite>(mut socket: Pin<&mut S>, cx: &mut Context<'_>, parts: &Parts<'_>, written: &mut usize) -> Poll<io::Result<()>> {
    while *written < parts.len() {
        let slices = parts.from(*written);
        let mut filled = slices.iter().filter(|slice| !slice.is_empty());
        let more = match (filled.next(), filled.next()) {
            (Some(only), None) => ready!(socket.as_mut().poll_write(cx, only))?,
            _ => ready!(socket.as_mut().poll_write_vectored(cx, &slices))?,
        };
        if more == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        *written += more;
    }
    socket.poll_flush(cx)
}

#[cfg(test)]
mod tests;
