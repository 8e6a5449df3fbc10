//! A member of a body, and its position.

use crate::json::Value;

/// A member of the body's top level that may change.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) value: Value,
    /// How many members are before it.
    pub(super) index: usize,
    /// Where the previous one ends.
    pub(super) after: usize,
}
