//! What serves the connections of all listeners.

use std::sync::Arc;

use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use tokio::sync::watch;

use crate::gateway::Gateway;

/// What serves connections.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) proxy: Arc<HttpProxy<Gateway>>,
    pub(super) gateway: Gateway,
    pub(super) shutdown: ShutdownWatch,
    /// Becomes true when idle connections end.
    pub(super) idle_end: watch::Receiver<bool>,
}
