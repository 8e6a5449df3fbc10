//! Listening sockets that this process was given: by systemd, or by the process from which it takes over.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};

use listenfd::ListenFd;
use tokio::net::TcpListener;

use super::listen;

/// Sockets that wait to be used, in the order in which they were given.
#[derive(Debug, Default)]
pub struct Sockets(Vec<(SocketAddr, StdListener)>);

impl Sockets {
    /// Those that `LISTEN_FDS` tells of.
    ///
    /// # Errors
    /// If one of them is no listening TCP socket.
    pub fn from_environment() -> io::Result<Self> {
        let mut given = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..given.len() {
            if let Some(listener) = given.take_tcp_listener(index)? {
                sockets.push((listener.local_addr()?, listener));
            }
        }
        Ok(Sockets(sockets))
    }

    /// The socket for an address of the config: one that was given, or a new one. Where the system is to choose the
    /// port, one that was given with such an address before is the one that it chose.
    pub(super) fn listen(&mut self, address: SocketAddr) -> io::Result<TcpListener> {
        let fits = |given: &SocketAddr| given.ip() == address.ip() && (given.port() == address.port() || address.port() == 0);
        match self.0.iter().position(|(given, _)| fits(given)) {
            Some(at) => {
                let (_, listener) = self.0.remove(at);
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener)
            }
            None => listen::bind(address),
        }
    }

    /// Those that no address of the config is for.
    pub(super) fn unused(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().map(|(address, _)| *address)
    }
}
