//! One address of a backend: how to reach it, and its idle connections.

use std::net::SocketAddr;
use std::sync::Arc;

use super::idle::{IdleConnections, Stack};
use super::transport::{ClientTls, ConnectError, Transport};

/// An address of a backend. Its connections are never used for another backend, or for the same one with other
/// credentials or CAs, because those have remotes of their own.
#[derive(Debug)]
pub struct Remote {
    address: SocketAddr,
    tls: Option<ClientTls>,
    idle: Arc<Stack>,
    /// Reaches it in another way than over the network.
    #[cfg(test)]
    through: Option<Arc<dyn pingora::connectors::L4Connect + Send + Sync>>,
}

impl Remote {
    /// In the clear, or with TLS.
    pub fn new(address: SocketAddr, tls: Option<ClientTls>) -> Self {
        Remote {
            address,
            tls,
            idle: Arc::new(Stack::of(address)),
            #[cfg(test)]
            through: None,
        }
    }

    /// In memory.
    #[cfg(test)]
    pub fn through(connect: Arc<dyn pingora::connectors::L4Connect + Send + Sync>) -> Self {
        Remote { through: Some(connect), ..Remote::new(SocketAddr::from(([0, 0, 0, 0], 1)), None) }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// An idle connection, if there is an open one.
    pub fn idle(&self) -> Option<Transport> {
        self.idle.take()
    }

    /// A new connection.
    ///
    /// # Errors
    /// [`ConnectError`]
    pub async fn connect(&self) -> Result<Transport, ConnectError> {
        #[cfg(test)]
        if let Some(through) = &self.through {
            let address = pingora::protocols::l4::socket::SocketAddr::Inet(self.address);
            let stream = through.connect(&address).await.map_err(|error| ConnectError::Tcp(std::io::Error::other(error)))?;
            return Ok(Transport::Memory(Box::new(stream)));
        }
        Transport::open(self.address, self.tls.as_ref()).await
    }

    /// It sent an answer that nothing had asked for.
    pub(super) fn distrust(&self) {
        self.idle.distrust();
    }

    /// Keeps a connection for the next request.
    pub(super) fn keep(&self, transport: Transport, all: &IdleConnections) {
        all.put(&self.idle, transport);
    }
}
