//! What an embedding easily confuses: numbers, dates, negations, directions, quotations, identifiers and names.
//!
//! Two questions may be near each other and still want opposite answers: "enable" and "disable", 5 and 50, Paris and
//! London. So each question's particulars are kept beside its vector, and an answer is only lent to a question with
//! the same ones. It errs towards different: that costs a request, the other mistake a wrong answer.
//!
//! The words known are English, German, French and Spanish. In other scripts every word is a particular. Within a kind
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

/// Changes with the words known, so that what other versions have stored never matches.
const VERSION: &[u8] = b"spillway-particulars-1\n";

/// Longer texts, in bytes, are one particular as a whole.
const LONGEST: usize = 16 * 1024;

/// The particulars of a text, as a hash that stays the same in every process.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Particulars(pub [u8; 16]);

impl Particulars {
    /// Those of a text.
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

/// Whether two texts agree in their particulars.
#[cfg(test)]
fn same(one: &str, other: &str) -> bool {
    Particulars::of(one) == Particulars::of(other)
}

/// The particulars, by kind, in order of the text.
fn found(text: &str) -> Vec<(Kind, String)> {
    // A document agrees with nothing but itself. That also bounds the time it takes.
    if text.len() > LONGEST {
        return vec![(Kind::Name, text.to_owned())];
    }
    let mut found = reader::read(text);
    found.sort_by_key(|(kind, _)| *kind);
    found
}
