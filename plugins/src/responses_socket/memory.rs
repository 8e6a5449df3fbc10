//! What only a connection knows of its last response.

/// The last response of a connection, if it isn't stored: what it was asked with, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    id: String,
    /// Input items, separated by commas.
    items: String,
}

impl Memory {
    /// Of the response `id` with these items: what it was asked with, and then what it said.
    pub fn new(id: String, items: String) -> Self {
        Memory { id, items }
    }

    /// Whether it is of the response `id`.
    pub fn is_of(&self, id: &str) -> bool {
        self.id == id
    }

    /// Its bytes.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Its items and those that come next.
    pub fn followed_by(&self, next: String) -> String {
        joined(self.items.clone(), &next)
    }
}

/// Two lists of items in one.
pub(super) fn joined(mut first: String, second: &str) -> String {
    if !first.is_empty() && !second.is_empty() {
        first.push(',');
    }
    first.push_str(second);
    first
}
