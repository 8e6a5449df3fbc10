//! The access log: one JSON line per request, with every attempt. A thread of its own writes it behind a bounded queue:
//! a slow disk costs lines, which are counted, but never a request's time.

mod json;
mod line;
mod log_file;
mod text;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntCounter, IntGauge};
use tracing::warn;

use crate::batch_queue::{Receiver, Sender, inbox};
use crate::config::{AccessLogConfig as Destination, Log};
pub use line::{AttemptLine, RequestLine};
use log_file::LogFile;

/// Bytes of lines that may wait for the writer.
const WAITING: usize = 8 << 20;

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
            Destination::File(path) => Box::new(LogFile::open(path)?),
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

    /// Hands over a line that isn't a request's: `json`, or the text for people.
    pub fn note(&self, json: &str, text: &dyn std::fmt::Display) {
        let Some(lines) = &self.lines else { return };
        let line = if self.rules.text { format!("{text}\n") } else { format!("{json}\n") };
        if !lines.fill(|waiting| waiting.extend_from_slice(line.as_bytes())) {
            self.dropped.inc();
        }
    }

    /// Hands over a line that is also needed as JSON, and appends that to `to`.
    pub fn write_json(&self, line: &RequestLine<'_>, to: &mut Vec<u8>) {
        let before = to.len();
        json::write(line, to);
        match &self.lines {
            Some(lines) if !self.rules.text => {
                let taken = lines.fill(|waiting| {
                    waiting.extend_from_slice(&to[before..]);
                    waiting.push(b'\n');
                });
                if !taken {
                    self.dropped.inc();
                }
            }
            _ => self.write(line),
        }
    }

    /// Hands over a line, or counts it as lost.
    pub fn write(&self, line: &RequestLine<'_>) {
        let Some(lines) = &self.lines else { return };
        let mut written = true;
        // Written directly into the queue: handing over an allocation per line would cost more.
        let taken = lines.fill(|waiting| {
            if self.rules.text {
                let before = waiting.len();
                written = text::write(line, waiting).is_ok();
                if !written {
                    return waiting.truncate(before);
                }
            } else {
                json::write(line, waiting);
            }
            waiting.push(b'\n');
        });
        if !(taken && written) {
            self.dropped.inc();
        }
    }
}

/// How long lines are collected before they are written together.
const GATHER: Duration = Duration::from_millis(20);

/// Writes lines in batches: all waiting lines in one call.
fn write_all(lines: &Receiver<u8>, mut sink: Box<dyn Write + Send>, lost: &IntCounter) {
    let mut failing = false;
    lines.write_batches(GATHER, |batch| {
        let written = sink.write_all(batch).and_then(|()| sink.flush());
        if let Err(error) = &written {
            lost.inc_by(memchr::memchr_iter(b'\n', batch).count() as u64);
            if !failing {
                warn!(%error, "the access log can't be written: lines are lost");
            }
        }
        failing = written.is_err();
    });
}
