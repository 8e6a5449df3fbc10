//! The cache: keys of requests, rules for what may be cached, and the stored answers.
//!
//! No I/O: the gateway fetches, waits and answers.

mod directive;
mod entry;
mod index;
mod key;
mod key_hash;
mod key_kind;
mod memory;
mod owner;
mod rules;
pub mod semantic;

pub use directive::{BYPASS, Directive};
pub use entry::{Entry, EntryError};
pub use key::{Asked, CacheKey, key};
pub use key_hash::KeyState;
pub use key_kind::{KeyKind, KeySecret};
pub use memory::Memory;
pub use owner::CacheOwner;
pub use rules::{Keeping, Offers, Suits, may_keep, may_suit};
