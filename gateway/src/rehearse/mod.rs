//! `spillway rehearse`: the user's own config against every fault that it may meet, in one process, on virtual time and
//! without a network.
//!
//! [`place`] finds lines of the file; [`fault`] says what can go wrong for a config; [`outcome`] holds what a fault showed;
//! [`finding`] is what should be changed, and [`findings`] has a file for each kind of it.

pub mod fault;
pub mod finding;
pub mod findings;
pub mod outcome;
pub mod place;
