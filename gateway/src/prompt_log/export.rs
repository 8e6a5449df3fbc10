//! Sends the records of the prompt log to an OpenTelemetry collector, over OTLP/HTTP in JSON.

use std::time::Duration;

use bytes::Bytes;
use spillway_plugins::otlp::Resource;
use spillway_plugins::prompt_log::otel;
use tokio::sync::{mpsc, oneshot};

use crate::clock::Clock;
use crate::config::OtlpRules;
use crate::telemetry::collector::{Collector, Signal};
use crate::telemetry::metrics::PromptLogMetrics;

/// Events that may wait for the collector.
const QUEUE: usize = 4096;
/// Most events in one request, and how long they are collected.
const BATCH: usize = 256;
const GATHER: Duration = Duration::from_secs(1);

pub(super) enum Job {
    Event(Vec<u8>),
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
    pub(super) fn start(rules: &OtlpRules, clock: Clock, metrics: PromptLogMetrics) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE);
        tokio::spawn(run(Collector::new(rules, Signal::Logs, clock), jobs, metrics.clone()));
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

async fn run(collector: Collector, mut jobs: mpsc::Receiver<Job>, metrics: PromptLogMetrics) {
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
            let body = otel::request(Resource { version: env!("CARGO_PKG_VERSION"), instance: None }, &events);
            metrics.export_dropped.inc_by(collector.deliver(Bytes::from(body), events.len() as u64).await);
        }
        for done in flushed {
            let _ = done.send(());
        }
    }
}
