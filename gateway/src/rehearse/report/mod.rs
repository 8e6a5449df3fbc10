//! A rehearsal for people: as text, and as a page.

mod page;
mod picture;
mod text;
mod words;

pub use page::page;
pub use text::{listed, text};
