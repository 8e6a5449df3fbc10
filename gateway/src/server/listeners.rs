//! All listening sockets of a gateway, and their addresses.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};

use tokio::net::TcpListener;

use super::inherited_sockets::Sockets;
use crate::config::Config;

/// An address that can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}: {source}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// The listening sockets.
#[derive(Debug)]
pub(super) struct Listeners {
    /// For callers.
    pub(super) callers: Vec<TcpListener>,
    /// For mirrored requests.
    pub(super) mirrors: Vec<TcpListener>,
    /// For operators and probes.
    pub(super) admin: TcpListener,
    /// For people, if they have a listener of their own.
    pub(super) portal: Option<TcpListener>,
}

/// Their addresses, with the ports that were given for `:0`.
#[derive(Debug)]
pub(super) struct Addresses {
    pub(super) callers: Vec<SocketAddr>,
    pub(super) mirrors: Vec<SocketAddr>,
    pub(super) admin: SocketAddr,
    pub(super) portal: Option<SocketAddr>,
}

impl Listeners {
    /// The sockets that a config needs, from those that were passed to this process, or new ones.
    pub(super) fn bind(config: &Config, sockets: &mut Sockets) -> Result<Self, BindError> {
        let mut bind = |address: &SocketAddr| sockets.listen(*address).map_err(|source| BindError { address: *address, source });
        let callers = config.server.listen.iter().map(&mut bind).collect::<Result<_, _>>()?;
        let admin = bind(&config.server.admin)?;
        let mirrors = config.shadow.iter().flat_map(|rules| &rules.listen).map(&mut bind).collect::<Result<_, _>>()?;
        let portal = config.server.portal.listener.as_ref().map(|listener| bind(&listener.listen)).transpose()?;
        Ok(Listeners { callers, mirrors, admin, portal })
    }

    /// Where they listen.
    pub(super) fn addresses(&self) -> io::Result<Addresses> {
        let all = |listeners: &[TcpListener]| -> io::Result<Vec<SocketAddr>> { listeners.iter().map(TcpListener::local_addr).collect() };
        Ok(Addresses {
            callers: all(&self.callers)?,
            mirrors: all(&self.mirrors)?,
            admin: self.admin.local_addr()?,
            portal: self.portal.as_ref().map(TcpListener::local_addr).transpose()?,
        })
    }

    /// Copies of the sockets, for a process that takes over.
    pub(super) fn copies(&self) -> io::Result<Vec<OwnedFd>> {
        let all = self.callers.iter().chain([&self.admin]).chain(&self.mirrors).chain(&self.portal);
        all.map(|listener| listener.as_fd().try_clone_to_owned()).collect()
    }
}
