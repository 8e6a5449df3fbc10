//! Writes answers on a connection of the gateway's own: head, chunk lines and body in one system call.

use std::borrow::Cow;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use pingora::{Error, ErrorType};
use tokio::io::AsyncWrite;

use super::date;
use super::http1_session::{Http1Session, Sending};
use super::reply_head::ReplyHead;
use crate::joined_write;

/// The last chunk of a body (RFC 9112, 7.1).
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// What follows the data of a chunk, and of the last one that has data.
const AFTER_CHUNK: &[u8] = b"\r\n";
const AFTER_LAST: &[u8] = b"\r\n0\r\n\r\n";

/// A part of an answer as it is written.
struct Parts<'p> {
    line: &'p [u8],
    /// The fields of the head.
    fields: &'p [u8],
    /// The line before a chunk.
    size: &'p [u8],
    body: &'p [u8],
    after: &'static [u8],
}

impl Parts<'_> {
    fn len(&self) -> usize {
        self.line.len() + self.fields.len() + self.size.len() + self.body.len() + self.after.len()
    }

    /// The bytes from `at` on.
    fn from(&self, mut at: usize) -> [IoSlice<'_>; 5] {
        [self.line, self.fields, self.size, self.body, self.after].map(|part| {
            let skipped = at.min(part.len());
            at -= skipped;
            IoSlice::new(&part[skipped..])
        })
    }
}

impl Http1Session {
    /// Writes a part of an answer: its head, bytes of its body, and with `over` its end.
    ///
    /// # Errors
    /// If nothing more can be written to the caller.
    pub async fn write(&mut self, head: Option<ReplyHead>, body: Bytes, over: bool) -> pingora::Result<()> {
        let (line, fields) = match head {
            Some(head) => (status_line(head.status), self.begin(head)),
            None => (Cow::Borrowed(&[][..]), Vec::new()),
        };
        self.write_parts(&line, &fields, body, over).await
    }

    /// Writes bytes of a body whose head was written, and with `over` its end.
    ///
    /// # Errors
    /// If nothing more can be written to the caller.
    pub async fn write_body(&mut self, body: Bytes, over: bool) -> pingora::Result<()> {
        self.write_parts(&[], &[], body, over).await
    }

    async fn write_parts(&mut self, line: &[u8], fields: &[u8], body: Bytes, over: bool) -> pingora::Result<()> {
        let chunked = self.sending == Sending::Chunked;
        let after = match (chunked, body.is_empty(), over) {
            (true, true, true) => LAST_CHUNK,
            (true, false, true) => AFTER_LAST,
            (true, false, false) => AFTER_CHUNK,
            _ => &[],
        };
        let (size, begin) = size_line(body.len());
        let size = if chunked && !body.is_empty() { &size[begin..] } else { &[] };
        let parts = Parts { line, fields, size, body: &body, after };
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

    /// The lines of a head to its end. What follows it is sent in the way that it says.
    fn begin(&mut self, head: ReplyHead) -> Vec<u8> {
        self.sending = if head.is_chunked() { Sending::Chunked } else { Sending::Length };
        // A request whose body was not read to its end leaves no place where the next one could begin.
        self.keep &= self.body_left() == 0;
        let sent_at = head.sent_at;
        let mut lines = head.into_lines();
        if let Some(second) = sent_at {
            date::write_line(second, &mut lines);
        }
        lines.extend_from_slice(if self.keep { b"connection: keep-alive\r\n\r\n" } else { b"connection: close\r\n\r\n" });
        lines
    }
}

/// The first line of an answer (RFC 9112, 4).
fn status_line(status: StatusCode) -> Cow<'static, [u8]> {
    if status == StatusCode::OK {
        return Cow::Borrowed(b"HTTP/1.1 200 OK\r\n");
    }
    format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or_default()).into_bytes().into()
}

/// The line before the data of a chunk, at the end of an array, and where it begins.
fn size_line(mut size: usize) -> ([u8; 18], usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut line = *b"0000000000000000\r\n";
    let mut begin = line.len() - AFTER_CHUNK.len();
    loop {
        begin -= 1;
        line[begin] = DIGITS[size & 15];
        size >>= 4;
        if size == 0 || begin == 0 {
            return (line, begin);
        }
    }
}

fn poll_write<S: AsyncWrite>(
    mut socket: Pin<&mut S>,
    cx: &mut Context<'_>,
    parts: &Parts<'_>,
    written: &mut usize,
) -> Poll<io::Result<()>> {
    while *written < parts.len() {
        let more = ready!(joined_write::poll_write(socket.as_mut(), cx, &parts.from(*written)))?;
        if more == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        *written += more;
    }
    socket.poll_flush(cx)
}

#[cfg(test)]
mod tests;
