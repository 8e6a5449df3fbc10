//! Compares the ledger with Azure's bill: a Cost Management export (CSV) with the same days of the ledger, by resource,
//! deployment (if the export names it), service tier and meter; tokens and costs.
//!
//! The columns' names differ by agreement and version; the known ones are in `bill.rs`. Azure bills by resource and
//! meter; the deployment is in `AdditionalInfo` or in a tag, if at all.

mod bill;
mod error;
mod meters;
mod twice;

use std::collections::BTreeMap;
use std::io::Read;

use serde::Serialize;
use serde_json::Value;

pub use bill::UnitHours;
use bill::{Bill, Place, account_of};
pub use error::ReconcileError;
pub use meters::{BilledAs, Meter};
pub use twice::BilledTwice;

use super::report_database::ReportDatabase;
use super::usage::{Dimension, UsageQuery, UsageRow};
use crate::config::Config;

/// A day in milliseconds.
const DAY: i64 = 86_400_000;

/// A comparison.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Reconciliation {
    /// The currency of billed costs; null if the export doesn't name one.
    pub currency: Option<String>,
    /// Tokens, by meter.
    pub rows: Vec<Difference>,
    /// Costs: a request's cost is not split by meter.
    pub costs: Vec<CostDifference>,
    /// Hours of provisioned throughput.
    pub provisioned: Vec<ProvisionedHours>,
    /// Purchases, refunds and unused parts of reservations: they belong to no deployment.
    pub reservations: Vec<Reservation>,
    /// Quantities that are billed under two meters.
    pub billed_twice: Vec<BilledTwice>,
    /// Meters of the config's backends that are not understood, and not compared.
    pub skipped: Vec<Skipped>,
}

/// The costs of one place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CostDifference {
    /// The backend.
    pub backend: String,
    /// The deployment; null if the export doesn't name one.
    pub deployment: Option<String>,
    /// How it is billed.
    pub billed_as: BilledAs,
    /// The billed cost, in `currency`.
    pub billed_cost: f64,
    /// The cost in the ledger, in US dollars; of provisioned throughput, that of the hours in which it was used.
    pub ledger_cost_usd: f64,
}

/// One line of the comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The backend.
    pub backend: String,
    /// The deployment; null if the export doesn't name one.
    pub deployment: Option<String>,
    /// How they are billed.
    pub billed_as: BilledAs,
    /// The meter.
    pub meter: Meter,
    /// Tokens that Azure bills.
    pub billed_tokens: i64,
    /// Tokens in the ledger.
    pub ledger_tokens: i64,
    /// The billed cost, in `currency`.
    pub billed_cost: f64,
}

impl Difference {
    /// The ledger's tokens minus the billed ones, in percent of the billed ones.
    pub fn percent(&self) -> Option<f64> {
        (self.billed_tokens != 0).then(|| (self.ledger_tokens - self.billed_tokens) as f64 * 100.0 / self.billed_tokens as f64)
    }
}

/// Hours of provisioned throughput that are billed for a deployment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProvisionedHours {
    /// The backend.
    pub backend: String,
    /// The deployment; null if the export doesn't name one.
    pub deployment: Option<String>,
    /// Units times hours.
    pub unit_hours: UnitHours,
}

/// What reservations of provisioned throughput cost.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reservation {
    /// The product.
    pub product: String,
    /// `Purchase`, `Refund` or `UnusedReservation`.
    pub charge: String,
    /// Lines of the export.
    pub lines: u64,
    /// The billed cost, in `currency`.
    pub billed_cost: f64,
}

/// A meter that is not compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Skipped {
    /// The backend.
    pub backend: String,
    /// The meter's name.
    pub meter: String,
    /// Lines of the export.
    pub lines: u64,
    /// The billed cost, in `currency`.
    pub billed_cost: f64,
}

