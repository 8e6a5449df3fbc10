//! What `spillway init` asks and writes. No I/O here: the command line puts the questions and writes the files.

mod answers;
mod config_text;
mod drop_in;
mod error;
mod questions;
mod resource;

pub use answers::{Answers, Given, Login, NamedKey, key};
pub use config_text::{Places, config};
pub use drop_in::drop_in;
pub use error::InitError;
pub use questions::{Ask, complete};

#[cfg(test)]
mod tests;
