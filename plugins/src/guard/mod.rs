//! Is the content allowed? Rules of one's own, and what Azure AI Content Safety says of a text.
//!
//! What is found tells its category, never the text.

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
