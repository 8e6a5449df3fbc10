//! An admin listener that more machines can reach than should.

use std::net::IpAddr;

use super::view::View;
use crate::rehearse::finding::{Finding, Severity};

/// An admin address that isn't loopback.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    let server = &view.config.server;
    let ip = server.admin.ip();
    if ip.is_loopback() {
        return Vec::new();
    }
    let is_wider = ip.is_unspecified() && server.listen.iter().all(|address| !address.ip().is_unspecified());
    let (severity, why) = match () {
        () if is_public(ip) => (Severity::Warning, "is a public address"),
        () if is_wider => (Severity::Warning, "is on every interface of this machine, although callers are served on one only"),
        () => (Severity::Note, "can be reached from other machines"),
    };
    let text = format!(
        "The admin API {why} ({}): with its token, which is sent without TLS, anybody can drain backends and read who calls what.",
        server.admin
    );
    let remedy = "Bind 'admin' to loopback, or to an address of a management network, and let only the scraper and the load balancer in.";
    vec![view.finding("admin-exposed", severity, "server.admin", text, remedy)]
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let is_shared = ip.octets()[0] == 100 && (64..128).contains(&ip.octets()[1]);
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || ip.is_documentation() || is_shared)
        }
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses() {
        for (ip, public) in [("10.0.0.4", false), ("100.64.0.1", false), ("20.50.1.2", true), ("fd00::1", false), ("2a01::1", true)] {
            assert_eq!(is_public(ip.parse().unwrap()), public, "{ip}");
        }
    }
}
