//! Usage as a FOCUS dataset (FinOps Open Cost and Usage Specification 1.2, dataset "Cost and Usage"): one row per day, consumer,
//! model, deployment, service tier and tags. CSV or Parquet. Own columns begin with `x_`.
//!
//! A row sums up input and output at their different prices, so it has a quantity and a cost, and no unit price.

use std::io::Write;

use serde_json::Value;

use super::export::{ExportError, harmless};
use super::parquet_file::{ColumnType, ParquetFile};
use super::usage::{Dimension, UsageQuery, UsageRow};
use crate::config::Config;
use crate::provider::BackendKind;

/// A day in milliseconds.
const DAY: i64 = 86_400_000;

/// The version of the specification.
pub const VERSION: &str = "1.2";

/// The file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FocusFormat {
    /// RFC 4180, with a line of names.
    Csv,
    /// Parquet.
    Parquet,
}

/// Whose cost it is, and from whom.
#[derive(Debug, Clone, Copy)]
pub struct Accounts<'a> {
    /// The billing account.
    pub billing: &'a str,
    /// The config that knows the backends, if there is one.
    pub config: Option<&'a Config>,
}

/// The columns of a row.
const COLUMNS: [(&str, ColumnType); 48] = [
    ("BillingAccountId", ColumnType::Text),
    ("BillingAccountName", ColumnType::Text),
    ("BillingCurrency", ColumnType::Text),
    ("BillingPeriodStart", ColumnType::Time),
    ("BillingPeriodEnd", ColumnType::Time),
    ("ChargePeriodStart", ColumnType::Time),
    ("ChargePeriodEnd", ColumnType::Time),
    ("ChargeCategory", ColumnType::Text),
    ("ChargeClass", ColumnType::Text),
    ("ChargeDescription", ColumnType::Text),
    ("ChargeFrequency", ColumnType::Text),
    ("InvoiceId", ColumnType::Text),
    ("CommitmentDiscountStatus", ColumnType::Text),
    ("BilledCost", ColumnType::Number),
    ("EffectiveCost", ColumnType::Number),
    ("ListCost", ColumnType::Number),
    ("ContractedCost", ColumnType::Number),
    ("ConsumedQuantity", ColumnType::Number),
    ("ConsumedUnit", ColumnType::Text),
    ("PricingQuantity", ColumnType::Number),
    ("PricingUnit", ColumnType::Text),
    ("PricingCategory", ColumnType::Text),
    ("ProviderName", ColumnType::Text),
    ("PublisherName", ColumnType::Text),
    ("InvoiceIssuerName", ColumnType::Text),
    ("ServiceCategory", ColumnType::Text),
    ("ServiceSubcategory", ColumnType::Text),
    ("ServiceName", ColumnType::Text),
    ("ResourceId", ColumnType::Text),
    ("ResourceName", ColumnType::Text),
    ("ResourceType", ColumnType::Text),
    ("SubAccountId", ColumnType::Text),
    ("SubAccountName", ColumnType::Text),
    ("Tags", ColumnType::Text),
    ("x_Model", ColumnType::Text),
    ("x_Backend", ColumnType::Text),
    ("x_ServiceTier", ColumnType::Text),
    ("x_SpilledFrom", ColumnType::Text),
    ("x_Requests", ColumnType::Integer),
    ("x_Attempts", ColumnType::Integer),
    ("x_InputTokens", ColumnType::Integer),
    ("x_CachedInputTokens", ColumnType::Integer),
    ("x_CacheWriteTokens", ColumnType::Integer),
    ("x_OutputTokens", ColumnType::Integer),
    ("x_ReasoningTokens", ColumnType::Integer),
    ("x_EstimatedTokens", ColumnType::Integer),
    ("x_UnpricedAttempts", ColumnType::Integer),
    ("x_ProvisionedCost", ColumnType::Number),
];

