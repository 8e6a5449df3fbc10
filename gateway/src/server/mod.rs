//! Listeners, background tasks, and the way down.

pub mod connection;
pub mod guard;
pub mod tls;

mod admin;
mod internal;
mod lifecycle;
mod listen;
mod socket;

pub use lifecycle::{Running, StartError, run, start};
