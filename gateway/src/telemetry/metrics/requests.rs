//! Requests, as their callers see them.

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};
use spillway_plugins::api::Api;

use super::registration::{Registration, SECONDS, sum};

/// Statuses with a counter of their own; others count as `other`.
const STATUSES: [u16; 14] = [101, 200, 400, 401, 403, 404, 408, 413, 429, 499, 500, 502, 503, 504];

/// The gateway's own time, in seconds: from 25 µs up.
const OVERHEAD: [f64; 12] = [25e-6, 50e-6, 100e-6, 200e-6, 400e-6, 800e-6, 1.6e-3, 3.2e-3, 6.4e-3, 12.8e-3, 51.2e-3, 204.8e-3];

/// What became of requests.
#[derive(Debug)]
pub struct RequestFamilies {
    requests: IntCounterVec,
    duration: HistogramVec,
    rejections: IntCounterVec,
    last_resorts: IntCounterVec,
    rescues: IntCounterVec,
    /// The gateway's own time per request.
    pub overhead: Histogram,
    /// Requests in flight.
    pub in_flight: IntGauge,
    /// Bytes of request bodies kept for retries.
    pub buffered: IntGauge,
    /// Events of streams that were left out because they are not JSON.
    pub malformed_events: IntCounter,
    /// Requests that ended with a panic.
    pub panics: IntCounter,
    /// Access-log lines that could not be written.
    pub access_log_dropped: IntCounter,
}

impl RequestFamilies {
    pub(super) fn new(to: &Registration<'_>) -> prometheus::Result<Self> {
        Ok(RequestFamilies {
            requests: to.counters("spillway_requests_total", "Requests that ended, by the caller's status.", &["pool", "api", "status"])?,
            duration: to.histograms("spillway_request_duration_seconds", "Duration of whole requests.", &SECONDS, &["pool", "api"])?,
            rejections: to.counters("spillway_rejections_total", "Answers of the gateway's own, by error code.", &["code"])?,
            last_resorts: to.counters("spillway_last_resort_total", "Requests that the pool's last resort answered.", &["pool"])?,
            rescues: to.counters("spillway_rescues_total", "Broken streams that were to be continued, by result.", &["pool", "result"])?,
            overhead: to.histogram(
                "spillway_overhead_seconds",
                "The gateway's own time until the first byte of an answer, without waiting for callers or upstreams.",
                &OVERHEAD,
            )?,
            in_flight: to.gauge("spillway_in_flight_requests", "Requests in flight.")?,
            buffered: to.gauge("spillway_buffered_bytes", "Bytes of request bodies kept for retries.")?,
            malformed_events: to
                .counter("spillway_malformed_events_total", "Events of streams that were left out because they are not JSON.")?,
            panics: to.counter("spillway_panics_total", "Requests that ended with a panic.")?,
            access_log_dropped: to.counter("spillway_access_log_dropped_total", "Access-log lines that could not be written.")?,
        })
    }

    /// The counters of a pool's requests of one API.
    pub fn of(&self, pool: &str, api: Option<Api>) -> RequestMetrics {
        let api = api.map_or("none", Api::label);
        let names: Vec<String> = STATUSES.iter().map(u16::to_string).collect();
        let statuses = names.iter().map(String::as_str).chain(["other"]);
        RequestMetrics {
            by_status: statuses.map(|status| self.requests.with_label_values(&[pool, api, status])).collect(),
            duration: self.duration.with_label_values(&[pool, api]),
        }
    }

    /// Counts an answer of the gateway's own.
    pub fn rejection(&self, code: &'static str) {
        self.rejections.with_label_values(&[code]).inc();
    }

    /// The counter of a pool's last-resort answers.
    pub fn last_resort(&self, pool: &str) -> IntCounter {
        self.last_resorts.with_label_values(&[pool])
    }

    /// Exports all results for a pool's broken streams from the start.
    pub fn expose_rescues(&self, pool: &str) {
        ["ok", "differs", "failed"].into_iter().for_each(|result| drop(self.rescues.with_label_values(&[pool, result])));
    }

    /// Counts a broken stream that was to be continued: `ok`, `differs` or `failed`.
    pub fn rescued(&self, pool: &str, result: &str) {
        self.rescues.with_label_values(&[pool, result]).inc();
    }

    /// Requests that ended, those that got a 429, and those that a last resort answered.
    pub(super) fn totals(&self) -> (u64, u64, u64) {
        let throttled = |label: &str, value: &str| label == "status" && value == "429";
        (sum(&self.requests, |_, _| true), sum(&self.requests, throttled), sum(&self.last_resorts, |_, _| true))
    }
}

/// A request's counters, looked up once per pool and API.
#[derive(Debug, Clone)]
pub struct RequestMetrics {
    by_status: Vec<IntCounter>,
    /// Duration of whole requests.
    pub duration: Histogram,
}

impl RequestMetrics {
    /// Counts a request that ended with `status`.
    pub fn count(&self, status: u16) {
        let index = STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len());
        if let Some(counter) = self.by_status.get(index) {
            counter.inc();
        }
    }
}
