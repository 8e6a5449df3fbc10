//! What is still to be sent of a request: pieces that go out together.

use std::io::IoSlice;

use bytes::{Buf as _, Bytes};
use smallvec::SmallVec;

/// Most pieces of one write.
pub const MOST_SLICES: usize = 16;

/// Pieces in their order.
#[derive(Debug, Default)]
pub struct Unsent {
    pieces: SmallVec<[Bytes; 4]>,
    /// The first one that is not sent.
    first: usize,
}

impl Unsent {
    /// These pieces.
    pub fn new(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let mut unsent = Unsent { pieces: pieces.into_iter().collect(), first: 0 };
        unsent.sent(0);
        unsent
    }

    /// Whether everything is sent.
    pub fn is_empty(&self) -> bool {
        self.first == self.pieces.len()
    }

    /// Puts the next pieces into `slices`, and returns how many there are.
    pub fn slices<'p>(&'p self, slices: &mut [IoSlice<'p>; MOST_SLICES]) -> usize {
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces[self.first..]) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    /// This many bytes are sent.
    pub fn sent(&mut self, mut bytes: usize) {
        while let Some(piece) = self.pieces.get_mut(self.first) {
            let part = bytes.min(piece.len());
            piece.advance(part);
            bytes -= part;
            if !piece.is_empty() {
                return;
            }
            self.first += 1;
        }
        *self = Unsent::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(unsent: &Unsent) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); MOST_SLICES];
        let count = unsent.slices(&mut slices);
        slices[..count].iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn what_was_sent_is_gone_whatever_it_was_cut_into() {
        for step in 1..8 {
            let mut unsent = Unsent::new(["", "ab", "", "cdef", "g", ""].map(|piece| Bytes::from_static(piece.as_bytes())));
            let mut sent = 0;
            while !unsent.is_empty() {
                assert_eq!(left(&unsent), b"abcdefg"[sent..], "{step}");
                let part = step.min(7 - sent);
                unsent.sent(part);
                sent += part;
            }
            assert_eq!(sent, 7);
        }
        assert!(Unsent::new([Bytes::new()]).is_empty() && Unsent::new([]).is_empty());
    }

    #[test]
    fn one_write_has_a_bounded_number_of_pieces() {
        let unsent = Unsent::new((0..2 * MOST_SLICES).map(|_| Bytes::from_static(b"x")));
        assert_eq!(left(&unsent).len(), MOST_SLICES);
    }
}
