//! What only a connection knows of its last response.

/// The last response of a connection, if it isn't stored: its input and its output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    id: String,
    /// The stored response that the first of these continued.
    root: Option<String>,
    /// Input items, separated by commas.
    items: String,
}

impl Memory {
    /// Of the response `id`, with these items after those of the stored response `root`: its input, and then its
    /// output.
    pub fn new(id: String, root: Option<String>, items: String) -> Self {
        Memory { id, root, items }
    }

    /// The same with another id.
    #[must_use]
    pub fn named(self, id: String) -> Self {
        Memory { id, ..self }
    }

    /// Whether it is of the response `id`.
    pub fn is_of(&self, id: &str) -> bool {
        self.id == id
    }

    /// The stored response that all of this continues.
    pub fn root(&self) -> Option<&str> {
        self.root.as_deref()
    }

    /// Its size in bytes.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Its items and the next ones.
    pub fn followed_by(&self, next: &str) -> String {
        let mut items = String::with_capacity(self.items.len() + next.len() + 1);
        items.push_str(&self.items);
        join(&mut items, next);
        items
    }

    /// Adds the next items.
    pub(super) fn add(&mut self, next: &str) {
        join(&mut self.items, next);
    }
}

fn join(items: &mut String, next: &str) {
    if !items.is_empty() && !next.is_empty() {
        items.push(',');
    }
    items.push_str(next);
}
