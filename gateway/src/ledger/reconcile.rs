//! Compares the ledger with Azure's bill: a Cost Management export (CSV) with the same days of the ledger, by resource,
//! deployment (if the export names it) and meter.
//!
//! The columns' names differ by agreement and version; the known ones are listed below. Azure bills by resource and
//! meter; the deployment is in `AdditionalInfo` or in a tag, if at all.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::error::LedgerError;
use super::usage::{Dimension, UsageQuery, usage};
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
    /// Input that is not cached.
    Input,
    /// Input from the provider's cache.
    CachedInput,
    /// Output.
    Output,
}

/// One line of the comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The backend.
    pub backend: String,
    /// The deployment; null if the export doesn't name one.
    pub deployment: Option<String>,
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

type MeterKey = (String, Option<String>, Meter);

/// Compares an export with the ledger in `folder`.
///
/// # Errors
/// [`ReconcileError`]
pub fn reconcile(folder: &Path, config: &Config, export: impl Read) -> Result<Vec<Difference>, ReconcileError> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(export);
    let headers = reader.headers()?.clone();
    let find = |(what, names): (&'static str, &[&str])| {
        let found = headers.iter().position(|header| names.contains(&header.trim_start_matches('\u{feff}').trim()));
        found.ok_or_else(|| ReconcileError::Column { what, names: names.join(", ") })
    };
    let (date, resource, meter) = (find(DATE)?, find(RESOURCE)?, find(METER)?);
    let (quantity, unit, cost) = (find(QUANTITY)?, find(UNIT)?, find(COST)?);
    let further: Vec<usize> = FURTHER.iter().filter_map(|name| headers.iter().position(|header| header == *name)).collect();
    let mut billed: BTreeMap<MeterKey, Billed> = BTreeMap::new();
    let mut days: Option<(i64, i64)> = None;
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, csv::Position::line);
        let field = |index: usize| record.get(index).unwrap_or("").trim();
        let (Some(backend), Some(kind)) = (backend_of(config, field(resource)), meter_of(field(meter))) else { continue };
        let bad = |what: String| ReconcileError::Line { line, what };
        let day = day(field(date)).ok_or_else(|| bad(format!("'{}' is not a date", field(date))))?;
        let number = |text: &str| text.parse::<f64>().map_err(|_| bad(format!("'{text}' is not a number")));
        let tokens = number(field(quantity))? * tokens_of(field(unit)).ok_or_else(|| bad(format!("unknown unit '{}'", field(unit))))?;
        days = Some(days.map_or((day, day), |(first, last)| (first.min(day), last.max(day))));
        let deployment = further.iter().find_map(|index| deployment_of(field(*index)));
        let sum = billed.entry((backend, deployment, kind)).or_default();
        sum.tokens += tokens;
        sum.cost += number(field(cost))?;
    }
    let Some((first, last)) = days else { return Err(ReconcileError::Nothing) };
    let by = vec![Dimension::Name("backend"), Dimension::Name("deployment")];
    let query = UsageQuery { since: first, until: last + 86_400_000, by, consumer: None };
    let rows = usage(folder, &query)?;
    // A resource may be in the config more than once.
    let same = |backend: &str, other: &str| account_of(config, backend).is_some_and(|account| account_of(config, other) == Some(account));
    let named: Vec<MeterKey> = billed.keys().filter(|(_, deployment, _)| deployment.is_some()).cloned().collect();
    let in_ledger = |(backend, deployment, meter): &MeterKey| -> i64 {
        let text = |row: &super::usage::UsageRow, name: &str| row.by.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
        // Lines without a deployment cover all deployments that no other line names.
        let is_meant = |name: String| match deployment {
            Some(deployment) => *deployment == name,
            None => !named.contains(&(backend.clone(), Some(name), *meter)),
        };
        rows.iter()
            .filter(|row| same(backend, &text(row, "backend")) && is_meant(text(row, "deployment")))
            .map(|row| match meter {
                Meter::Input => row.input_tokens - row.cached_input_tokens,
                Meter::CachedInput => row.cached_input_tokens,
                Meter::Output => row.output_tokens,
            })
            .sum()
    };
    Ok(billed
        .into_iter()
        .map(|(place, sum)| Difference {
            ledger_tokens: in_ledger(&place),
            backend: place.0,
            deployment: place.1,
            meter: place.2,
            billed_tokens: sum.tokens.round() as i64,
            billed_cost: sum.cost,
        })
        .collect())
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

/// What a meter such as `gpt 4o 0806 Inp glbl Tokens` or `gpt-4.1 cached Inp Data Zone Tokens` counts; `None` for a
/// meter that doesn't count tokens.
fn meter_of(name: &str) -> Option<Meter> {
    let name = name.to_ascii_lowercase();
    let has = |parts: &[&str]| name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| parts.contains(&word));
    match () {
        () if !name.contains("token") => None,
        () if has(&["cached", "cchd", "cache", "cd"]) => Some(Meter::CachedInput),
        () if has(&["inp", "input", "in", "prompt"]) => Some(Meter::Input),
        () if has(&["outp", "output", "out", "opt", "completion"]) => Some(Meter::Output),
        () => None,
    }
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
        assert_eq!(meter_of("gpt 4o 0806 Inp glbl Tokens"), Some(Meter::Input));
        assert_eq!(meter_of("gpt 4o 0806 cached Inp glbl Tokens"), Some(Meter::CachedInput));
        assert_eq!(meter_of("gpt-4.1-mini Outp Data Zone Tokens"), Some(Meter::Output));
        assert_eq!(meter_of("PTU Hour"), None);
        assert_eq!([tokens_of("1K"), tokens_of("1M"), tokens_of("1000"), tokens_of("1 Hour")], [Some(1e3), Some(1e6), Some(1e3), None]);
        assert_eq!(day("11/03/2026"), day("2026-11-03T00:00:00"));
        assert_eq!(deployment_of(r#""deploymentName":"gpt4o""#), Some("gpt4o".into()));
        assert_eq!(deployment_of("x"), None);
    }
}