/// Compares an export with a ledger, or with the sums of all nodes: `sums` opens it for the export's time range, in milliseconds
/// since 1970.
///
/// # Errors
/// [`ReconcileError`]
pub fn reconcile(
    config: &Config,
    export: impl Read,
    sums: impl FnOnce(i64, i64) -> Result<ReportDatabase, ReconcileError>,
) -> Result<Reconciliation, ReconcileError> {
    let bill = Bill::read(config, export)?;
    let Some((first, last)) = bill.days else { return Err(ReconcileError::Nothing) };
    let by = ["backend", "deployment", "service_tier"].map(Dimension::Name).to_vec();
    let query = UsageQuery { since: first, until: last + DAY, by, consumer: None };
    let rows = sums(query.since, query.until)?.usage(&query)?;
    let named: Vec<&Place> = bill.sums.keys().map(|(place, _)| place).filter(|(_, deployment, _)| deployment.is_some()).collect();
    let of = |place: &Place| rows.iter().filter(|row| is_part_of(config, row, place, &named)).collect::<Vec<_>>();
    let mut costs: BTreeMap<&Place, f64> = BTreeMap::new();
    let mut differences = Vec::new();
    for ((place, meter), sum) in &bill.sums {
        *costs.entry(place).or_default() += sum.cost;
        let Some(meter) = *meter else { continue };
        // Without a meter of their own, writes to the cache are billed as other input.
        let writes_apart = bill.sums.contains_key(&(place.clone(), Some(Meter::CacheWrite)));
        differences.push(Difference {
            backend: place.0.clone(),
            deployment: place.1.clone(),
            billed_as: place.2,
            meter,
            billed_tokens: sum.tokens.round() as i64,
            ledger_tokens: of(place).into_iter().map(|row| tokens_in(row, meter, writes_apart)).sum(),
            billed_cost: sum.cost,
        });
    }
    let costs = costs.into_iter().map(|(place, billed_cost)| CostDifference {
        backend: place.0.clone(),
        deployment: place.1.clone(),
        billed_as: place.2,
        billed_cost,
        ledger_cost_usd: of(place).into_iter().map(|row| cost_in(row, place.2)).sum(),
    });
    Ok(Reconciliation { costs: costs.collect(), rows: differences, ..rest(&bill) })
}

/// What a bill has beside tokens and their costs.
fn rest(bill: &Bill) -> Reconciliation {
    let provisioned = bill.provisioned.iter().map(|((backend, deployment), unit_hours)| ProvisionedHours {
        backend: backend.clone(),
        deployment: deployment.clone(),
        unit_hours: *unit_hours,
    });
    let reservations = bill.reservations.iter().map(|((product, charge), sum)| Reservation {
        product: product.clone(),
        charge: charge.clone(),
        lines: sum.lines,
        billed_cost: sum.cost,
    });
    let skipped = bill.skipped.iter().map(|((backend, meter), sum)| Skipped {
        backend: backend.clone(),
        meter: meter.clone(),
        lines: sum.lines,
        billed_cost: sum.cost,
    });
    Reconciliation {
        provisioned: provisioned.collect(),
        reservations: reservations.collect(),
        billed_twice: bill.quantities.billed_twice(),
        skipped: skipped.collect(),
        currency: bill.currency.clone(),
        ..Reconciliation::default()
    }
}

/// Whether a row of the ledger's report is billed at this place. Lines of a bill without a deployment cover all
/// deployments that no other line names.
fn is_part_of(config: &Config, row: &UsageRow, (backend, deployment, billed_as): &Place, named: &[&Place]) -> bool {
    let text = |name: &str| row.by.get(name).and_then(Value::as_str).unwrap_or("");
    let (name, hourly) = (text("deployment"), *billed_as == BilledAs::Provisioned);
    // A resource may be in the config more than once.
    let same = account_of(config, backend).is_some_and(|account| account_of(config, text("backend")) == Some(account));
    let is_meant = match deployment {
        Some(deployment) => deployment == name,
        None => !named.iter().any(|(other, known, way)| other == backend && known.as_deref() == Some(name) && way == billed_as),
    };
    same && is_meant && (hourly || BilledAs::of(text("service_tier")) == *billed_as)
}

fn tokens_in(row: &UsageRow, meter: Meter, writes_apart: bool) -> i64 {
    match meter {
        Meter::Input if writes_apart => row.input_tokens - row.cached_input_tokens - row.cache_write_tokens,
        Meter::Input => row.input_tokens - row.cached_input_tokens,
        Meter::CachedInput => row.cached_input_tokens,
        Meter::CacheWrite => row.cache_write_tokens,
        Meter::Output => row.output_tokens,
    }
}

fn cost_in(row: &UsageRow, billed_as: BilledAs) -> f64 {
    let paid = row.paid_usd.unwrap_or(0.0);
    if billed_as == BilledAs::Provisioned { row.cost_usd.unwrap_or(0.0) - paid } else { paid }
}
