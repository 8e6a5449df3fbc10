//! A request to the mock.

use spillway_plugins::api::{Api, Part};

use super::body::Body;

/// A request to the mock.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// The operation.
    pub api: Api,
    /// The sub-operation, if any.
    pub part: Option<Part>,
    /// The model's name in the answer.
    pub model: &'a str,
    /// What the mock reads of the request's body.
    pub body: &'a Body,
    /// The text to answer with.
    pub text: &'a str,
    /// Unix time.
    pub created: i64,
    /// A unique number for ids.
    pub unique: u64,
    /// Add Azure's content-filter results.
    pub azure: bool,
}

/// Tokens, estimated: one per four characters.
pub fn tokens(text: &str) -> u64 {
    (text.chars().count() as u64).div_ceil(4)
}
