//! The addresses of a backend, with what each driver needs to connect: a remote for the gateway's own client, a peer for
//! Pingora's loop. Both are made in advance.
//!
//! Peers are only ever made from socket addresses: Pingora's `HttpPeer::new` with a name resolves
//! it with a blocking call and panics if that fails.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::protocols::l4::ext::TcpKeepalive;
use pingora::upstreams::peer::HttpPeer;
use rustls_pki_types::CertificateDer;

use super::trust;
use crate::config::Endpoint;
use crate::http1::remote::Remote;
use crate::http1::transport::ClientTls;

/// Idle pooled connections of Pingora's own loop are closed after this. Vendors' front ends close them after about 15
/// s.
const IDLE: Duration = Duration::from_secs(10);

/// A backend's addresses.
#[derive(Debug)]
pub struct Peers {
    template: HttpPeer,
    tls: Option<ClientTls>,
    list: ArcSwap<Vec<Address>>,
    next: AtomicUsize,
}

/// One address.
#[derive(Debug, Clone)]
struct Address {
    peer: Arc<HttpPeer>,
    remote: Arc<Remote>,
}

impl Peers {
    /// No addresses yet. `ca` is trusted in addition to the system's CAs.
    pub fn new(endpoint: &Endpoint, backend: &str, ca: &[CertificateDer<'static>]) -> Self {
        let mut template = template(endpoint, backend);
        template.options.ca = trust::roots(ca);
        let tls = endpoint.tls.then(|| ClientTls { config: trust::client_config(ca), name: endpoint.server_name.clone() });
        Peers { template, tls, list: ArcSwap::default(), next: AtomicUsize::new(0) }
    }

    /// Replaces the addresses. Those that remain keep their idle connections.
    pub fn set(&self, addresses: &[SocketAddr]) {
        let old = self.list.load();
        let new = |address: SocketAddr| {
            let mut peer = self.template.clone();
            peer._address = pingora::protocols::l4::socket::SocketAddr::Inet(address);
            Address { peer: Arc::new(peer), remote: Arc::new(Remote::new(address, self.tls.clone())) }
        };
        let kept = |address: SocketAddr| old.iter().find(|known| known.remote.address() == address).cloned();
        let list = addresses.iter().map(|address| kept(*address).unwrap_or_else(|| new(*address))).collect();
        self.list.store(Arc::new(list));
    }

    /// Replaces the addresses by one that is reached in another way than over the network.
    #[cfg(test)]
    pub fn reach_through(&self, connect: Arc<dyn pingora::connectors::L4Connect + Send + Sync>) {
        let mut peer = self.template.clone();
        peer.options.custom_l4 = Some(Arc::clone(&connect));
        self.list.store(Arc::new(vec![Address { peer: Arc::new(peer), remote: Arc::new(Remote::through(connect)) }]));
    }

    /// The next address in turn, so that a retry after a failed connection uses another one; for the gateway's own client.
    pub fn next_remote(&self) -> Option<Arc<Remote>> {
        self.next(|address| Arc::clone(&address.remote))
    }

    /// The same for Pingora.
    pub fn next_peer(&self) -> Option<Arc<HttpPeer>> {
        self.next(|address| Arc::clone(&address.peer))
    }

    fn next<T>(&self, of: impl FnOnce(&Address) -> T) -> Option<T> {
        let list = self.list.load();
        let turn = if list.len() > 1 { self.next.fetch_add(1, Ordering::Relaxed) } else { 0 };
        list.get(turn % list.len().max(1)).map(of)
    }

    /// The addresses.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.list.load().iter().map(|address| address.remote.address()).collect()
    }

    /// How many addresses are known.
    pub fn len(&self) -> usize {
        self.list.load().len()
    }

    /// Whether no address is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy of the template, in which a health check sets its address.
    pub fn template(&self) -> HttpPeer {
        self.template.clone()
    }
}

#[expect(clippy::disallowed_methods, reason = "an IP address needs no look-up")]
fn template(endpoint: &Endpoint, backend: &str) -> HttpPeer {
    let placeholder = SocketAddr::from(([0, 0, 0, 0], 1));
    let server_name = if endpoint.tls { endpoint.server_name.clone() } else { String::new() };
    let mut peer = HttpPeer::new(placeholder, endpoint.tls, server_name);
    // The pool must never share connections between different credentials or CAs.
    let mut group = DefaultHasher::new();
    backend.hash(&mut group);
    peer.group_key = group.finish();
    // Each pool has its own connect timeout.
    peer.options.write_timeout = Some(Duration::from_secs(30));
    peer.options.idle_timeout = Some(IDLE);
    peer.options.tcp_keepalive = Some(TcpKeepalive {
        idle: Duration::from_secs(30),
        interval: Duration::from_secs(10),
        count: 3,
        #[cfg(target_os = "linux")]
        user_timeout: Duration::from_secs(30),
    });
    peer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_take_turns_and_stay_the_same_peer() {
        let endpoint =
            Endpoint { tls: true, host: "h".into(), port: 443, server_name: "h".into(), authority: "h".into(), prefix: String::new() };
        let peers = Peers::new(&endpoint, "b", &[]);
        assert!(peers.next_peer().is_none() && peers.next_remote().is_none());
        let addresses: Vec<SocketAddr> = vec!["10.0.0.1:443".parse().unwrap(), "10.0.0.2:443".parse().unwrap()];
        peers.set(&addresses);
        let (a, b) = (peers.next_peer().unwrap(), peers.next_peer().unwrap());
        assert_ne!(a._address, b._address);
        assert_eq!(a.sni, "h");
        let (c, d) = (peers.next_remote().unwrap(), peers.next_remote().unwrap());
        assert_eq!([c.address(), d.address()], addresses[..]);
        peers.set(&addresses[..1]);
        assert!(Arc::ptr_eq(&peers.next_peer().unwrap(), &a) && Arc::ptr_eq(&peers.next_remote().unwrap(), &c));
    }
}