/// The report that a dataset is made of: of the whole days that touch this time range, in milliseconds since 1970.
pub fn query(since: i64, until: i64, consumer: Option<String>) -> UsageQuery {
    let names = ["consumer", "model", "backend", "deployment", "service_tier", "spilled_from", "tags"].map(Dimension::Name);
    let by = [Dimension::Time("day")].into_iter().chain(names).collect();
    let (since, until) = (since.div_euclid(DAY) * DAY, (until + DAY - 1).div_euclid(DAY) * DAY);
    UsageQuery { since, until, by, consumer }
}

/// Writes the rows of a [`query`].
///
/// # Errors
/// [`ExportError`]
pub fn write(rows: &[UsageRow], accounts: Accounts<'_>, format: FocusFormat, to: impl Write + Send) -> Result<(), ExportError> {
    match format {
        FocusFormat::Csv => {
            let mut writer = csv::Writer::from_writer(to);
            writer.write_record(COLUMNS.map(|(name, _)| name))?;
            for row in rows {
                let values = charge(row, accounts);
                writer.write_record(values.iter().zip(COLUMNS).map(|(value, (_, kind))| cell(value, kind)))?;
            }
            writer.flush()?;
        }
        FocusFormat::Parquet => {
            let mut file = ParquetFile::new(to, &COLUMNS)?;
            for row in rows {
                file.write(charge(row, accounts))?;
            }
            file.end()?;
        }
    }
    Ok(())
}

/// A row, in the order of the columns.
fn charge(row: &UsageRow, accounts: Accounts<'_>) -> Vec<Value> {
    let text = |name: &str| row.by.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let day = text("day").and_then(|day| day.parse::<chrono::NaiveDate>().ok()).unwrap_or_default();
    let (month, next_month) = month_of(day);
    let (model, deployment) = (text("model").unwrap_or("(none)"), text("deployment"));
    let vendor = Vendor::of(accounts.config, text("backend"));
    let tier = text("service_tier").map(|tier| format!(", service tier {tier}")).unwrap_or_default();
    let cost = Value::from(row.cost_usd.unwrap_or(0.0));
    let tokens = Value::from((row.input_tokens + row.output_tokens) as f64);
    let resource = deployment.map(|deployment| format!("{}/{deployment}", text("backend").unwrap_or("")));
    let optional = |text: Option<&str>| text.map_or(Value::Null, Value::from);
    let fixed = Value::from;
    vec![
        fixed(accounts.billing),
        fixed(accounts.billing),
        fixed("USD"),
        time(month),
        time(next_month),
        time(day),
        time(day.succ_opt().unwrap_or(day)),
        fixed("Usage"),
        Value::Null,
        Value::from(format!("{model} on {}{tier}", deployment.unwrap_or("the gateway itself"))),
        fixed("Usage-Based"),
        Value::Null,
        Value::Null,
        cost.clone(),
        cost.clone(),
        cost.clone(),
        cost,
        tokens.clone(),
        fixed("Tokens"),
        tokens,
        fixed("Tokens"),
        fixed("Standard"),
        fixed(&vendor.provider),
        fixed(&vendor.publisher),
        fixed(&vendor.provider),
        fixed("AI and Machine Learning"),
        fixed("Generative AI"),
        fixed(&vendor.service),
        resource.clone().map_or(Value::Null, Value::from),
        optional(deployment),
        if resource.is_some() { fixed("Deployment") } else { Value::Null },
        optional(text("consumer")),
        optional(text("consumer")),
        optional(text("tags")),
        optional(text("model")),
        optional(text("backend")),
        optional(text("service_tier")),
        optional(text("spilled_from")),
        Value::from(row.requests),
        Value::from(row.attempts),
        Value::from(row.input_tokens),
        Value::from(row.cached_input_tokens),
        Value::from(row.cache_write_tokens),
        Value::from(row.output_tokens),
        Value::from(row.reasoning_tokens),
        Value::from(row.estimated_tokens),
        Value::from(row.unpriced_attempts),
        Value::from(row.cost_usd.unwrap_or(0.0) - row.paid_usd.unwrap_or(0.0)),
    ]
}

