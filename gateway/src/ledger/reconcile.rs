//! Compares the ledger with Azure's bill: a Cost Management export (CSV) with the same days of the ledger, by resource,
//! deployment (if the export names it), service tier and meter; tokens and costs.
//!
//! The columns' names differ by agreement and version; the known ones are listed below. Azure bills by resource and
//! meter; the deployment is in `AdditionalInfo` or in a tag, if at all.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::error::LedgerError;
use super::usage::{Dimension, UsageQuery, UsageRow, usage};
use crate::config::Config;

/// An export can't be compared.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// It can't be read.
    #[error("can't read the export: {0}")]
    Csv(#[from] csv::Error),
    /// It lacks a column.
    #[error("the export has no column for {what}; one of: {names}")]
    Column {
        /// The missing column.
        what: &'static str,
        /// Its possible names.
        names: String,
    },
    /// A line can't be parsed.
    #[error("line {line} of the export: {what}")]
    Line {
        /// Its number.
        line: u64,
        /// What is wrong.
        what: String,
    },
    /// No line is about tokens of a model.
    #[error("the export has no line about one of the config's Azure backends (by ResourceId)")]
    Nothing,
    /// The ledger can't be read.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
}

/// What tokens are billed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Meter {
    /// Input that is not cached; with writes to the cache, if they have no meter of their own.
    Input,
    /// Input from the provider's cache.
    CachedInput,
    /// Input written to the provider's cache.
    CacheWrite,
    /// Output.
    Output,
}

/// How something is billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BilledAs {
    /// By tokens of the default service tier.
    Default,
    /// By tokens of the tier `flex`.
    Flex,
    /// By tokens of the tier `priority`.
    Priority,
    /// By tokens of batches.
    Batch,
    /// By the hour: provisioned throughput.
    Provisioned,
}

impl BilledAs {
    /// How attempts are billed whose answers name this service tier.
    fn of(service_tier: &str) -> Self {
        match service_tier {
            "flex" => BilledAs::Flex,
            "priority" => BilledAs::Priority,
            "batch" => BilledAs::Batch,
            _ => BilledAs::Default,
        }
    }

    /// Its name.
    pub fn label(self) -> &'static str {
        match self {
            BilledAs::Default => "default",
            BilledAs::Flex => "flex",
            BilledAs::Priority => "priority",
            BilledAs::Batch => "batch",
            BilledAs::Provisioned => "provisioned",
        }
    }
}

/// A comparison.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Reconciliation {
    /// Tokens, by meter.
    pub rows: Vec<Difference>,
    /// Costs: a request's cost is not split by meter.
    pub costs: Vec<CostDifference>,
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
    /// The billed cost, in the export's currency.
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
    /// The billed cost, in the export's currency.
    pub billed_cost: f64,
}

impl Difference {
    /// The ledger's tokens minus the billed ones, in percent of the billed ones.
    pub fn percent(&self) -> Option<f64> {
        (self.billed_tokens != 0).then(|| (self.ledger_tokens - self.billed_tokens) as f64 * 100.0 / self.billed_tokens as f64)
    }
}

/// The columns, and their names.
const DATE: (&str, &[&str]) = ("the date", &["Date", "UsageDate", "UsageDateTime", "date"]);
const RESOURCE: (&str, &[&str]) = ("the resource", &["ResourceId", "InstanceId", "InstanceName", "resourceId"]);
const METER: (&str, &[&str]) = ("the meter's name", &["MeterName", "Meter", "meterName"]);
const QUANTITY: (&str, &[&str]) = ("the quantity", &["Quantity", "UsageQuantity", "quantity"]);
const UNIT: (&str, &[&str]) = ("the unit", &["UnitOfMeasure", "Unit", "unitOfMeasure"]);
const COST: (&str, &[&str]) = ("the cost", &["CostInBillingCurrency", "PreTaxCost", "Cost", "costInBillingCurrency", "costInUsd"]);
const FURTHER: [&str; 4] = ["AdditionalInfo", "additionalInfo", "Tags", "tags"];

#[derive(Debug, Default, Clone, Copy)]
struct Billed {
    tokens: f64,
    cost: f64,
}

/// Backend, deployment, and how it is billed.
type Place = (String, Option<String>, BilledAs);

