//! An OpenTelemetry collector: for traces, and for the records of the prompt log.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Secret;
use super::checker::Checker;
use super::scalar::SecretText;

/// An OpenTelemetry collector that accepts OTLP over HTTP.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawOtlp {
    /// Its root URL, such as `http://127.0.0.1:4318`; `/v1/logs` or `/v1/traces` is added.
    pub url: String,
    /// name = value of request headers, such as an API key.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretText>,
}

/// An OpenTelemetry collector.
#[derive(Debug, Clone, PartialEq)]
pub struct OtlpRules {
    /// Its root URL, without a slash at the end.
    pub url: String,
    /// Headers of requests to it.
    pub headers: Vec<(String, Secret)>,
}

/// A collector. The caller has checked its URL.
pub(super) fn read(raw: &RawOtlp, key: &str, check: &mut Checker<'_>) -> OtlpRules {
    let mut headers = Vec::new();
    for (name, value) in &raw.headers {
        let key = format!("{key}.headers.{name}");
        if name.parse::<http::HeaderName>().is_err() {
            check.problem(&key, format!("'{name}' is not a header name"));
        }
        headers.extend(check.secret(&key, value).map(|value| (name.clone(), value)));
    }
    OtlpRules { url: raw.url.trim_end_matches('/').to_owned(), headers }
}
