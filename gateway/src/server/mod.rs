//! Listeners, background tasks, start and stop.

pub mod connection;
pub mod guard;

mod admin;
mod chunks;
mod handover;
mod head;
mod http2_heads;
mod internal;
mod lifecycle;
mod listen;
mod manager;
mod reload;
mod signals;
mod socket;
mod sockets;
mod upkeep;

pub use handover::successor::Successor;
pub use lifecycle::{Launch, Running, StartError, launch, run, start};
pub use reload::{By, ReloadError, Reloaded, Reloader, Source};
pub use sockets::Sockets;
