//! Listeners, background tasks, start and stop.

pub mod connection;
pub mod head_guard;

mod admin;
mod background;
mod chunks;
mod handover;
mod head;
mod http1_connection;
mod http2_heads;
mod in_place;
mod inherited_sockets;
mod lifecycle;
mod listen;
mod listeners;
mod reload;
mod self_listener;
mod service;
mod shadow_listener;
mod sharing;
mod signals;
mod start_error;
mod systemd;
mod unattended;

pub use handover::successor::Successor;
pub use in_place::InPlaceError;
pub use inherited_sockets::Sockets;
pub use lifecycle::{Launch, Running, launch, run, start};
pub use listeners::BindError;
pub use reload::{By, ReloadError, Reloaded, Reloader, Source};
pub use start_error::StartError;
