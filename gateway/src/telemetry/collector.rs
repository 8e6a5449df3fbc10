//! An OpenTelemetry collector, to which spans and log events are sent over OTLP/HTTP.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::Value;
use spillway_plugins::retry::read_signal;
use tracing::{info, warn};

use crate::causes::causes;
use crate::clock::Clock;
use crate::config::OtlpRules;
use crate::http_client;

/// Pauses between retries, and the longest that a collector may ask for; if it asks for more, there is no retry.
const PAUSES: [Duration; 4] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Longest answer of a collector that is read.
const LONGEST_ANSWER: usize = 64 * 1024;

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Log events.
    Logs,
}

impl Signal {
    /// The path below the collector's URL.
    fn path(self) -> &'static str {
        match self {
            Signal::Traces => "/v1/traces",
            Signal::Logs => "/v1/logs",
        }
    }

    /// Its name in the log.
    fn name(self) -> &'static str {
        match self {
            Signal::Traces => "spans",
            Signal::Logs => "the prompt log",
        }
    }

    /// What is lost while the collector doesn't accept it.
    fn lost(self) -> &'static str {
        match self {
            Signal::Traces => "they",
            Signal::Logs => "events",
        }
    }

    /// Where an answer says how many were rejected.
    fn rejected(self) -> &'static str {
        match self {
            Signal::Traces => "rejectedSpans",
            Signal::Logs => "rejectedLogRecords",
        }
    }
}

/// The result of a request to the collector.
enum Sent {
    /// All were accepted except so many.
    Taken(u64),
    /// They may be sent again, after the given pause.
    Later(Option<Duration>, String),
    /// They will not be accepted.
    Refused(String),
}

/// The collector.
#[derive(Debug)]
pub struct Collector {
    signal: Signal,
    url: String,
    headers: HeaderMap,
    clock: Clock,
    failing: AtomicBool,
}

impl Collector {
    /// A collector that gets `signal`.
    pub fn new(rules: &OtlpRules, signal: Signal, clock: Clock) -> Self {
        let mut headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        for (name, value) in &rules.headers {
            // Checked when the config was loaded.
            if let (Ok(name), Ok(mut value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value.expose())) {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        }
        Collector { signal, url: format!("{}{}", rules.url, signal.path()), headers, clock, failing: AtomicBool::new(false) }
    }

    /// Sends a request with so many `parts`, with retries if necessary. The number of those that were not accepted. Logs
    /// when sending begins to fail, and when it works again.
    pub async fn deliver(&self, body: Bytes, parts: u64) -> u64 {
        let sent = self.send_with_retries(body).await;
        let was_failing = self.failing.swap(sent.is_err(), Ordering::Relaxed);
        match sent {
            Ok(rejected) => {
                if was_failing {
                    info!("the collector accepts {} again", self.signal.name());
                }
                rejected.min(parts)
            }
            Err(error) => {
                if !was_failing {
                    warn!(error, "the collector doesn't accept {}: {} are lost until it does", self.signal.name(), self.signal.lost());
                }
                parts
            }
        }
    }

    async fn send_with_retries(&self, body: Bytes) -> Result<u64, String> {
        let mut pauses = PAUSES.into_iter();
        loop {
            let (asked, error) = match self.send(body.clone()).await {
                Sent::Taken(rejected) => return Ok(rejected),
                Sent::Refused(error) => return Err(error),
                Sent::Later(asked, error) => (asked, error),
            };
            // With a random part, so that several gateways don't all retry at once.
            let Some(pause) = pauses.next().map(|pause| pause.mul_f64(0.5 + fastrand::f64() / 2.0)) else { return Err(error) };
            let pause = pause.max(asked.unwrap_or_default());
            if pause > LONGEST_PAUSE {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn send(&self, body: Bytes) -> Sent {
        let client = match http_client::internet() {
            Ok(client) => client,
            Err(error) => return Sent::Refused(causes(&error)),
        };
        let answer = match client.post(&self.url).headers(self.headers.clone()).body(body).send().await {
            Ok(answer) => answer,
            Err(error) => return Sent::Later(None, causes(&error.without_url())),
        };
        let status = answer.status();
        if status.is_success() {
            return Sent::Taken(rejected(answer, self.signal.rejected()).await);
        }
        let error = format!("it answered {status}");
        match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                Sent::Later(read_signal(answer.headers(), || self.clock.wall()).retry_after, error)
            }
            _ => Sent::Refused(error),
        }
    }
}

/// The number under `field` of an answer to a request that was accepted in part.
async fn rejected(mut answer: reqwest::Response, field: &str) -> u64 {
    let mut body = Vec::new();
    while let Ok(Some(piece)) = answer.chunk().await {
        body.extend_from_slice(&piece);
        if body.len() > LONGEST_ANSWER {
            return 0;
        }
    }
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    let count = &answer["partialSuccess"][field];
    count.as_u64().or_else(|| count.as_str()?.parse().ok()).unwrap_or(0)
}