/// Compares an export with the ledger in `folder`.
///
/// # Errors
/// [`ReconcileError`]
pub fn reconcile(folder: &Path, config: &Config, export: impl Read) -> Result<Reconciliation, ReconcileError> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(export);
    let headers = reader.headers()?.clone();
    let find = |(what, names): (&'static str, &[&str])| {
        let found = headers.iter().position(|header| names.contains(&header.trim_start_matches('\u{feff}').trim()));
        found.ok_or_else(|| ReconcileError::Column { what, names: names.join(", ") })
    };
    let (date, resource, meter) = (find(DATE)?, find(RESOURCE)?, find(METER)?);
    let (quantity, unit, cost) = (find(QUANTITY)?, find(UNIT)?, find(COST)?);
    let further: Vec<usize> = FURTHER.iter().filter_map(|name| headers.iter().position(|header| header == *name)).collect();
    let mut billed: BTreeMap<(Place, Option<Meter>), Billed> = BTreeMap::new();
    let mut days: Option<(i64, i64)> = None;
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, csv::Position::line);
        let field = |index: usize| record.get(index).unwrap_or("").trim();
        let (Some(backend), Some((billed_as, kind))) = (backend_of(config, field(resource)), meter_of(field(meter))) else { continue };
        let bad = |what: String| ReconcileError::Line { line, what };
        let day = day(field(date)).ok_or_else(|| bad(format!("'{}' is not a date", field(date))))?;
        let number = |text: &str| text.parse::<f64>().map_err(|_| bad(format!("'{text}' is not a number")));
        let tokens = match kind {
            Some(_) => number(field(quantity))? * tokens_of(field(unit)).ok_or_else(|| bad(format!("unknown unit '{}'", field(unit))))?,
            None => 0.0,
        };
        days = Some(days.map_or((day, day), |(first, last)| (first.min(day), last.max(day))));
        let deployment = further.iter().find_map(|index| deployment_of(field(*index)));
        let sum = billed.entry(((backend, deployment, billed_as), kind)).or_default();
        sum.tokens += tokens;
        sum.cost += number(field(cost))?;
    }
    let Some((first, last)) = days else { return Err(ReconcileError::Nothing) };
    let by = ["backend", "deployment", "service_tier"].map(Dimension::Name).to_vec();
    let query = UsageQuery { since: first, until: last + 86_400_000, by, consumer: None };
    let rows = usage(folder, &query)?;
    let named: Vec<&Place> = billed.keys().map(|(place, _)| place).filter(|(_, deployment, _)| deployment.is_some()).collect();
    let of = |place: &Place| rows.iter().filter(|row| is_part_of(config, row, place, &named)).collect::<Vec<_>>();
    let mut costs: BTreeMap<&Place, f64> = BTreeMap::new();
    let mut differences = Vec::new();
    for ((place, meter), sum) in &billed {
        *costs.entry(place).or_default() += sum.cost;
        let Some(meter) = *meter else { continue };
        // Without a meter of their own, writes to the cache are billed as other input.
        let writes_apart = billed.contains_key(&(place.clone(), Some(Meter::CacheWrite)));
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
    Ok(Reconciliation { costs: costs.collect(), rows: differences })
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

/// A backend's account: the first label of its host.
fn account_of<'c>(config: &'c Config, backend: &str) -> Option<&'c str> {
    let found = config.backends.iter().find(|known| *known.name == *backend)?;
    found.endpoint.as_ref()?.server_name.split('.').next()
}

/// The (first) backend of a resource.
fn backend_of(config: &Config, resource: &str) -> Option<String> {
    let account = resource.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty())?;
    let is_there = |name: &str| account_of(config, name).is_some_and(|known| known.eq_ignore_ascii_case(account));
    config.backends.iter().map(|backend| backend.name.to_string()).find(|name| is_there(name))
}

