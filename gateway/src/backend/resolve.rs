//! Finds backends' addresses in the background: never on a worker thread, and never with a panic. If a look-up fails,
//! the last addresses stay.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::lb::discovery::ServiceDiscovery;
use pingora::lb::{Backend as Address, Backends as Addresses};
use pingora::protocols::l4::socket::SocketAddr as L4Address;
use pingora::{Error, ErrorType, OrErr};
use tracing::{info, warn};

use super::Backend;

/// Time between look-ups: after a success, after a failure.
const REFRESH: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(2));

/// Discovers the addresses of one host name.
struct HostName {
    host: String,
    port: u16,
}

#[async_trait]
impl ServiceDiscovery for HostName {
    async fn discover(&self) -> pingora::Result<(BTreeSet<Address>, HashMap<u64, bool>)> {
        // `lookup_host` runs getaddrinfo on a thread of the blocking pool.
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let found = found.or_err_with(ErrorType::ConnectNoRoute, || format!("looking up {}", self.host))?;
        let addresses: BTreeSet<Address> =
            found.map(|address| Address { addr: L4Address::Inet(address), weight: 1, ext: pingora::lb::Extensions::new() }).collect();
        if addresses.is_empty() {
            return Error::e_explain(ErrorType::ConnectNoRoute, format!("{} has no address", self.host));
        }
        Ok((addresses, HashMap::new()))
    }
}

/// The addresses of a backend, shared by discovery and health checks.
pub fn addresses(backend: &Backend) -> Option<Addresses> {
    let endpoint = &backend.upstream.as_ref()?.endpoint;
    Some(Addresses::new(Box::new(HostName { host: endpoint.host.clone(), port: endpoint.port })))
}

/// Keeps a backend's addresses up to date, for ever.
pub async fn keep_resolved(backend: Arc<Backend>) {
    let (Some(upstream), Some(addresses)) = (&backend.upstream, addresses(&backend)) else { return };
    let name = &backend.config.name;
    loop {
        let looked_up = addresses.update(|_| {}).await;
        match &looked_up {
            Ok(()) => {
                let list: Vec<SocketAddr> = addresses.get_backend().iter().filter_map(|address| address.addr.as_inet().copied()).collect();
                upstream.peers.set(&list);
                if upstream.resolved.set(!list.is_empty()) {
                    info!(backend = %name, addresses = list.len(), "resolved");
                }
            }
            Err(error) if upstream.peers.is_empty() => warn!(backend = %name, %error, "no address yet"),
            Err(error) => warn!(backend = %name, %error, "look-up failed; the last addresses stay in use"),
        }
        let is_address = upstream.endpoint.host.parse::<std::net::IpAddr>().is_ok();
        if is_address && looked_up.is_ok() {
            return;
        }
        tokio::time::sleep(if looked_up.is_ok() { REFRESH.0 } else { REFRESH.1 }).await;
    }
}
