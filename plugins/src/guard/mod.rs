//! Checks whether content is allowed: with the guard's own rules, and with Azure AI Content Safety.
//!
//! A finding contains its category, never the text.

mod answer_text;
mod category;
mod content_kind;
mod ending;
mod finding;
mod prompt_text;
mod rules;
pub mod safety;
mod tools;
mod windows;

pub use answer_text::AnswerText;
pub use ending::StreamEnding;
pub use finding::Finding;
pub use prompt_text::{PromptText, Seen};
pub use rules::{GuardError, Rules};
pub use windows::windows;

pub use crate::walk::Unreadable;
