//! The user's config as it is rehearsed: the same rules, with everything replaced that reaches beyond this process.

use std::net::SocketAddr;
use std::path::Path;

use spillway_plugins::auth::jwt::Algorithm;

use crate::config::{AccessLogConfig, BackendAuth, Config, Durability, Identity, Redis, Secret, TokenAuth, WhenLost};
use crate::rehearse::plan::credential;

/// Where the stand-ins are.
#[derive(Debug, Clone, Default)]
pub(super) struct Addresses {
    /// Of each backend, with the same index as in the config; `None` for one that the gateway answers itself.
    pub(super) backends: Vec<Option<SocketAddr>>,
    /// Backends that are reached with TLS, though nothing speaks it there.
    pub(super) broken_tls: Vec<usize>,
    /// The token service of the gateway's identities.
    pub(super) tokens: Option<SocketAddr>,
    /// The issuer of callers' tokens.
    pub(super) issuer: Option<SocketAddr>,
    /// Redis; `None` for none.
    pub(super) redis: Option<SocketAddr>,
}

/// The config to rehearse. `ledger` is the folder of a ledger whose disk is full, if that is the fault.
pub(super) fn staged(config: &Config, addresses: &Addresses, ledger: Option<&Path>) -> Config {
    let mut config = config.clone();
    let here = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = &mut config.server;
    (server.listen, server.admin, server.admin_token, server.tls) = (vec![here], here, None, None);
    (server.watch, server.threads, server.state_dir) = (false, None, ledger.map(Path::to_owned));
    config.ledger = config.ledger.zip(ledger).map(|(mut rules, folder)| {
        rules.folder = folder.to_owned();
        rules.may_grow = false;
        rules.durability = Durability::Fast;
        rules.ship = None;
        rules
    });
    config.log.access = AccessLogConfig::Off;
    (config.traces, config.plugins.prompt_log, config.plugins.cache, config.shadow) = (None, None, None, None);
    if let Some(guard) = &mut config.plugins.guard {
        guard.safety = None;
    }
    config.redis = config.redis.zip(addresses.redis).map(|(redis, address)| redis_at(redis, address));
    for (at, backend) in config.backends.iter_mut().enumerate() {
        if let (Some(endpoint), Some(address)) = (&mut backend.endpoint, addresses.backends.get(at).copied().flatten()) {
            (endpoint.host, endpoint.port) = (address.ip().to_string(), address.port());
            endpoint.tls = addresses.broken_tls.contains(&at);
            endpoint.prefix.clear();
        }
        backend.ca.clear();
        if let BackendAuth::Token(token) = &mut backend.auth {
            *token = identity_at(token, addresses.tokens);
        }
    }
    for pool in &mut config.pools {
        if let Some(health) = &mut pool.health {
            health.path = "/v1/models".to_owned();
        }
    }
    if let (Some(tokens), Some(issuer)) = (&mut config.plugins.auth.tokens, addresses.issuer) {
        tokens.issuer.discovery = format!("http://{issuer}/");
        tokens.issuer.rules.algorithms = vec![Algorithm::ES256];
    }
    // No person signs in during a rehearsal, and the issuer must not be asked.
    config.server.sign_in = None;
    credential::add_keys(&mut config);
    config
}

fn redis_at(redis: Redis, address: SocketAddr) -> Redis {
    Redis { url: Secret::from(format!("redis://{address}")), node: Some("rehearsal".to_owned()), ..redis }
}

/// The same identity, whose tokens come from the stand-in: identities that share a token still do.
fn identity_at(token: &TokenAuth, service: Option<SocketAddr>) -> TokenAuth {
    let address = service.unwrap_or_else(|| SocketAddr::from(super::services::NOWHERE));
    let identity = Identity::Rehearsed { service: address, name: token.identity.to_string() };
    TokenAuth { identity, scope: token.scope.clone() }
}

/// What was replaced, in sentences.
pub(in crate::rehearse) fn replaced(config: &Config) -> Vec<String> {
    let mut said = vec![
        "Backends are stand-ins on this machine, without TLS, quotas and provisioned throughput of their own.".to_owned(),
        "Time is virtual: it stops while anything happens.".to_owned(),
    ];
    let tokens = config.backends.iter().any(|backend| matches!(backend.auth, BackendAuth::Token(_)));
    let lost = match config.redis.as_ref().map(|redis| redis.quotas_when_lost) {
        Some(WhenLost::Refuse) => "Redis is there only as a fault; without one, limits are those of a single node.",
        Some(_) => "Redis is there only as a fault; otherwise this node is alone and has all of each limit.",
        None => "",
    };
    let parts = [
        (tokens, "Tokens of the gateway's identities come from a stand-in."),
        (config.plugins.auth.tokens.is_some(), "Callers' tokens come from a stand-in, signed with ES256."),
        (!config.consumers.is_empty(), "Each consumer has a key of its own for the rehearsal."),
        (config.server.sign_in.is_some(), "No person signs in."),
        (config.server.tls.is_some(), "The listener speaks no TLS."),
        (config.ledger.is_some(), "There is a ledger only for the fault ledger-full, in a folder that is removed."),
        (config.plugins.cache.is_some(), "The cache is off: every request reaches a backend."),
        (config.plugins.guard.as_ref().is_some_and(|guard| guard.safety.is_some()), "The guard doesn't ask Azure AI Content Safety."),
        (config.plugins.prompt_log.is_some(), "The prompt log is off."),
        (config.traces.is_some(), "Traces are off."),
        (config.shadow.is_some(), "The shadow is off: nobody mirrors a rehearsal."),
        (config.pools.iter().any(|pool| pool.health.is_some()), "Health checks ask the stand-ins for /v1/models."),
        (!lost.is_empty(), lost),
    ];
    said.extend(parts.into_iter().filter(|(applies, _)| *applies).map(|(_, text)| text.to_owned()));
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secrets;

    #[test]
    fn nothing_that_is_staged_reaches_beyond_this_machine() {
        let text = include_str!("../../../../conf/spillway.toml").to_owned() + "\n[shadow]\nlisten = [\"127.0.0.1:8083\"]\n";
        let config = Config::parse(&text, Path::new("c.toml"), &Secrets::stand_ins()).unwrap_or_else(|error| panic!("{error}"));
        let at = SocketAddr::from(([127, 0, 0, 1], 4711));
        let addresses = Addresses {
            backends: config.backends.iter().map(|backend| backend.endpoint.as_ref().map(|_| at)).collect(),
            ..Addresses::default()
        };
        let staged = staged(&config, &addresses, None);
        for backend in staged.backends.iter().filter_map(|backend| backend.endpoint.as_ref()) {
            assert_eq!((&*backend.host, backend.port, backend.tls), ("127.0.0.1", 4711, false));
        }
        assert!(staged.server.listen.iter().chain([&staged.server.admin]).all(|address| address.ip().is_loopback() && address.port() == 0));
        assert!(
            staged.server.state_dir.is_none()
                && staged.shadow.is_none()
                && staged.redis.is_none()
                && staged.traces.is_none()
                && staged.plugins.prompt_log.is_none()
        );
        // Rules stay as they are.
        assert_eq!(
            staged.pools.iter().map(|pool| &pool.circuit).collect::<Vec<_>>(),
            config.pools.iter().map(|pool| &pool.circuit).collect::<Vec<_>>()
        );
        assert_eq!(
            staged.pools.iter().map(|pool| pool.timeouts).collect::<Vec<_>>(),
            config.pools.iter().map(|pool| pool.timeouts).collect::<Vec<_>>()
        );
    }
}
