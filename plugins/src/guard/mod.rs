//! Checks whether content is allowed: with the guard's own rules, and with Azure AI Content Safety.
//!
//! A finding contains its category, never the text.

mod asked;
mod category;
mod ending;
mod finding;
mod places;
mod rules;
pub mod safety;
mod spoken;
mod tools;
mod visible;
mod windows;

pub use asked::{Asked, Seen};
pub use ending::Shape;
pub use finding::Finding;
pub use rules::{GuardError, Rules};
pub use spoken::Spoken;
pub use windows::windows;

pub use crate::walk::Unreadable;
