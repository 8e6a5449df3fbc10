//! By which names this node and its machine are known: in what it ships, in the audit log, and on the status page.

use crate::config::Config;
use crate::ledger::{LedgerError, NodeIdentity};
use crate::limits::NodeName;

/// Who this node is to those who read what it ships.
///
/// # Errors
/// [`LedgerError::Node`]
pub fn node_identity(config: &Config) -> Result<NodeIdentity, LedgerError> {
    let NodeName(name) = NodeName::find(given(config), config.server.state_dir.as_deref()).map_err(LedgerError::Node)?;
    Ok(NodeIdentity { name, host: host() })
}

/// This node's name in the audit log: the one by which the limits and reports of several nodes know it, else this machine's.
///
/// # Errors
/// If its name can't be read or stored.
pub(super) fn audit_name(config: &Config) -> std::io::Result<String> {
    let ships = config.ledger.as_ref().is_some_and(|ledger| ledger.ship.is_some());
    match &config.server.state_dir {
        // Without a folder, a generated name is another one after each start.
        Some(folder) if config.redis.is_some() || ships => NodeName::find(given(config), Some(folder)).map(|NodeName(name)| name),
        _ => Ok(given(config).map_or_else(host, str::to_owned)),
    }
}

/// The name that the config gives it.
fn given(config: &Config) -> Option<&str> {
    config.redis.as_ref()?.node.as_deref()
}

/// This machine's name.
pub(super) fn host() -> String {
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
