//! Listening sockets that were passed to this process, by systemd or by the old process.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use socket2::SockRef;
use tokio::net::TcpListener;

use super::listen::{self, BACKLOG};

/// Sockets that are not used yet, in the order in which they were passed.
#[derive(Debug, Default)]
pub struct Sockets(Vec<(SocketAddr, StdListener)>);

impl Sockets {
    /// The sockets in `LISTEN_FDS`.
    ///
    /// # Errors
    /// If one of them is not a listening TCP socket.
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

    /// These sockets.
    ///
    /// # Errors
    /// If one of them is not a listening TCP socket.
    pub(super) fn of(sockets: impl Iterator<Item = OwnedFd>) -> io::Result<Self> {
        let with_address = |listener: StdListener| Ok((listener.local_addr()?, listener));
        sockets.map(|socket| with_address(StdListener::from(socket))).collect::<io::Result<_>>().map(Sockets)
    }

    /// The socket for an address of the config: one that was passed, or a new one. If the system chooses the port, a
    /// socket that was passed for the same address has the port that was chosen before.
    pub(super) fn listen(&mut self, address: SocketAddr) -> io::Result<TcpListener> {
        let fits = |given: &SocketAddr| given.ip() == address.ip() && (given.port() == address.port() || address.port() == 0);
        match self.0.iter().position(|(given, _)| fits(given)) {
            Some(at) => {
                let (_, listener) = self.0.remove(at);
                listener.set_nonblocking(true)?;
                // Whoever bound it may have set a short queue, in which a burst of new connections would be lost.
                SockRef::from(&listener).listen(BACKLOG)?;
                TcpListener::from_std(listener)
            }
            None => listen::bind(address),
        }
    }

    /// Sockets whose addresses are not in the config.
    pub(super) fn unused(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().map(|(address, _)| *address)
    }
}
