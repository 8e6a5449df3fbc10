//! Checks whether content is allowed: with the guard's own rules, and with Azure AI Content Safety.
//!
//! A finding contains its category, never the text.

mod prompt_text;
mod category;
mod ending;
mod finding;
mod content_kind;
mod rules;
pub mod safety;
mod answer_text;
mod tools;
mod visible;
mod windows;

pub use prompt_text::{PromptText, Seen};
pub use ending::StreamEnding;
pub use finding::Finding;
pub use rules::{GuardError, Rules};
pub use answer_text::AnswerText;
pub use windows::windows;

pub use crate::walk::Unreadable;
