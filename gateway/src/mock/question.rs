//! What is asked of the imitation.

use spillway_plugins::api::{Api, Part};

use super::body::Body;

/// What is asked of the imitation.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// The operation.
    pub api: Api,
    /// What of it, if it is not the answer itself.
    pub part: Option<Part>,
    /// The model's name, as it stands in the answer.
    pub model: &'a str,
    /// What is read of the request's body.
    pub body: &'a Body,
    /// The text to answer with.
    pub text: &'a str,
    /// Unix time.
    pub created: i64,
    /// A unique part for ids.
    pub unique: u64,
    /// Add Azure's content-filter results.
    pub azure: bool,
}

/// Tokens, roughly: a token per four characters.
pub fn tokens(text: &str) -> u64 {
    (text.chars().count() as u64).div_ceil(4)
}
