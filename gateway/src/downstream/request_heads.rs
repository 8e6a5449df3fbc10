//! The heads of the requests on a connection, one after the other, without I/O: one that is like the one before is compared
//! (`known_head.rs`), any other of the strict form is parsed (`strict_head.rs`).

use bytes::{Buf as _, BytesMut};
use http::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;

use super::known_head::KnownHead;
use super::strict_head::{MAX_HEAD, Scan, StrictHead, scan};
use crate::http1::answer::has_blank_line;
use crate::http1::fields;

/// What the bytes of a connection begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// More bytes are needed.
    Incomplete,
    /// A head that Pingora reads.
    Other,
    /// A head of the strict form, which was taken.
    Request {
        /// Its length in bytes.
        head: usize,
        /// The length of the body.
        body: usize,
        /// Whether the caller closes the connection after the request.
        closes: bool,
    },
}

/// The head of the last request on a connection.
pub struct RequestHeads {
    head: RequestHeader,
    /// What the head was made of, as long as nobody has changed it.
    known: Option<Box<KnownHead>>,
    /// A bit for each name in the head, so that those that are not there need no search.
    names: u64,
    /// Bytes of the buffer in which no head ends.
    searched: usize,
}

/// The head of a connection that has no request.
fn nothing() -> RequestHeader {
    RequestHeader::from(http::Request::new(()).into_parts().0)
}

impl Default for RequestHeads {
    fn default() -> Self {
        RequestHeads { head: nothing(), known: None, names: 0, searched: 0 }
    }
}

impl RequestHeads {
    /// The head of the last request.
    pub fn head(&self) -> &RequestHeader {
        &self.head
    }

    /// The head of the last request, to change it.
    pub fn head_mut(&mut self) -> &mut RequestHeader {
        (self.known, self.names) = (None, u64::MAX);
        &mut self.head
    }

    /// The first value of a field of the head: for names that few requests have.
    pub fn rare_field(&self, name: &HeaderName) -> Option<&HeaderValue> {
        if self.names & fields::bit(name.as_str()) == 0 { None } else { self.head.headers.get(name) }
    }

    /// Whether the next head is compared with the last.
    pub fn knows(&self) -> bool {
        self.known.is_some()
    }

    /// Reads the head that `buffer` begins with. Pingora reads those whose body is longer than `max_body`.
    pub fn read(&mut self, buffer: &mut BytesMut, max_body: impl Fn() -> usize) -> Begin {
        // Empty lines after a body are not the beginning of a request.
        while buffer.starts_with(b"\r\n") {
            buffer.advance(2);
            self.searched = 0;
        }
        if buffer.is_empty() || buffer[..] == *b"\r" {
            return Begin::Incomplete;
        }
        // However a head is cut into reads, it is parsed twice at most.
        let parses = self.searched == 0 || buffer.len() >= MAX_HEAD || has_blank_line(&buffer[self.searched.saturating_sub(3)..]);
        if !parses {
            self.searched = buffer.len();
            return Begin::Incomplete;
        }
        self.searched = 0;
        if let Some(begin) = self.read_again(buffer, &max_body) {
            return begin;
        }
        match scan(buffer) {
            Scan::Incomplete => {
                self.searched = buffer.len();
                Begin::Incomplete
            }
            Scan::Strict(found) if found.body <= max_body() => self.read_new(buffer, found),
            Scan::Strict(_) | Scan::Other => Begin::Other,
        }
    }

    /// Reads a head that is like the one before; `None` if it isn't.
    fn read_again(&mut self, buffer: &mut BytesMut, max_body: impl Fn() -> usize) -> Option<Begin> {
        let known = self.known.as_mut()?;
        let again = known.again(buffer)?;
        if again.body > max_body() {
            return Some(Begin::Other);
        }
        if known.update(buffer, &again, &mut self.head).is_none() {
            self.known = None;
            return None;
        }
        buffer.advance(again.end);
        Some(Begin::Request { head: again.end, body: again.body, closes: known.closes() })
    }

    /// Reads a head of the strict form.
    fn read_new(&mut self, buffer: &mut BytesMut, found: StrictHead) -> Begin {
        self.known = None;
        let map = http::request::Parts::from(std::mem::replace(&mut self.head, nothing())).headers;
        let Some((head, raw)) = found.take(buffer, map) else { return Begin::Other };
        self.names = head.headers.keys().fold(0, |names, name| names | fields::bit(name.as_str()));
        self.head = head;
        let begin = Begin::Request { head: found.end, body: found.body, closes: found.closes };
        self.known = KnownHead::new(found, raw, &self.head).map(Box::new);
        begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n";

    /// What is read of bytes that come one after the other.
    fn one_by_one(heads: &mut RequestHeads, text: &str) -> Begin {
        let mut buffer = BytesMut::new();
        for (number, byte) in text.bytes().enumerate() {
            buffer.extend_from_slice(&[byte]);
            match heads.read(&mut buffer, || 1 << 20) {
                Begin::Incomplete => assert_eq!(buffer.len(), number + 1),
                begin => return begin,
            }
        }
        Begin::Incomplete
    }

    #[test]
    fn a_head_that_comes_in_single_bytes_is_the_same() {
        let mut heads = RequestHeads::default();
        let request = Begin::Request { head: HEAD.len(), body: 2, closes: false };
        for _ in 0..3 {
            assert_eq!(one_by_one(&mut heads, HEAD), request);
        }
        assert_eq!(one_by_one(&mut heads, &HEAD.replace("\r\n", "\n")), Begin::Other, "Pingora judges it");
        assert_eq!(one_by_one(&mut heads, &HEAD.replace("host: a", "host a")), Begin::Other);
        assert_eq!(one_by_one(&mut heads, &format!("POST /{}", "a".repeat(2 * MAX_HEAD))), Begin::Other, "too long");
        assert_eq!(one_by_one(&mut heads, &HEAD[..HEAD.len() - 1]), Begin::Incomplete);
    }
}
