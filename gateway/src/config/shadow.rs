//! `[shadow]`: listeners for a mirror of live traffic.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Server;
use super::checker::Checker;
use super::scalar::SizeText;

/// Listeners for a mirror of live traffic: what the gateway would have decided is counted, and nothing is called.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawShadow {
    /// Addresses that another gateway mirrors its requests to. At least one. Requests there need no key: use loopback, or a
    /// network that only the mirror reaches.
    pub listen: Vec<String>,
    /// Most bytes of a mirrored body that are read; a longer one is counted, and not used. Default `1MiB`, at
    /// most `32MiB`.
    pub max_body: Option<SizeText>,
    /// Mirrored requests that may wait to be looked at; further ones are counted, and dropped. Default 4096.
    pub queue: Option<usize>,
}

/// Listeners for a mirror of live traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowRules {
    /// Their addresses.
    pub listen: Vec<SocketAddr>,
    /// Most bytes of a body.
    pub max_body: usize,
    /// Requests that may wait.
    pub queue: usize,
}

/// Most bytes of all bodies that are being read.
pub const MEMORY: usize = 32 << 20;
/// Most requests that may wait.
const LONGEST: usize = 1 << 20;

pub(super) fn read(raw: Option<&RawShadow>, server: Option<&Server>, check: &mut Checker<'_>) -> Option<ShadowRules> {
    let raw = raw?;
    let mut listen = Vec::new();
    for (index, text) in raw.listen.iter().enumerate() {
        let key = format!("shadow.listen[{index}]");
        let Ok(address) = text.parse::<SocketAddr>() else {
            check.problem(&key, format!(r#"'{text}' is not an address with a port, such as "127.0.0.1:8081""#));
            continue;
        };
        let taken = server.is_some_and(|server| server.listen.contains(&address) || server.admin == address);
        if address.port() != 0 && (taken || listen.contains(&address)) {
            check.problem(&key, format!("{address} is a listen address already; mirrored requests need one of their own"));
        }
        if !address.ip().is_loopback() {
            let what = format!(
                "{address} can be reached from other machines, and takes requests from anybody: use a loopback address, or let a firewall or a network policy admit the mirror alone"
            );
            check.warn(&key, what);
        }
        listen.push(address);
    }
    if raw.listen.is_empty() {
        check.problem("shadow.listen", r#"at least one address is needed, such as "127.0.0.1:8081""#);
    }
    let queue = raw.queue.unwrap_or(4096);
    if !(1..=LONGEST).contains(&queue) {
        check.problem("shadow.queue", format!("must be from 1 to {LONGEST}"));
    }
    let max_body = check.size(raw.max_body, 1 << 20, "shadow.max_body");
    if max_body > MEMORY {
        check.problem("shadow.max_body", format!("must be at most {}MiB: that is what all bodies have together", MEMORY >> 20));
    }
    Some(ShadowRules { listen, max_body, queue })
}
