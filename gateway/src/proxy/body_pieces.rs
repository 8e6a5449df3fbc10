//! Pieces of an answer that are held back.

use bytes::Bytes;
use smallvec::SmallVec;

/// Pieces of an answer.
pub(super) type BodyPieces = SmallVec<[Bytes; 4]>;

/// The pieces as one; a single piece is not copied.
pub(super) fn joined(pieces: &BodyPieces) -> Bytes {
    if let [whole] = pieces.as_slice() { whole.clone() } else { pieces.concat().into() }
}
