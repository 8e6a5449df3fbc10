//! The access log: one JSON line per request, with every attempt. A thread of its own writes it behind a bounded queue:
//! a slow disk costs lines, which are counted, but never a request's time.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntCounter, IntGauge};
use serde::Serialize;
use spillway_plugins::tokens::Metered;
use spillway_plugins::trace::{SpanId, TraceId};
use tracing::warn;

use crate::batch_queue::{Receiver, Sender, Woken, inbox};
use crate::config::{AccessLogConfig as Destination, Log};

/// Bytes of lines that may wait for the writer.
const WAITING: usize = 8 << 20;

/// One attempt of a request.
#[derive(Debug, Clone, Serialize)]
pub struct AttemptLine<'a> {
    /// The backend's name.
    pub backend: &'a str,
    /// The deployment's name there.
    pub deployment: &'a str,
    /// The outcome: `ok`, `throttled`, `failed`, an error kind …
    pub outcome: &'a str,
    /// The upstream's status, if it answered.
    pub status: Option<u16>,
    /// How long it took, in microseconds.
    pub us: u64,
    /// The backend's message about its failure, cut and redacted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub said: Option<&'a str>,
    /// The pooled connection was already closed: the next entry is the same attempt on a new connection.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// One request.
#[derive(Debug, Clone, Serialize)]
pub struct RequestLine<'a> {
    /// When it arrived, RFC 3339.
    pub time: String,
    /// Its id.
    pub id: &'a str,
    /// The trace that it belongs to, and its span there, if there are traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<TraceId>,
    /// Its span.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span_id: Option<SpanId>,
    /// The caller, if known.
    pub consumer: Option<&'a str>,
    /// The method.
    pub method: &'a str,
    /// The API, or `-`.
    pub api: &'a str,
    /// The model asked for.
    pub model: Option<&'a str>,
    /// The pool that served it.
    pub pool: Option<&'a str>,
    /// The status that the caller got; 499 if it left before one was sent.
    pub status: u16,
    /// How it ended: `ok`, `refused`, `last_resort`, `cut`, `caller_left`.
    pub end: &'a str,
    /// The error code, if the gateway answered itself.
    pub code: Option<&'a str>,
    /// Whether the answer was streamed.
    pub stream: bool,
    /// The result of the cache, if there is one: `hit`, `miss`, `bypass`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<&'a str>,
    /// The result of continuing a broken stream, if that was tried: `ok`, `differs`, `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rescued: Option<&'a str>,
    /// Every attempt in order.
    pub attempts: Vec<AttemptLine<'a>>,
    /// The answer's usage, if it is known at once; estimates are only in the ledger.
    pub usage: Option<Metered>,
    /// Bytes of the request's body.
    pub bytes_in: usize,
    /// Bytes of the answer's body.
    pub bytes_out: usize,
    /// Time to the first output, in microseconds.
    pub first_us: Option<u64>,
    /// Time in all, in microseconds.
    pub us: u64,
    /// The part of it that the gateway itself used, in microseconds.
    pub overhead_us: u64,
}

impl RequestLine<'_> {
    /// The most important fields, for people. A value that a caller chose can't break the format.
    fn write_text(&self, out: &mut Vec<u8>) -> std::io::Result<()> {
        let RequestLine { time, id, status, end, api, us, .. } = self;
        let known = |text: Option<&str>| text.unwrap_or("-").replace(|c: char| c.is_control() || c == ' ', "?");
        write!(out, "{time} {status} {end} {api} {} consumer={}", known(self.model), known(self.consumer))?;
        for attempt in &self.attempts {
            write!(out, " {}/{}={}", attempt.backend, attempt.deployment, attempt.outcome)?;
        }
        if let Some(metered) = &self.usage {
            write!(out, " tokens={}+{}", metered.usage.input, metered.usage.output)?;
        }
        if let Some(code) = self.code {
            write!(out, " code={code}")?;
        }
        write!(out, " {:.1}ms id={id}", *us as f64 / 1000.0)
    }
}

