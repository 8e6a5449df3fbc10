//! Why nothing is written.

/// Why nothing is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InitError {
    /// A required flag is missing, and no question may be asked.
    #[error("{flag} is missing: {what}")]
    Missing {
        /// The flag.
        flag: &'static str,
        /// What it is.
        what: &'static str,
    },
    /// A resource has no key, and no question may be asked.
    #[error("--key-file is missing for '{name}': every resource needs one, as {name}=FILE, or all of them --managed-identity")]
    MissingKey {
        /// The resource.
        name: String,
    },
    /// The answers end before the questions.
    #[error("no answer to \"{question}\": give {flag}, or --yes to take the defaults")]
    NoAnswer {
        /// The question.
        question: String,
        /// The flag that answers it.
        flag: &'static str,
    },
    /// An answer or a flag is not what it should be.
    #[error("{flag}: {problem}")]
    Bad {
        /// The flag.
        flag: &'static str,
        /// What is wrong with its value, and what is expected.
        problem: String,
    },
    /// The terminal or the pipe failed.
    #[error("can't read the answers: {0}")]
    Input(String),
}
