//! Writes the path and the query of a request.

use spillway_plugins::api::{Api, Part};

/// An operation of a model.
#[derive(Debug, Clone, Copy)]
pub struct Operation<'a> {
    /// Its API.
    pub api: Api,
    /// What else it is for than an answer.
    pub part: Option<Part>,
    /// The model's name at the backend.
    pub deployment: &'a str,
}

impl Operation<'_> {
    /// Its path below the API's root, without a leading slash.
    pub fn path(&self) -> &'static str {
        self.part.map_or(self.api.operation(), Part::operation)
    }
}

/// A path with its query, as far as it is written.
#[derive(Debug)]
pub struct Url {
    text: String,
    separator: char,
}

impl Url {
    /// A path that begins with `prefix`.
    pub fn below(prefix: &str) -> Self {
        let mut text = String::with_capacity(96);
        text.push_str(prefix);
        Url { text, separator: '?' }
    }

    /// Adds parts of the path.
    pub fn add_path(&mut self, parts: &[&str]) {
        parts.iter().for_each(|part| self.text.push_str(part));
    }

    /// Adds an operation below `root` in the form of OpenAI's API: only a WebSocket has its model in the query.
    pub fn add_operation(&mut self, root: &str, operation: &Operation<'_>) {
        self.add_path(&[root, operation.path()]);
        if operation.api == Api::Realtime {
            self.add_parameter("model", operation.deployment);
        }
    }

    /// Adds a parameter to the query.
    pub fn add_parameter(&mut self, name: &str, value: &str) {
        self.add_pair(name);
        self.add_path(&["=", value]);
    }

    /// Adds a parameter as it is written.
    pub fn add_pair(&mut self, pair: &str) {
        self.text.push(self.separator);
        self.text.push_str(pair);
        self.separator = '&';
    }

    /// What was written.
    pub fn into_text(self) -> String {
        self.text
    }
}
