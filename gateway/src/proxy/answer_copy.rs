//! A copy of an answer as it is sent to the caller, for the cache or the prompt log.

use bytes::Bytes;

/// A copy of an answer, up to a limit.
#[derive(Debug)]
pub struct AnswerCopy {
    /// All of the answer, if it came in one piece.
    whole: Option<Bytes>,
    bytes: Vec<u8>,
    length: usize,
    limit: usize,
}

impl AnswerCopy {
    /// A copy of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        AnswerCopy { whole: None, bytes: Vec::new(), length: 0, limit }
    }

    /// Takes an answer that came in one piece, which ends before anything else is waited for: so it needs no copy.
    pub fn take(&mut self, whole: &Bytes) {
        if self.length == 0 && whole.len() <= self.limit {
            self.length = whole.len();
            self.whole = Some(whole.clone());
        } else {
            self.push(whole);
        }
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
        self.whole.unwrap_or_else(|| self.bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded() {
        let mut record = AnswerCopy::new(5);
        record.push(&Bytes::from_static(b"abc"));
        assert!(record.is_whole());
        record.push(&Bytes::from_static(b"def"));
        record.push(&Bytes::from_static(b"ghi"));
        assert!(!record.is_whole());
        assert_eq!(&record.bytes()[..], b"abcde");
        for (length, is_whole) in [(4, true), (5, true), (6, false)] {
            let mut record = AnswerCopy::new(5);
            record.take(&vec![b'x'; length].into());
            assert_eq!((record.is_whole(), record.is_empty(), record.bytes().len()), (is_whole, false, length.min(5)));
        }
    }
}
