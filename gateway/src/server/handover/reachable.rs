//! What the old process can reach. The one that takes over would have to find it out again: until a name is looked up, a token
//! fetched or a member checked, it would serve worse than the old one did.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spillway_plugins::auth::digest;

use crate::backend::auth::TokenSource;
use crate::balance::route::HealthFlag;
use crate::runtime::Runtime;

/// How often is looked whether nothing is missing any more.
const LOOK: Duration = Duration::from_millis(20);

/// The addresses of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Host {
    name: String,
    port: u16,
    addresses: Vec<SocketAddr>,
}

/// What a process can reach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::server) struct Reachable {
    hosts: Vec<Host>,
    /// Identities for which it has a token, by the digest of what identifies them.
    identities: Vec<String>,
    /// Issuers of callers' tokens whose keys it has.
    issuers: Vec<String>,
    /// Members whose health check fails: the names of pool and backend.
    unhealthy: Vec<(String, String)>,
}

/// What the old process has, and the new one lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// Addresses.
    #[error("there is no address for '{host}'")]
    Host {
        /// The host's name.
        host: String,
    },
    /// A token for backends.
    #[error("there is no token for {identity}")]
    Token {
        /// The identity.
        identity: String,
    },
    /// The keys with which callers' tokens are checked.
    #[error("there are no keys of the issuer '{issuer}'")]
    Keys {
        /// The issuer.
        issuer: String,
    },
}

/// Stands for an identity. What identifies it may be derived from a secret.
fn identifier(source: &TokenSource) -> String {
    digest(source.identifier().as_bytes()).to_string()
}

/// The health flags of all members, with the names of pool and backend.
fn flags(runtime: &Runtime) -> impl Iterator<Item = (&str, &str, &HealthFlag)> {
    runtime.pools.iter().filter(|pool| pool.config.health.is_some()).flat_map(|pool| {
        let named = pool.config.members.iter().zip(&pool.health);
        named.map(|(member, up)| (&*pool.config.name, &*runtime.backends[member.backend].config.name, &**up))
    })
}

impl Reachable {
    /// What a gateway with this config can reach now.
    pub(super) fn of(runtime: &Runtime) -> Self {
        let upstreams = runtime.backends.iter().filter_map(|backend| backend.upstream.as_ref());
        let resolved = upstreams.filter(|upstream| upstream.resolved.get());
        let issuers = runtime.callers.tokens.iter().map(|tokens| &tokens.issuer).filter(|issuer| issuer.is_ready());
        Reachable {
            hosts: resolved
                .map(|upstream| Host {
                    name: upstream.endpoint.host.clone(),
                    port: upstream.endpoint.port,
                    addresses: upstream.peers.addresses(),
                })
                .collect(),
            identities: runtime.identities.iter().filter(|identity| identity.usable.get()).map(|identity| identifier(identity)).collect(),
            issuers: issuers.map(|issuer| issuer.config.name.clone()).collect(),
            unhealthy: flags(runtime)
                .filter(|(.., up)| !up.get())
                .map(|(pool, backend, _)| (pool.to_owned(), backend.to_owned()))
                .collect(),
        }
    }

    /// Gives addresses and the results of health checks to a gateway that has just been made.
    pub(in crate::server) fn give_to(&self, runtime: &Runtime) {
        for upstream in runtime.backends.iter().filter_map(|backend| backend.upstream.as_ref()) {
            let same = |host: &&Host| host.name == upstream.endpoint.host && host.port == upstream.endpoint.port;
            if let Some(host) = self.hosts.iter().find(same).filter(|host| !host.addresses.is_empty()) {
                upstream.peers.set(&host.addresses);
                upstream.resolved.set(true);
            }
        }
        for (pool, backend, up) in flags(runtime) {
            if self.unhealthy.iter().any(|(one, other)| one == pool && other == backend) {
                up.set(false);
            }
        }
    }

