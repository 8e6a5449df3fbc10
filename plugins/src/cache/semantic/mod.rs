//! Requests with the same meaning: which part of a request may differ, what must not, and how similar is similar
//! enough.
//!
//! Everything except the text of the last message must be equal (that is the [`Question::scope`]), and in that text
//! numbers, names, negations and the like ([`Particulars`]). Only then are the two embeddings compared.

mod index;
mod particulars;
mod question;
mod signature;

pub use index::{Index, Known, Near};
pub use particulars::Particulars;
pub use question::{Question, Scoping, question};
