//! Reads a bill: a Cost Management export. It is read line by line, and only sums are kept: memory grows with the number of
//! deployments, meters and days, not with the number of lines.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;

use serde::Serialize;
use serde_json::Value;

use super::error::ReconcileError;
use super::meters::{BilledAs, Meter, meter_of, tokens_of};
use super::twice::Quantities;
use crate::config::Config;

/// The columns, and their names; upper and lower case are the same.
const DATE: (&str, &[&str]) = ("the date", &["Date", "UsageDate", "UsageDateTime"]);
const RESOURCE: (&str, &[&str]) = ("the resource", &["ResourceId", "InstanceId", "InstanceName"]);
const METER: (&str, &[&str]) = ("the meter's name", &["MeterName", "Meter"]);
const QUANTITY: (&str, &[&str]) = ("the quantity", &["Quantity", "UsageQuantity"]);
const UNIT: (&str, &[&str]) = ("the unit", &["UnitOfMeasure", "Unit"]);
/// In US dollars, as the ledger has it. Without it, the cost is in the currency of the bill.
const COST_IN_USD: &str = "CostInUsd";
const COST: (&str, &[&str]) = ("the cost", &["CostInBillingCurrency", "PreTaxCost", "Cost"]);
const CURRENCY: [&str; 3] = ["BillingCurrencyCode", "BillingCurrency", "Currency"];
const FURTHER: [&str; 2] = ["AdditionalInfo", "Tags"];
/// Most resources and meters that are remembered; an export of a whole agreement has many that are of no interest.
const REMEMBERED: usize = 10_000;

/// What a bill says of one place and meter.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Billed {
    pub(super) tokens: f64,
    pub(super) cost: f64,
}

/// Backend, deployment, and how it is billed.
pub(super) type Place = (String, Option<String>, BilledAs);

/// A bill, summed up.
#[derive(Debug, Default)]
pub(super) struct Bill {
    /// By place and meter; provisioned throughput has no meter of tokens.
    pub(super) sums: BTreeMap<(Place, Option<Meter>), Billed>,
    /// The first and the last day, in milliseconds since 1970.
    pub(super) days: Option<(i64, i64)>,
    /// Provisioned throughput, by backend and deployment.
    pub(super) provisioned: BTreeMap<(String, Option<String>), UnitHours>,
    /// Purchases and unused parts of reservations, by product and kind of charge.
    pub(super) reservations: BTreeMap<(String, String), Sum>,
    /// Meters of known backends that are not understood.
    pub(super) skipped: BTreeMap<(String, String), Sum>,
    /// Each day's quantity under each meter.
    pub(super) quantities: Quantities,
    /// The currency of its costs, if the export names one.
    pub(super) currency: Option<String>,
}

/// Lines and what they cost.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Sum {
    pub(super) lines: u64,
    pub(super) cost: f64,
}

/// Hours of provisioned throughput units.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize)]
pub struct UnitHours {
    /// Paid by the hour.
    pub hourly: f64,
    /// Covered by a reservation.
    pub reserved: f64,
}

impl UnitHours {
    fn add(&mut self, hours: f64, is_reserved: bool) {
        *(if is_reserved { &mut self.reserved } else { &mut self.hourly }) += hours;
    }
}

impl Sum {
    fn add(&mut self, cost: f64) {
        self.lines += 1;
        self.cost += cost;
    }
}

/// Where each column is.
struct Columns {
    date: usize,
    resource: usize,
    meter: usize,
    quantity: usize,
    unit: usize,
    cost: usize,
    /// Whether all costs are in US dollars, whatever the bill's currency.
    in_usd: bool,
    currency: Option<usize>,
    further: Vec<usize>,
    product: Option<usize>,
    charge: Option<usize>,
    pricing: Option<usize>,
    meter_id: Option<usize>,
}