    /// What a gateway lacks of it.
    fn missing(&self, runtime: &Runtime) -> Option<Missing> {
        let upstreams = runtime.backends.iter().filter_map(|backend| backend.upstream.as_ref());
        let known = |host: &str, port: u16| self.hosts.iter().any(|known| known.name == host && known.port == port);
        let hosts = upstreams
            .filter(|upstream| !upstream.resolved.get() && known(&upstream.endpoint.host, upstream.endpoint.port))
            .map(|upstream| Missing::Host { host: upstream.endpoint.host.clone() });
        let identities = runtime
            .identities
            .iter()
            .filter(|identity| !identity.usable.get() && self.identities.contains(&identifier(identity)))
            .map(|identity| Missing::Token { identity: identity.name() });
        let issuers = runtime.callers.tokens.iter().map(|tokens| &tokens.issuer);
        let issuers = issuers
            .filter(|issuer| !issuer.is_ready() && self.issuers.contains(&issuer.config.name))
            .map(|issuer| Missing::Keys { issuer: issuer.config.name.clone() });
        hosts.chain(identities).chain(issuers).next()
    }

    /// Waits until a gateway lacks nothing of it, at most `limit`.
    ///
    /// # Errors
    /// [`Missing`], if it still lacks something.
    pub(in crate::server) async fn wait_for(&self, runtime: &Runtime, limit: Duration) -> Result<(), Missing> {
        let complete = async {
            while self.missing(runtime).is_some() {
                tokio::time::sleep(LOOK).await;
            }
        };
        // Once more at the end: it may just have come.
        match tokio::time::timeout(limit, complete).await {
            Ok(()) => Ok(()),
            Err(_) => self.missing(runtime).map_or(Ok(()), Err),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::fixtures::running_with;
    use super::*;

    const TEXT: &str = r#"
[server]
listen = ["127.0.0.1:0"]
admin = "127.0.0.1:0"
[log]
access = "off"
[[backends]]
name = "a"
kind = "openai"
url = "https://a.invalid"
[[backends]]
name = "b"
kind = "openai"
url = "https://b.invalid"
auth = { type = "managed-identity" }
[[pools]]
name = "pool"
models = ["m"]
members = [{ backend = "a" }, { backend = "b" }]
[pools.health]
path = "/health"
interval = "1h"
"#;

    #[tokio::test]
    async fn what_the_old_process_can_reach_is_what_the_new_one_must_have() {
        let (old, new) = (running_with(TEXT).await, running_with(TEXT).await);
        let (old, new) = (old.gateway.runtime.load_full(), new.gateway.runtime.load_full());
        let limit = Duration::from_millis(50);
        assert_eq!(Reachable::of(&old).wait_for(&new, limit).await, Ok(()), "the old one can't reach anything, either");
        let address: SocketAddr = "192.0.2.1:443".parse().unwrap();
        let upstream = |runtime: &Runtime, at: usize| {
            runtime.backends[at].upstream.as_ref().map(|upstream| (Arc::clone(&upstream.peers), Arc::clone(&upstream.resolved))).unwrap()
        };
        let (peers, resolved) = upstream(&old, 0);
        peers.set(&[address]);
        resolved.set(true);
        old.pools[0].health[1].set(false);
        let told = serde_json::to_string(&Reachable::of(&old)).unwrap();
        let told: Reachable = serde_json::from_str(&told).unwrap();
        assert_eq!(told.wait_for(&new, limit).await, Err(Missing::Host { host: "a.invalid".to_owned() }));
        told.give_to(&new);
        let (peers, resolved) = upstream(&new, 0);
        assert_eq!((peers.addresses(), resolved.get()), (vec![address], true));
        assert!(new.pools[0].health[0].get() && !new.pools[0].health[1].get());
        assert_eq!(told.wait_for(&new, limit).await, Ok(()));
        assert!(old.identities.iter().all(|identity| identity.usable.set(true)));
        let told = Reachable::of(&old);
        assert_eq!(told.wait_for(&new, limit).await, Err(Missing::Token { identity: "managed-identity".to_owned() }));
        let later = async {
            tokio::time::sleep(limit).await;
            assert!(new.identities.iter().all(|identity| identity.usable.set(true)));
        };
        let (waited, ()) = tokio::join!(told.wait_for(&new, Duration::from_secs(30)), later);
        assert_eq!(waited, Ok(()));
    }
}