/// What a meter such as `gpt 4o 0806 Inp glbl Tokens`, `5.6 sol ShortCo Cd Inp PP Gl` or `Provisioned Managed Global
/// Unit` counts, and how it is billed; `None` for a meter that counts something else.
fn meter_of(name: &str) -> Option<(BilledAs, Option<Meter>)> {
    let name = name.to_ascii_lowercase();
    let has = |parts: &[&str]| name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| parts.contains(&word));
    if has(&["provisioned"]) {
        return Some((BilledAs::Provisioned, None));
    }
    let billed_as = match () {
        () if has(&["batch"]) => BilledAs::Batch,
        () if has(&["flex", "fl"]) => BilledAs::Flex,
        () if has(&["pp", "priority"]) => BilledAs::Priority,
        () => BilledAs::Default,
    };
    // Newer names say where the model runs in place of the word "Tokens".
    if !name.contains("token") && !has(&["gl", "glbl", "global", "dz", "dzone", "zone", "regnl", "regional"]) {
        return None;
    }
    let meter = match () {
        () if has(&["cached", "cchd", "cache", "cd"]) && has(&["wr", "write"]) => Meter::CacheWrite,
        () if has(&["cached", "cchd", "cache", "cd"]) => Meter::CachedInput,
        () if has(&["inp", "input", "in", "prompt"]) => Meter::Input,
        () if has(&["outp", "output", "out", "opt", "completion"]) => Meter::Output,
        () => return None,
    };
    Some((billed_as, Some(meter)))
}

/// The number of tokens in one unit.
fn tokens_of(unit: &str) -> Option<f64> {
    let (number, letter) = unit.split_at(unit.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unit.len()));
    let number: f64 = if number.is_empty() { 1.0 } else { number.parse().ok()? };
    match letter.trim().split(' ').next().unwrap_or("") {
        "" | "Count" | "Tokens" => Some(number),
        "K" | "k" => Some(number * 1e3),
        "M" | "m" => Some(number * 1e6),
        _ => None,
    }
}

/// The beginning of a day, in milliseconds since 1970.
fn day(text: &str) -> Option<i64> {
    let text = text.split(['T', ' ']).next()?;
    let formats = ["%Y-%m-%d", "%m/%d/%Y", "%Y%m%d"];
    let day = formats.iter().find_map(|format| chrono::NaiveDate::parse_from_str(text, format).ok())?;
    Some(day.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis())
}

/// The deployment in a column of further data: JSON, with or without its braces.
fn deployment_of(text: &str) -> Option<String> {
    let facts: Value = serde_json::from_str(text).or_else(|_| serde_json::from_str(&format!("{{{text}}}"))).ok()?;
    let names = ["deploymentName", "DeploymentName", "deployment", "Deployment"];
    names.iter().find_map(|name| facts[name].as_str()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meters_units_and_days_are_understood() {
        for (name, billed_as, meter) in [
            ("gpt 4o 0806 Inp glbl Tokens", BilledAs::Default, Some(Meter::Input)),
            ("gpt 4o 0806 cached Inp glbl Tokens", BilledAs::Default, Some(Meter::CachedInput)),
            ("gpt-4.1-mini Outp Data Zone Tokens", BilledAs::Default, Some(Meter::Output)),
            ("5.4 pp inp Gl 1M Tokens", BilledAs::Priority, Some(Meter::Input)),
            ("5.6 sol ShortCo Cd Inp PP Gl", BilledAs::Priority, Some(Meter::CachedInput)),
            ("5.6 sol LongCo Cd Wr Std Gl", BilledAs::Default, Some(Meter::CacheWrite)),
            ("54 mini Inp Flex Gl", BilledAs::Flex, Some(Meter::Input)),
            ("5.4 mini Batch opt Dz", BilledAs::Batch, Some(Meter::Output)),
            ("Provisioned Managed Global Unit", BilledAs::Provisioned, None),
        ] {
            assert_eq!(meter_of(name), Some((billed_as, meter)), "{name}");
        }
        for other in ["PTU Hour", "Bandwidth", "Data Transfer Out", "Image gen Gl"] {
            assert_eq!(meter_of(other), None, "{other}");
        }
        assert_eq!([tokens_of("1K"), tokens_of("1M"), tokens_of("1000"), tokens_of("1 Hour")], [Some(1e3), Some(1e6), Some(1e3), None]);
        assert_eq!(day("11/03/2026"), day("2026-11-03T00:00:00"));
        assert_eq!(deployment_of(r#""deploymentName":"gpt4o""#), Some("gpt4o".into()));
        assert_eq!(deployment_of("x"), None);
    }
}