impl Columns {
    fn find(headers: &csv::StringRecord) -> Result<Self, ReconcileError> {
        let named = |name: &str| headers.iter().position(|header| header.trim_start_matches('\u{feff}').trim().eq_ignore_ascii_case(name));
        let needed = |(what, names): (&'static str, &[&str])| {
            let found = names.iter().find_map(|name| named(name));
            found.ok_or_else(|| ReconcileError::Column { what, names: names.join(", ") })
        };
        let in_usd = named(COST_IN_USD);
        Ok(Columns {
            date: needed(DATE)?,
            resource: needed(RESOURCE)?,
            meter: needed(METER)?,
            quantity: needed(QUANTITY)?,
            unit: needed(UNIT)?,
            cost: in_usd.map_or_else(|| needed(COST), Ok)?,
            in_usd: in_usd.is_some(),
            currency: CURRENCY.iter().find_map(|name| named(name)).filter(|_| in_usd.is_none()),
            further: FURTHER.iter().filter_map(|name| named(name)).collect(),
            product: named("ProductName").or_else(|| named("Product")),
            charge: named("ChargeType"),
            pricing: named("PricingModel"),
            meter_id: named("MeterId"),
        })
    }
}

/// A line's fields.
struct Line<'r> {
    record: &'r csv::StringRecord,
}

impl Line<'_> {
    fn text(&self, column: usize) -> &str {
        self.record.get(column).unwrap_or("").trim()
    }

    fn optional(&self, column: Option<usize>) -> &str {
        column.map_or("", |column| self.text(column))
    }

    fn number(&self, column: usize) -> Result<f64, ReconcileError> {
        let text = self.text(column);
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
        number.ok_or_else(|| self.bad(format!("'{text}' is not a number")))
    }

    fn bad(&self, what: String) -> ReconcileError {
        ReconcileError::Line { line: self.record.position().map_or(0, csv::Position::line), what }
    }
}

impl Bill {
    /// Reads an export.
    pub(super) fn read(config: &Config, export: impl Read) -> Result<Self, ReconcileError> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(export);
        let headers = reader.headers()?;
        let (columns, fields) = (Columns::find(headers)?, headers.len());
        let mut bill = Bill { currency: columns.in_usd.then(|| "USD".to_owned()), ..Bill::default() };
        let mut known = Known { config, backends: HashMap::new(), meters: HashMap::new() };
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record)? {
            let line = Line { record: &record };
            if record.len() < fields {
                // Most likely the end of a file that was not copied whole: what is behind it would be missing from the bill.
                return Err(line.bad(format!("it has {} fields and the head has {fields}: is the file complete?", record.len())));
            }
            bill.add(&line, &columns, &mut known)?;
        }
        Ok(bill)
    }

    fn add(&mut self, line: &Line<'_>, columns: &Columns, known: &mut Known<'_>) -> Result<(), ReconcileError> {
        let (meter, charge) = (line.text(columns.meter), line.optional(columns.charge));
        let product = line.optional(columns.product);
        if is_reservation(meter, product, charge) {
            let cost = self.cost(line, columns)?;
            let name = if product.is_empty() { meter } else { product };
            let charge = if charge.is_empty() { "Purchase" } else { charge };
            self.reservations.entry((name.to_owned(), charge.to_owned())).or_default().add(cost);
            return Ok(());
        }
        let Some(backend) = known.backend(line.text(columns.resource)) else { return Ok(()) };
        let cost = self.cost(line, columns)?;
        let Some((billed_as, kind)) = known.meter(meter) else {
            self.skipped.entry((backend, meter.to_owned())).or_default().add(cost);
            return Ok(());
        };
        let day = day(line.text(columns.date)).ok_or_else(|| line.bad(format!("'{}' is not a date", line.text(columns.date))))?;
        self.days = Some(self.days.map_or((day, day), |(first, last)| (first.min(day), last.max(day))));
        let deployment = columns.further.iter().find_map(|column| deployment_of(line.text(*column)));
        let quantity = line.number(columns.quantity)?;
        let unit = line.text(columns.unit);
        let tokens = match kind {
            Some(_) => quantity * tokens_of(unit).ok_or_else(|| line.bad(format!("unknown unit '{unit}'")))?,
            None => {
                let is_reserved = line.optional(columns.pricing).eq_ignore_ascii_case("Reservation");
                self.provisioned.entry((backend.clone(), deployment.clone())).or_default().add(quantity, is_reserved);
                0.0
            }
        };
        let counted = if kind.is_some() { tokens } else { quantity };
        let rating = [meter, line.optional(columns.meter_id), line.optional(columns.pricing)];
        self.quantities.add((&backend, deployment.as_deref(), kind), rating, day, counted, cost);
        let sum = self.sums.entry(((backend, deployment, billed_as), kind)).or_default();
        sum.tokens += tokens;
        sum.cost += cost;
        Ok(())
    }

    /// A line's cost. Costs in two currencies can't be added up.
    fn cost(&mut self, line: &Line<'_>, columns: &Columns) -> Result<f64, ReconcileError> {
        let here = line.optional(columns.currency);
        match &self.currency {
            _ if here.is_empty() => {}
            Some(before) if before.eq_ignore_ascii_case(here) => {}
            Some(before) => return Err(line.bad(format!("its cost is in {here}, those before in {before}: export one currency at a time"))),
            None => self.currency = Some(here.to_owned()),
        }
        line.number(columns.cost)
    }
}

