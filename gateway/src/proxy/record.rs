//! A copy of an answer as it goes to the caller, for whoever wants to keep it.

use bytes::Bytes;

/// An answer, as far as it is wanted.
#[derive(Debug)]
pub struct Record {
    bytes: Vec<u8>,
    length: usize,
    limit: usize,
}

impl Record {
    /// Of an answer of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Record { bytes: Vec::new(), length: 0, limit }
    }

    /// Takes a piece. What is past the limit is only counted. Copied: a piece may hold on to far more than itself.
    pub fn push(&mut self, piece: &Bytes) {
        let room = self.limit - self.bytes.len();
        self.bytes.extend_from_slice(&piece[..piece.len().min(room)]);
        self.length += piece.len();
    }

    /// Whether nothing came.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether all of it is here.
    pub fn is_whole(&self) -> bool {
        self.length <= self.limit
    }

    /// All that was taken.
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
