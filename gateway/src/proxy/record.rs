//! A copy of an answer as it goes to the caller, for whoever wants to keep it.

use bytes::Bytes;

/// The pieces of an answer, as far as they are wanted.
#[derive(Debug)]
pub struct Record {
    pieces: Vec<Bytes>,
    length: usize,
    limit: usize,
}

impl Record {
    /// Of an answer of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Record { pieces: Vec::new(), length: 0, limit }
    }

    /// Takes a piece. Those past the limit are only counted.
    pub fn push(&mut self, piece: &Bytes) {
        if self.length < self.limit && !piece.is_empty() {
            self.pieces.push(piece.clone());
        }
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

    /// All that was taken, in memory of its own: the pieces may hold on to far more than themselves.
    pub fn bytes(&self) -> Bytes {
        let mut whole = Vec::with_capacity(self.length.min(self.limit));
        for piece in &self.pieces {
            whole.extend_from_slice(piece);
        }
        whole.truncate(self.limit);
        whole.into()
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
