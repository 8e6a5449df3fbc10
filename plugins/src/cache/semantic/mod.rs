//! Requests that mean the same: which part of a request may differ, what must not, and how near is near.
//!
//! Everything but the text of the last message must be equal (that is the [`Question::scope`]), and of that text
//! numbers, names, negations and the like ([`Particulars`]). Only then the nearness of two embeddings counts.

mod index;
mod particulars;
mod question;
mod signature;

pub use index::{Index, Known, Near};
pub use particulars::Particulars;
pub use question::{Question, Scoping, question};
