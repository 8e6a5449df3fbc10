//! Sends spans to an OpenTelemetry collector, over OTLP/HTTP in JSON. A task of its own behind a bounded queue: a slow
//! or dead collector costs spans, which are counted, but never a request's time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use spillway_plugins::otlp::Resource;
use spillway_plugins::trace::otlp::Batch;
use spillway_plugins::trace::{RequestSpan, Sampler};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, yield_now};

use crate::clock::Clock;
use crate::config::TraceRules;
use crate::telemetry::collector::{Collector, Signal};
use crate::telemetry::metrics::TraceMetrics;

/// Requests whose spans may wait.
const QUEUE: usize = 8192;
/// Most spans in one request to the collector.
const BATCH: usize = 512;
/// How long spans are collected, and how often the queue is checked: while the task sleeps, handing one over doesn't
/// wake it.
const GATHER: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(50);
/// Requests that are serialised without a break: then other tasks may run.
const STRETCH: usize = 32;
/// Requests to the collector at once.
const UNDER_WAY: usize = 4;

enum Job {
    Request(Box<RequestSpan>),
    /// Report when everything before is sent, or lost.
    Flush(oneshot::Sender<()>),
}

/// Samples requests, and accepts their spans.
#[derive(Debug)]
pub struct Traces {
    /// Its rules.
    pub rules: TraceRules,
    /// Decides which requests are sampled.
    pub sampler: Sampler,
    /// The name of this process in spans.
    pub instance: String,
    queue: mpsc::Sender<Job>,
    metrics: TraceMetrics,
}

impl Traces {
    /// Starts the task that sends, within a Tokio runtime; it ends with the last user of this.
    pub fn start(rules: TraceRules, instance: String, clock: Clock, metrics: TraceMetrics) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let sampler = Sampler::new(rules.sample, rules.caller_rate);
        let collector = Collector::new(&rules.otlp, Signal::Traces, clock);
        tokio::spawn(
            Exporter {
                collector: Arc::new(collector),
                metrics: metrics.clone(),
                instance: instance.clone(),
                jobs,
                held: None,
                under_way: JoinSet::new(),
            }
            .run(),
        );
        Traces { rules, sampler, instance, queue, metrics }
    }

    /// Hands over a request's spans, or counts them as lost.
    pub fn write(&self, request: Box<RequestSpan>) {
        let spans = request.spans();
        if self.queue.try_send(Job::Request(request)).is_err() {
            self.metrics.dropped.inc_by(spans as u64);
        }
    }

    /// Waits until everything that was handed over is sent or lost, at most `limit`.
    pub async fn flush(&self, limit: Duration) {
        let flush = async {
            let (done, flushed) = oneshot::channel();
            if self.queue.send(Job::Flush(done)).await.is_ok() {
                let _ = flushed.await;
            }
        };
        let _ = tokio::time::timeout(limit, flush).await;
    }
}

/// Why a batch is complete.
enum Gathered {
    /// It is full, or its time is over.
    Due,
    /// Someone waits until everything is sent.
    Flush(oneshot::Sender<()>),
    /// The sender was dropped.
    Over,
}

/// Collects spans and sends them.
struct Exporter {
    collector: Arc<Collector>,
    metrics: TraceMetrics,
    instance: String,
    jobs: mpsc::Receiver<Job>,
    /// A request that didn't fit into the previous batch.
    held: Option<Box<RequestSpan>>,
    under_way: JoinSet<()>,
}

impl Exporter {
    async fn run(mut self) {
        loop {
            let mut batch = Batch::new(Resource { version: env!("CARGO_PKG_VERSION"), instance: Some(&self.instance) });
            let gathered = self.gather(&mut batch).await;
            if batch.spans() > 0 {
                while self.under_way.len() >= UNDER_WAY {
                    self.under_way.join_next().await;
                }
                self.under_way.spawn(deliver(Arc::clone(&self.collector), self.metrics.clone(), batch));
            }
            if !matches!(gathered, Gathered::Due) {
                while !self.under_way.is_empty() {
                    self.under_way.join_next().await;
                }
            }
            match gathered {
                Gathered::Due => {}
                Gathered::Flush(done) => drop(done.send(())),
                Gathered::Over => return,
            }
        }
    }

    /// Waits for a first span, and then for more, until the batch is full or its time is over.
    async fn gather(&mut self, batch: &mut Batch) -> Gathered {
        if self.held.is_none() {
            let first = loop {
                tokio::select! {
                    first = self.jobs.recv() => break first,
                    Some(_) = self.under_way.join_next() => {}
                }
            };
            match first {
                Some(Job::Request(first)) => self.held = Some(first),
                Some(Job::Flush(done)) => return Gathered::Flush(done),
                None => return Gathered::Over,
            }
        }
        for _ in 0..GATHER.as_millis() / TICK.as_millis() {
            let mut stretch = 0;
            loop {
                if let Some(request) = self.held.take() {
                    if batch.spans() > 0 && batch.spans() + request.spans() > BATCH {
                        self.held = Some(request);
                        return Gathered::Due;
                    }
                    batch.push(&request);
                    stretch += 1;
                    if stretch % STRETCH == 0 {
                        yield_now().await;
                    }
                }
                match self.jobs.try_recv() {
                    Ok(Job::Request(request)) => self.held = Some(request),
                    Ok(Job::Flush(done)) => return Gathered::Flush(done),
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => return Gathered::Over,
                }
            }
            tokio::time::sleep(TICK).await;
        }
        Gathered::Due
    }
}

/// Sends spans, and counts them.
async fn deliver(collector: Arc<Collector>, metrics: TraceMetrics, batch: Batch) {
    let spans = batch.spans() as u64;
    let lost = collector.deliver(Bytes::from(batch.finish()), spans).await;
    metrics.exported.inc_by(spans - lost);
    metrics.dropped.inc_by(lost);
}
