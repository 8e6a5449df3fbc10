//! A copy of an answer as it is sent to the caller, for the cache or the prompt log.

use bytes::Bytes;

/// A copy of an answer, up to a limit.
#[derive(Debug)]
pub struct Record {
    bytes: Vec<u8>,
    length: usize,
    limit: usize,
}

impl Record {
    /// A copy of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Record { bytes: Vec::new(), length: 0, limit }
    }

    /// Adds a piece. Bytes beyond the limit are only counted. The bytes are copied, because a piece may keep a much
    /// larger allocation alive.
    pub fn push(&mut self, piece: &Bytes) {
        let room = self.limit - self.bytes.len();
        self.bytes.extend_from_slice(&piece[..piece.len().min(room)]);
        self.length += piece.len();
    }

    /// Whether no bytes came.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether the copy is complete.
    pub fn is_whole(&self) -> bool {
        self.length <= self.limit
    }

    /// The copied bytes.
    pub fn bytes(self) -> Bytes {
        self.bytes.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded() {
        let mut record = Record::new(5);
        record.push(&Bytes::from_static(b"abc"));
        assert!(record.is_whole());
        record.push(&Bytes::from_static(b"def"));
        record.push(&Bytes::from_static(b"ghi"));
        assert!(!record.is_whole());
        assert_eq!(&record.bytes()[..], b"abcde");
    }
}
