//! Listening sockets and the accept loops.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tracing::error;

use super::connection;
use super::service::Service;

/// Connections that wait in the kernel to be accepted. The system may allow fewer (`net.core.somaxconn`).
pub(super) const BACKLOG: i32 = 4096;

/// Binds a listening socket.
///
/// # Errors
/// If the address can't be used; without a retry.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG.unsigned_abs())
}

/// Counts a connection until it is dropped.
struct Open(IntGauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The answer if there are too many connections.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 115\r\nretry-after: 1\r\nconnection: close\r\n\r\n{\"error\":{\"message\":\"the gateway has too many connections\",\"type\":\"server_error\",\"param\":null,\"code\":\"overloaded\"}}";

/// Accepts callers until the shutdown.
pub(super) async fn accept(listener: TcpListener, service: Service) {
    let (gateway, mut shutdown) = (service.gateway.clone(), service.shutdown.clone());
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|down| *down) => return,
        };
        match accepted {
            Ok((tcp, _)) => {
                failing = false;
                let metrics = &gateway.metrics;
                if usize::try_from(metrics.listeners.connections.get()).unwrap_or(0) >= gateway.runtime.load().config.server.max_connections
                {
                    metrics.listeners.connections_refused.inc();
                    tokio::spawn(reject(tcp));
                    continue;
                }
                metrics.listeners.connections.inc();
                let open = Open(metrics.listeners.connections.clone());
                let service = service.clone();
                tokio::spawn(async move {
                    let _open = open;
                    connection::serve(service, tcp).await;
                });
            }
            Err(error) => {
                // Mostly out of file descriptors: trying again at once would be a busy loop.
                if !failing {
                    error!(%error, "can't accept connections");
                }
                failing = true;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn reject(tcp: TcpStream) {
    let write = async {
        tcp.writable().await?;
        tcp.try_write(BUSY)
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), write).await;
}
