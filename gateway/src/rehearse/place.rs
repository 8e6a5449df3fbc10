//! Where in the config file something is.

use std::fmt;

use serde::Serialize;

use crate::config::{is_written, position_of};

/// A key of the config file, and its line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// From 1; `None` if the key is not in the file, because its default applies.
    pub line: Option<usize>,
    /// From 1, in characters.
    pub column: Option<usize>,
    /// The key, such as `pools[0].members[2]`.
    pub key: String,
}

/// Finds keys in the text of a config file.
#[derive(Debug, Clone)]
pub struct Lines {
    text: String,
}

impl Lines {
    /// For this text.
    pub fn new(text: &str) -> Self {
        Lines { text: text.to_owned() }
    }

    /// The place of a key, or of its nearest parent that is in the file.
    pub fn place(&self, key: &str) -> Place {
        let position = position_of(&self.text, key);
        Place { line: position.map(|at| at.line), column: position.map(|at| at.column), key: key.to_owned() }
    }

    /// The text of a line, from 1.
    pub fn line(&self, number: usize) -> Option<&str> {
        self.text.lines().nth(number.checked_sub(1)?)
    }

    /// Whether a key itself is in the file, so that no default applies.
    pub fn has(&self, key: &str) -> bool {
        is_written(&self.text, key)
    }
}

impl fmt::Display for Place {
    /// `12:3: pools[0].members[1]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "{line}:{column}: ")?;
        }
        f.write_str(&self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_a_line_and_a_missing_one_has_that_of_its_parent() {
        let lines = Lines::new("[server]\nlisten = [\"127.0.0.1:0\"]\n\n[[pools]]\nname = \"chat\"\n");
        assert_eq!(lines.place("pools[0].name").to_string(), "5:1: pools[0].name");
        assert_eq!(lines.place("pools[0].retry.wait").line, Some(4));
        assert!(lines.has("pools[0].name") && !lines.has("pools[0].retry.wait") && !lines.has("redis"));
        assert_eq!(lines.place("redis").to_string(), "redis");
    }
}
