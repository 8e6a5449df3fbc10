//! The head of an answer to a caller.

use http::{HeaderName, StatusCode};
use pingora::http::ResponseHeader;

use crate::http1::fields::{FieldLines, HeadFields};

/// Room for a usual head, so that it isn't grown.
const ROOM: usize = 1024;

/// A head.
#[derive(Debug, Clone)]
pub struct ReplyHead {
    /// The status.
    pub status: StatusCode,
    /// When it is sent, in seconds since 1970, for its `date`. A stage that knows it sets it, so that the clock is not asked
    /// again; otherwise it is set as the head is sent. Pingora dates what it writes itself.
    pub sent_at: Option<i64>,
    fields: FieldLines,
}

impl ReplyHead {
    /// A head without fields.
    pub fn new(status: StatusCode) -> Self {
        ReplyHead { status, sent_at: None, fields: FieldLines::behind(Vec::with_capacity(ROOM)) }
    }

    /// Adds a field of another head. `name` is in small letters, and `value` has no control characters: a parser has
    /// checked both.
    pub fn add_parsed(&mut self, name: &str, value: &[u8]) {
        self.fields.add_parsed(name, value);
    }

    /// The first value of a field, whose name is given in small letters.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.fields.get(name)
    }

    /// The fields in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter()
    }

    /// Whether the body is sent in chunks.
    pub fn is_chunked(&self) -> bool {
        self.get("transfer-encoding").is_some()
    }

    /// The lines of the fields as they are written, without those that each connection has of its own. More may be added
    /// behind them.
    pub(super) fn into_lines(mut self) -> Vec<u8> {
        for name in ["date", "connection"] {
            self.fields.remove_named(name);
        }
        self.fields.into_text()
    }

    /// The same for Pingora.
    pub fn to_pingora(&self) -> Box<ResponseHeader> {
        let (mut parts, ()) = http::Response::new(()).into_parts();
        parts.status = self.status;
        parts.headers = self.fields.to_map();
        Box::new(ResponseHeader::from(parts))
    }
}

impl HeadFields for ReplyHead {
    fn add(&mut self, name: &HeaderName, value: &[u8]) {
        self.fields.add(name, value);
    }

    fn add_own(&mut self, name: &HeaderName, value: &[u8]) {
        self.fields.add_own(name, value);
    }

    fn remove(&mut self, name: &HeaderName) {
        self.fields.remove(name);
    }

    fn remove_where(&mut self, is_so: impl Fn(&str) -> bool) {
        self.fields.remove_where(is_so);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_connection_says_itself_is_left_out() {
        let mut head = ReplyHead::new(StatusCode::OK);
        for name in ["date", "x-a", "connection", "content-length"] {
            head.add_parsed(name, b"1");
        }
        assert_eq!(head.into_lines(), &b"x-a: 1\r\ncontent-length: 1\r\n"[..]);
    }

    #[test]
    fn pingora_gets_the_same_fields() {
        let mut head = ReplyHead::new(StatusCode::ACCEPTED);
        head.add_parsed("x-a", b"1");
        head.add_parsed("x-a", b"2");
        let theirs = head.to_pingora();
        assert_eq!((theirs.status, theirs.headers.get_all("x-a").iter().count()), (StatusCode::ACCEPTED, 2));
    }
}
