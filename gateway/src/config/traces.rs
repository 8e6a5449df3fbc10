//! `[traces]`: which requests are traced, and where the spans go.

use schemars::JsonSchema;
use serde::Deserialize;

use super::checker::Checker;
use super::otlp::{self, OtlpRules, RawOtlp};

/// Distributed traces: a span for each request and each of its attempts, for an OpenTelemetry collector.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTraces {
    /// The collector.
    pub otlp: RawOtlp,
    /// The share of requests that are sampled if their caller sends no trace, 0 to 1. Default 1.
    pub sample: Option<f64>,
    /// Most requests per second that are sampled because their caller's trace is; above it `sample` decides. Default
    /// 100.
    pub caller_rate: Option<u32>,
}

/// Traces: which requests are sampled, and the collector.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceRules {
    /// The collector.
    pub otlp: OtlpRules,
    /// The share of requests that are sampled if their caller sends no trace, 0 to 1.
    pub sample: f64,
    /// Most requests per second that are sampled because their caller's trace is.
    pub caller_rate: u32,
}

const KEY: &str = "traces";

pub(super) fn read(raw: Option<&RawTraces>, check: &mut Checker<'_>) -> Option<TraceRules> {
    let raw = raw?;
    let key = format!("{KEY}.otlp");
    // Spans contain no content, and collectors within a cluster mostly have no TLS; but keys for a collector need TLS.
    match raw.otlp.headers.is_empty() {
        true => check.http(&format!("{key}.url"), &raw.otlp.url),
        false => check.https(&format!("{key}.url"), &raw.otlp.url, true),
    }
    Some(TraceRules {
        otlp: otlp::read(&raw.otlp, &key, check),
        sample: check.sample(raw.sample, KEY).unwrap_or(1.0),
        caller_rate: raw.caller_rate.unwrap_or(100),
    })
}
