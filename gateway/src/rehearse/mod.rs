//! `spillway rehearse`: the user's own config against every fault that it may meet, in one process, on virtual time and
//! without a network. See `docs/rehearse.md`.
//!
//! | file | idea |
//! |---|---|
//! | [`place`] | a key of the file, and its line |
//! | [`fault`] | what can go wrong |
//! | [`derive`] | which faults a config can meet |
//! | `staging` | the config with everything replaced that reaches beyond this process |
//! | `wall`, `services` | stand-ins for backends, token services, issuers, Redis |
//! | `credential`, `traffic`, `client` | who calls, when, and what the caller sees |
//! | `idle` | time that jumps on when nothing happens |
//! | `play` | one fault from beginning to end |
//! | [`run`] | all of them |
//! | `figures`, `sums`, `alerts` | what a fault showed, in numbers, and which alerts it sets off |
//! | [`outcome`] | all of it as data |
//! | [`finding`], [`findings`] | what should be changed: a file for each kind |
//! | [`report`] | as text, and as a page |

mod alerts;
mod client;
mod credential;
pub mod derive;
pub mod fault;
mod figures;
pub mod finding;
pub mod findings;
pub(crate) mod idle;
pub mod outcome;
pub mod place;
mod play;
pub mod report;
pub mod run;
mod services;
mod staging;
mod sums;
mod temporary;
mod traffic;
mod wall;

pub use play::RehearsalError;
pub(crate) use temporary::remove_all;