/// Whether a line is about a reservation of provisioned throughput: its purchase, a refund of it, or its unused part. Such a
/// line has no resource. Hours that a reservation covers are lines of the deployments.
fn is_reservation(meter: &str, product: &str, charge: &str) -> bool {
    let has = |text: &str, part: &str| text.to_ascii_lowercase().contains(part);
    let is_charge = ["purchase", "refund", "unusedreservation"].iter().any(|known| charge.eq_ignore_ascii_case(known));
    let is_throughput = has(product, "provisioned") || has(meter, "provisioned");
    is_throughput && (is_charge || has(product, "reservation") && charge.is_empty())
}

/// What was found out about names.
struct Known<'c> {
    config: &'c Config,
    backends: HashMap<String, Option<String>>,
    meters: HashMap<String, Option<(BilledAs, Option<Meter>)>>,
}

impl Known<'_> {
    fn backend(&mut self, resource: &str) -> Option<String> {
        remembered(&mut self.backends, resource, |resource| backend_of(self.config, resource))
    }

    fn meter(&mut self, name: &str) -> Option<(BilledAs, Option<Meter>)> {
        remembered(&mut self.meters, name, meter_of)
    }
}

fn remembered<V: Clone>(known: &mut HashMap<String, V>, name: &str, find: impl FnOnce(&str) -> V) -> V {
    if let Some(value) = known.get(name) {
        return value.clone();
    }
    if known.len() >= REMEMBERED {
        known.clear();
    }
    let value = find(name);
    known.insert(name.to_owned(), value.clone());
    value
}

/// A backend's account: the first label of its host.
pub(super) fn account_of<'c>(config: &'c Config, backend: &str) -> Option<&'c str> {
    let found = config.backends.iter().find(|known| *known.name == *backend)?;
    found.endpoint.as_ref()?.server_name.split('.').next()
}

/// The (first) backend of a resource.
fn backend_of(config: &Config, resource: &str) -> Option<String> {
    let account = resource.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty())?;
    let is_there = |name: &str| account_of(config, name).is_some_and(|known| known.eq_ignore_ascii_case(account));
    config.backends.iter().map(|backend| backend.name.to_string()).find(|name| is_there(name))
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
    if text.is_empty() {
        return None;
    }
    let facts: Value = serde_json::from_str(text).or_else(|_| serde_json::from_str(&format!("{{{text}}}"))).ok()?;
    let names = ["deploymentName", "DeploymentName", "deployment", "Deployment"];
    names.iter().find_map(|name| facts[name].as_str()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_deployments_and_reservations_are_understood() {
        assert_eq!(day("11/03/2026"), day("2026-11-03T00:00:00"));
        assert_eq!(deployment_of(r#""deploymentName":"gpt4o""#), Some("gpt4o".into()));
        assert_eq!(deployment_of("x"), None);
        let product = "Azure AI Foundry Provisioned Throughput Reservation";
        for (meter, product, charge, is) in [
            ("Provisioned Managed Global Unit", product, "Purchase", true),
            ("Provisioned Managed Global Unit", product, "UnusedReservation", true),
            ("Provisioned Managed Global Unit", product, "Refund", true),
            ("Provisioned Managed Global Unit", product, "", true),
            ("Provisioned Managed Global Unit", "Azure OpenAI", "Usage", false),
            ("D2 v3", "Reserved VM Instance", "Purchase", false),
        ] {
            assert_eq!(is_reservation(meter, product, charge), is, "{meter} {product} {charge}");
        }
    }
}
