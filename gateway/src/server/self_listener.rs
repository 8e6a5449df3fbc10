//! Serves the in-memory connections that the gateway makes to itself.

use std::sync::Arc;

use pingora::apps::ServerApp as _;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use crate::gateway::Gateway;
use crate::pipe;

/// Accepts the gateway's own requests until it ends.
pub(super) async fn accept(mut connections: mpsc::Receiver<DuplexStream>, proxy: Arc<HttpProxy<Gateway>>, shutdown: ShutdownWatch) {
    while let Some(connection) = connections.recv().await {
        let (proxy, shutdown) = (Arc::clone(&proxy), shutdown.clone());
        tokio::spawn(async move {
            proxy.process_new(Box::new(pipe::stream(connection)), &shutdown).await;
        });
    }
}
