//! A member of a body, and where it stands.

use crate::json::Value;

/// A member of the body's top level that is looked at.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) value: Value,
    /// How many members stand before it.
    pub(super) index: usize,
    /// Where the one before it ends.
    pub(super) after: usize,
}
