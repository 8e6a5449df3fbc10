//! Starts the ledger, which ships its sums if the config says so.

use super::own_names::node_identity;
use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::{Ledger, LedgerError, LedgerRules};
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
