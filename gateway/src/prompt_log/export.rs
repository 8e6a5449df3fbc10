//! Sends the records of the prompt log to an OpenTelemetry collector, over OTLP/HTTP in JSON.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use spillway_plugins::prompt_log::otel;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use crate::config::OtlpRules;
use crate::http_client;
use crate::telemetry::metrics::PromptLogMetrics;

/// Events that may wait for the collector.
const QUEUE: usize = 4096;
/// Most events in one request, and how long they are collected.
const BATCH: usize = 256;
const GATHER: Duration = Duration::from_secs(1);

pub(super) enum Job {
    Event(Value),
    /// Report when everything before is sent.
    Flush(oneshot::Sender<()>),
}

/// Accepts events.
#[derive(Debug, Clone)]
pub(super) struct Exporter {
    queue: mpsc::Sender<Job>,
    metrics: PromptLogMetrics,
}

impl Exporter {
    /// Starts the task that sends; it ends when the last exporter is dropped.
    pub(super) fn start(rules: OtlpRules, metrics: PromptLogMetrics) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE);
        tokio::spawn(run(rules, jobs, metrics.clone()));
        Exporter { queue, metrics }
    }

    /// Hands a record over, or counts it as lost.
    pub(super) fn send(&self, record: &[u8]) {
        let handed = otel::event(record).is_some_and(|event| self.queue.try_send(Job::Event(event)).is_ok());
        if !handed {
            self.metrics.export_dropped.inc();
        }
    }

    /// Waits until everything before is sent.
    pub(super) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.queue.send(Job::Flush(done)).await.is_ok() {
            let _ = flushed.await;
        }
    }
}

async fn run(rules: OtlpRules, mut jobs: mpsc::Receiver<Job>, metrics: PromptLogMetrics) {
    let headers = headers(&rules);
    let mut failing = false;
    let mut gathered = Vec::new();
    while let Some(first) = jobs.recv().await {
        gathered.push(first);
        let gather = async {
            while gathered.len() < BATCH && !matches!(gathered.last(), Some(Job::Flush(_))) {
                match jobs.recv().await {
                    Some(job) => gathered.push(job),
                    None => return,
                }
            }
        };
        let _ = tokio::time::timeout(GATHER, gather).await;
        let (mut events, mut flushed) = (Vec::new(), Vec::new());
        for job in gathered.drain(..) {
            match job {
                Job::Event(event) => events.push(event),
                Job::Flush(done) => flushed.push(done),
            }
        }
        if !events.is_empty() {
            match send(&rules, &headers, &events).await {
                Ok(()) => {
                    if std::mem::take(&mut failing) {
                        info!("the collector accepts the prompt log again");
                    }
                }
                Err(error) => {
                    metrics.export_dropped.inc_by(events.len() as u64);
                    if !failing {
                        warn!(error, "the collector doesn't accept the prompt log: events are lost until it does");
                    }
                    failing = true;
                }
            }
        }
        for done in flushed {
            let _ = done.send(());
        }
    }
}

fn headers(rules: &OtlpRules) -> HeaderMap {
    let mut headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    for (name, value) in &rules.headers {
        // Checked when the config was loaded.
        if let (Ok(name), Ok(mut value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value.expose())) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    headers
}

async fn send(rules: &OtlpRules, headers: &HeaderMap, events: &[Value]) -> Result<(), String> {
    let body = otel::request(env!("CARGO_PKG_VERSION"), events).to_string();
    let client = http_client::internet().map_err(|error| error.to_string())?;
    let answer = client.post(format!("{}/v1/logs", rules.url)).headers(headers.clone()).body(body).send().await;
    let status = answer.map_err(|error| error.without_url().to_string())?.status();
    if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
}
