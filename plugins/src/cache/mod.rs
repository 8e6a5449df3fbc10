//! Answers that needn't be asked for again: what a request's key is, what may be kept, and what is kept.
//!
//! No I/O: who fetches, waits and answers is the gateway.

mod directive;
mod entry;
mod key;
mod memory;
mod owner;
mod rules;
pub mod semantic;

pub use directive::{BYPASS, Directive};
pub use entry::{Entry, EntryError};
pub use key::{CacheKey, key};
pub use memory::Memory;
pub use owner::Owner;
pub use rules::{Keeping, Suits, may_keep, suits};