/// Accepts lines for the writer.
#[derive(Clone)]
pub struct AccessLog {
    rules: Log,
    lines: Option<Arc<Sender<u8>>>,
    dropped: IntCounter,
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AccessLog({})", if self.is_on() { "on" } else { "off" })
    }
}

impl AccessLog {
    /// Starts the writer. The file is opened again even if the writer `before` uses it, because it may have been moved
    /// away; that writer writes the lines that it still has, and ends with its last user.
    ///
    /// # Errors
    /// If the file can't be opened.
    pub fn start(rules: &Log, dropped: IntCounter, before: Option<&AccessLog>) -> std::io::Result<Self> {
        let kept = rules.clone();
        let destination = &rules.access;
        if let Some(same) = before
            .filter(|before| *destination == Destination::Stdout && before.rules.access == kept.access && before.rules.text == kept.text)
        {
            return Ok(same.clone());
        }
        let sink: Box<dyn Write + Send> = match destination {
            Destination::Off => return Ok(AccessLog { rules: kept, lines: None, dropped }),
            Destination::Stdout => Box::new(std::io::stdout()),
            Destination::File(path) => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
        };
        let waiting = IntGauge::new("access_log_waiting_bytes", "Bytes of lines that wait.").map_err(std::io::Error::other)?;
        let (inlet, outlet) = inbox(WAITING, waiting);
        let lost = dropped.clone();
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || write_all(&outlet, sink, &lost))?;
        Ok(AccessLog { rules: kept, lines: Some(Arc::new(inlet)), dropped })
    }

    /// Whether the log is on.
    pub fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    /// Waits until every line that was handed over is written, or lost; at most `limit`.
    pub async fn flush(&self, limit: Duration) {
        if let Some(lines) = &self.lines {
            let _ = tokio::time::timeout(limit, lines.flush()).await;
        }
    }

    /// Hands over a line, or counts it as lost.
    pub fn write(&self, line: &RequestLine<'_>) {
        let Some(lines) = &self.lines else { return };
        let mut written = false;
        // Written directly into the queue: handing over an allocation per line would cost more.
        let taken = lines.fill(|waiting| {
            let before = waiting.len();
            written = if self.rules.text { line.write_text(waiting).is_ok() } else { serde_json::to_writer(&mut *waiting, line).is_ok() };
            if written {
                waiting.push(b'\n');
            } else {
                waiting.truncate(before);
            }
        });
        if !(taken && written) {
            self.dropped.inc();
        }
    }
}

/// How long lines are collected before they are written together. While the writer sleeps, handing over a line doesn't
/// wake it, which would cost more than the line.
const GATHER: Duration = Duration::from_millis(20);
/// How long the writer sleeps if there are no lines.
const PAUSE: Duration = Duration::from_secs(60);
/// The capacity that its buffer keeps, in bytes.
const CALM: usize = 256 * 1024;

/// Writes lines in batches: all waiting lines in one call.
#[expect(clippy::disallowed_methods, reason = "this thread is its own and has nothing else to do")]
fn write_all(lines: &Receiver<u8>, mut sink: Box<dyn Write + Send>, lost: &IntCounter) {
    let mut failing = false;
    let mut batch = Vec::new();
    loop {
        match lines.wait(PAUSE) {
            Woken::Closed => return,
            Woken::Idle => continue,
            Woken::Filled => {}
        }
        std::thread::sleep(GATHER);
        batch.clear();
        batch.shrink_to(CALM);
        let flushed = lines.take(&mut batch);
        let written = sink.write_all(&batch).and_then(|()| sink.flush());
        if let Err(error) = &written {
            lost.inc_by(batch.iter().filter(|byte| **byte == b'\n').count() as u64);
            if !failing {
                warn!(%error, "the access log can't be written: lines are lost");
            }
        }
        failing = written.is_err();
        lines.done(batch.len());
        for done in flushed {
            let _ = done.send(());
        }
    }
}
