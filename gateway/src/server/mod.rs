//! Listeners, background tasks, and the way down.

pub mod connection;
pub mod guard;

mod admin;
mod lifecycle;
mod listen;

pub use lifecycle::{Running, StartError, run, start};
