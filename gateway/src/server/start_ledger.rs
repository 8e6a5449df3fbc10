//! Starts the ledger, which ships its sums if the config says so.

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
    let host = nix::unistd::gethostname().map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into_owned());
    Ok(NodeIdentity { name, host })
}
