//! Serves the in-memory connections that the gateway makes to itself.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pingora::apps::ServerApp as _;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;

use crate::gateway::Gateway;

/// A pipe, as a stream for Pingora.
#[derive(Debug)]
struct Pipe(DuplexStream);

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

impl VirtualSocket for Pipe {
    fn set_socket_option(&self, _: VirtualSockOpt) -> std::io::Result<()> {
        Ok(())
    }
}

/// Accepts the gateway's own requests until it ends.
pub(super) async fn accept(mut connections: mpsc::Receiver<DuplexStream>, proxy: Arc<HttpProxy<Gateway>>, shutdown: ShutdownWatch) {
    while let Some(connection) = connections.recv().await {
        let (proxy, shutdown) = (Arc::clone(&proxy), shutdown.clone());
        let stream = Stream::from(VirtualSocketStream::new(Box::new(Pipe(connection))));
        tokio::spawn(async move {
            proxy.process_new(Box::new(stream), &shutdown).await;
        });
    }
}