/// Who sells what a backend serves.
struct Vendor {
    provider: String,
    publisher: String,
    service: String,
}

impl Vendor {
    fn of(config: Option<&Config>, backend: Option<&str>) -> Self {
        let known = config.into_iter().flat_map(|config| &config.backends).find(|known| Some(&*known.name) == backend);
        let host = known.and_then(|known| known.endpoint.as_ref()).map(|endpoint| endpoint.server_name.as_str());
        let is_azure = host.is_some_and(|host| host.ends_with(".azure.com") || host.ends_with(".azure.us"));
        let (provider, publisher, service) = match (known.map(|known| &known.kind), host) {
            (Some(BackendKind::AzureOpenAi(_)), _) => ("Microsoft", "Microsoft", "Azure OpenAI"),
            (Some(BackendKind::Anthropic), _) if is_azure => ("Microsoft", "Anthropic", "Azure AI Foundry"),
            (Some(BackendKind::Anthropic), Some("api.anthropic.com")) => ("Anthropic", "Anthropic", "Claude API"),
            (Some(BackendKind::OpenAi), _) if is_azure => ("Microsoft", "Microsoft", "Azure AI Foundry"),
            (Some(BackendKind::OpenAi), Some("api.openai.com")) => ("OpenAI", "OpenAI", "OpenAI API"),
            (_, Some(host)) => (host, host, host),
            (_, None) => {
                let name = backend.unwrap_or("Spillway");
                (name, name, name)
            }
        };
        Vendor { provider: provider.to_owned(), publisher: publisher.to_owned(), service: service.to_owned() }
    }
}

/// The first day of a day's month, and of the next one.
fn month_of(day: chrono::NaiveDate) -> (chrono::NaiveDate, chrono::NaiveDate) {
    use chrono::Datelike as _;
    let first = day.with_day(1).unwrap_or(day);
    (first, first.checked_add_months(chrono::Months::new(1)).unwrap_or(first))
}

fn time(day: chrono::NaiveDate) -> Value {
    Value::from(day.format("%Y-%m-%dT00:00:00Z").to_string())
}

/// A cell of the CSV. Decimal numbers have a decimal point, or readers take a column for one of whole numbers.
fn cell(value: &Value, kind: ColumnType) -> String {
    match (value, kind) {
        (Value::Null, _) => String::new(),
        (Value::String(text), ColumnType::Text) => harmless(text),
        (Value::String(text), _) => text.clone(),
        (Value::Number(number), ColumnType::Number) => decimal(number.as_f64().unwrap_or(0.0)),
        (other, _) => other.to_string(),
    }
}

/// A number without an exponent, to a millionth of a millionth.
fn decimal(number: f64) -> String {
    let text = format!("{number:.12}");
    let short = text.trim_end_matches('0');
    if short.ends_with('.') { format!("{short}0") } else { short.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_decimal_point_and_no_exponent() {
        let texts = [0.0, 1.0, 1200.0, 0.000_000_001, 1e15, 2.5, -0.25].map(decimal);
        assert_eq!(texts, ["0.0", "1.0", "1200.0", "0.000000001", "1000000000000000.0", "2.5", "-0.25"]);
    }

    #[test]
    fn a_dataset_covers_whole_days_and_months_end_in_december() {
        let asked = query(DAY + 5, 3 * DAY - 5, None);
        assert_eq!((asked.since, asked.until), (DAY, 3 * DAY));
        let day = chrono::NaiveDate::from_ymd_opt(2026, 12, 31).unwrap();
        let (first, next) = month_of(day);
        assert_eq!((time(first), time(next)), (Value::from("2026-12-01T00:00:00Z"), Value::from("2027-01-01T00:00:00Z")));
    }
}
