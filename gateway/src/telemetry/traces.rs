//! Sends spans to an OpenTelemetry collector, over OTLP/HTTP in JSON. A task of its own behind a bounded queue: a slow
//! or dead collector costs spans, which are counted, but never a request's time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::Value;
use spillway_plugins::retry::read_signal;
use spillway_plugins::trace::otlp::{Batch, Resource};
use spillway_plugins::trace::{RequestSpan, Sampler};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, yield_now};
use tracing::{info, warn};

use crate::clock::Clock;
use crate::config::TraceRules;
use crate::http_client;
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
/// Pauses between retries, and the longest that a collector may ask for; if it asks for more, there is no retry.
const PAUSES: [Duration; 4] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Longest answer of a collector that is read.
const LONGEST_ANSWER: usize = 64 * 1024;

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
        let collector =
            Collector { url: format!("{}/v1/traces", rules.otlp.url), headers: headers(&rules), clock, metrics: metrics.clone() };
        tokio::spawn(
            Exporter {
                collector: Arc::new(collector),
                instance: instance.clone(),
                jobs,
                held: None,
                under_way: JoinSet::new(),
                failing: false,
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
    instance: String,
    jobs: mpsc::Receiver<Job>,
    /// A request that didn't fit into the previous batch.
    held: Option<Box<RequestSpan>>,
    under_way: JoinSet<Result<(), String>>,
    failing: bool,
}

impl Exporter {
    async fn run(mut self) {
        loop {
            let mut batch = Batch::new(Resource { version: env!("CARGO_PKG_VERSION"), instance: &self.instance });
            let gathered = self.gather(&mut batch).await;
            if batch.spans() > 0 {
                while self.under_way.len() >= UNDER_WAY {
                    self.one_is_over().await;
                }
                let collector = Arc::clone(&self.collector);
                self.under_way.spawn(async move { collector.deliver(batch).await });
            }
            if !matches!(gathered, Gathered::Due) {
                while !self.under_way.is_empty() {
                    self.one_is_over().await;
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
                    Some(Ok(sent)) = self.under_way.join_next() => self.note(sent),
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

    async fn one_is_over(&mut self) {
        if let Some(Ok(sent)) = self.under_way.join_next().await {
            self.note(sent);
        }
    }

    /// Logs when exporting begins to fail, and when it works again.
    fn note(&mut self, sent: Result<(), String>) {
        match &sent {
            Ok(()) if self.failing => info!("the collector accepts spans again"),
            Err(error) if !self.failing => warn!(error, "the collector doesn't accept spans: they are lost until it does"),
            _ => {}
        }
        self.failing = sent.is_err();
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
struct Collector {
    url: String,
    headers: HeaderMap,
    clock: Clock,
    metrics: TraceMetrics,
}

impl Collector {
    /// Sends spans, with retries if necessary, and counts them.
    async fn deliver(&self, batch: Batch) -> Result<(), String> {
        let spans = batch.spans() as u64;
        let body = Bytes::from(batch.finish());
        let mut pauses = PAUSES.into_iter();
        let error = loop {
            let (asked, error) = match self.send(body.clone()).await {
                Sent::Taken(rejected) => {
                    let rejected = rejected.min(spans);
                    self.metrics.exported.inc_by(spans - rejected);
                    self.metrics.dropped.inc_by(rejected);
                    return Ok(());
                }
                Sent::Refused(error) => break error,
                Sent::Later(asked, error) => (asked, error),
            };
            // With a random part, so that several gateways don't all retry at once.
            let Some(pause) = pauses.next().map(|pause| pause.mul_f64(0.5 + fastrand::f64() / 2.0)) else { break error };
            let pause = pause.max(asked.unwrap_or_default());
            if pause > LONGEST_PAUSE {
                break error;
            }
            tokio::time::sleep(pause).await;
        };
        self.metrics.dropped.inc_by(spans);
        Err(error)
    }

    async fn send(&self, body: Bytes) -> Sent {
        let client = match http_client::internet() {
            Ok(client) => client,
            Err(error) => return Sent::Refused(error.to_string()),
        };
        let answer = match client.post(&self.url).headers(self.headers.clone()).body(body).send().await {
            Ok(answer) => answer,
            Err(error) => return Sent::Later(None, error.without_url().to_string()),
        };
        let status = answer.status();
        if status.is_success() {
            return Sent::Taken(rejected(answer).await);
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

/// The number of spans that a collector rejected while it accepted others.
async fn rejected(mut answer: reqwest::Response) -> u64 {
    let mut body = Vec::new();
    while let Ok(Some(piece)) = answer.chunk().await {
        body.extend_from_slice(&piece);
        if body.len() > LONGEST_ANSWER {
            return 0;
        }
    }
    let parsed: Value = serde_json::from_slice(&body).unwrap_or_default();
    let count = &parsed["partialSuccess"]["rejectedSpans"];
    count.as_u64().or_else(|| count.as_str()?.parse().ok()).unwrap_or(0)
}

fn headers(rules: &TraceRules) -> HeaderMap {
    let mut headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    for (name, value) in &rules.otlp.headers {
        // Checked when the config was loaded.
        if let (Ok(name), Ok(mut value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value.expose())) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    headers
}
