//! A Redis that accepts connections, and answers nothing.

use std::net::SocketAddr;

use tokio::net::TcpListener;

/// Starts one.
///
/// # Errors
/// If there is no port.
pub(in crate::rehearse) async fn silent_redis() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((tcp, _)) = listener.accept().await {
            kept.push(tcp);
        }
    });
    Ok(address)
}
