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
mod launch;
mod lifecycle;
mod listen;
mod listeners;
mod own_names;
mod reload;
mod running;
mod self_listener;
mod service;
mod shadow_listener;
mod sharing;
mod signals;
mod start_error;
mod start_ledger;
mod state_lock;
mod systemd;
mod unattended;

pub use handover::reachable::Missing;
pub use handover::successor::Successor;
pub use in_place::InPlaceError;
pub use inherited_sockets::Sockets;
pub use launch::{Launch, launch, start};
pub use lifecycle::run;
pub use listeners::BindError;
pub use own_names::node_identity;
pub use reload::{By, ReloadError, Reloaded, Reloader, Source};
pub use running::Running;
pub use start_error::StartError;
