//! `spillway rehearse`: the user's own config against every fault that it may meet, in one process, on virtual time and
//! without a network. See `docs/rehearse.md`.
//!
//! | room | idea |
//! |---|---|
//! | [`run`] | all faults of a config: a plan, a play and a measure of each |
//! | [`plan`] | which faults it can meet, and the requests for each |
//! | `play` | one fault from beginning to end, with stand-ins for everything beyond this process |
//! | `measure` | what it showed, in numbers |
//! | [`findings`] | what should be changed: a file for each kind |
//! | [`report`] | as text, and as a page |
//!
//! What they hand to each other: a key of the file and its line ([`place`]), what can go wrong ([`fault`]), what it showed
//! ([`outcome`]), what should be changed ([`finding`]).

pub mod fault;
pub mod finding;
pub mod findings;
mod measure;
pub mod outcome;
pub mod place;
pub mod plan;
mod play;
pub mod report;
pub mod run;

pub use play::RehearsalError;
#[cfg(test)]
pub(crate) use play::idle;
pub(crate) use play::temporary::remove_all;
