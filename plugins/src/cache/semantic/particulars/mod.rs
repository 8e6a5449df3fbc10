//! Particulars: what an embedding easily confuses, such as numbers, dates, negations, directions, quotations,
//! identifiers and names.
//!
//! Two questions may have similar embeddings and still need opposite answers: "enable" and "disable", 5 and 50, Paris
//! and London. So each question's particulars are stored with its vector, and an answer is only used for a question
//! with the same ones. In doubt two questions count as different: that costs a request, the opposite mistake costs a
//! wrong answer.
//!
//! The known words are English, German, French and Spanish. In other scripts every word is a particular. Within a kind
//! the order counts (from Paris to London), between kinds it doesn't.

mod kind;
mod numbers;
mod quotes;
mod reader;
#[cfg(test)]
mod tests;
mod words;

use std::fmt;

use sha2::{Digest, Sha256};

use kind::Kind;

/// Must change with the known words, so that entries of other versions never match.
const VERSION: &[u8] = b"spillway-particulars-2\n";

/// A longer text, in bytes, is one particular as a whole.
const LONGEST: usize = 16 * 1024;

/// The particulars of a text, as a hash that is the same in every process.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Particulars(pub [u8; 16]);

impl Particulars {
    /// The particulars of a text.
    pub fn of(text: &str) -> Particulars {
        let mut hash = Sha256::new_with_prefix(VERSION);
        for (kind, value) in found(text) {
            hash.update([kind as u8]);
            hash.update((value.len() as u64).to_be_bytes());
            hash.update(value);
        }
        let mut short = [0; 16];
        short.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
        Particulars(short)
    }
}

impl fmt::Debug for Particulars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Whether two texts have the same particulars.
#[cfg(test)]
fn same(one: &str, other: &str) -> bool {
    Particulars::of(one) == Particulars::of(other)
}

/// The particulars with their kinds, in the order of the text.
fn found(text: &str) -> Vec<(Kind, String)> {
    // A document matches only itself. That also limits the time.
    if text.len() > LONGEST {
        return vec![(Kind::Name, text.to_owned())];
    }
    let mut found = reader::read(text);
    found.sort_by_key(|(kind, _)| *kind);
    found
}
