//! Starts the ledger, which ships its sums if the config says so; and this node's name in what it ships and in the audit log.

use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::{Ledger, LedgerError, LedgerRules, NodeIdentity};
use crate::limits::NodeName;
use crate::telemetry::metrics::Metrics;

/// Starts the ledger.
///
/// # Errors
/// [`LedgerError`]
pub(super) fn start_ledger(rules: LedgerRules, config: &Config, metrics: &Metrics, clock: &Clock) -> Result<Ledger, LedgerError> {
    let ship = rules.ship.clone();
    let mut ledger = Ledger::start(rules, clock.clone(), metrics.ledger.clone())?;
    if let Some(ship) = ship {
        let node = node_identity(config)?;
        ledger.start_shipping(&ship, node, config.redis.as_ref(), clock.clone())?;
    }
    Ok(ledger)
}

/// Who this node is to those who read what it ships.
///
/// # Errors
/// [`LedgerError::Node`]
pub fn node_identity(config: &Config) -> Result<NodeIdentity, LedgerError> {
    let named = config.redis.as_ref().and_then(|redis| redis.node.as_deref());
    let NodeName(name) = NodeName::find(named, config.server.state_dir.as_deref()).map_err(LedgerError::Node)?;
    Ok(NodeIdentity { name, host: host() })
}

/// This node's name in the audit log: the one by which the limits and reports of several nodes know it, else this machine's.
///
/// # Errors
/// If its name can't be read or stored.
pub(super) fn audit_name(config: &Config) -> std::io::Result<String> {
    let named = config.redis.as_ref().and_then(|redis| redis.node.as_deref());
    let ships = config.ledger.as_ref().is_some_and(|ledger| ledger.ship.is_some());
    match &config.server.state_dir {
        // Without a folder, a generated name is another one after each start.
        Some(folder) if config.redis.is_some() || ships => NodeName::find(named, Some(folder)).map(|NodeName(name)| name),
        _ => Ok(named.map_or_else(host, str::to_owned)),
    }
}

/// This machine's name.
fn host() -> String {
    nix::unistd::gethostname().map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Secrets;

    fn config(server: &str, rest: &str) -> Config {
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\nallow_literal_secrets = true\n{server}\n[[backends]]\nname = \"a\"\nkind = \"mock\"\n[[pools]]\nname = \"p\"\nmodels = [\"m\"]\nmembers = [{{ backend = \"a\" }}]\n{rest}"
        );
        Config::parse(&text, Path::new("t.toml"), &Secrets::default()).unwrap()
    }

    #[test]
    fn the_audit_log_names_the_node_as_limits_and_reports_do() {
        let folder = tempfile::tempdir().unwrap();
        let state = format!("state_dir = \"{}\"", folder.path().display());
        let redis = "[redis]\nurl = \"redis://127.0.0.1:1\"\n";
        let named = format!("{redis}node = \"gw-1\"\n");
        for server in ["", &state] {
            assert_eq!(audit_name(&config(server, &named)).unwrap(), "gw-1");
            assert_eq!(audit_name(&config(server, "")).unwrap(), host());
        }
        assert_eq!(audit_name(&config("", redis)).unwrap(), host(), "its name would be another one after each start");
        let ship = format!("[ledger.ship]\nto = \"{}\"\n", folder.path().display());
        for rest in [redis, &ship] {
            let config = config(&state, rest);
            assert_eq!(audit_name(&config).unwrap(), node_identity(&config).unwrap().name);
            assert_eq!(audit_name(&config).unwrap(), std::fs::read_to_string(folder.path().join("node")).unwrap());
        }
    }
}
