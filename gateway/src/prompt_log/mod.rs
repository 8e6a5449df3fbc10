//! The prompt log: prompts and answers as JSON lines, without sensitive texts. Threads of its own write it behind
//! bounded queues: a slow or full disk costs records, which are counted, but never a request's time.

mod entry;
mod export;
mod files;
mod record;
pub mod search;
mod short;
mod waiting;
mod worker;

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::background_queue;
use crate::clock::Clock;
use crate::config::PromptLogRules;
use crate::telemetry::metrics::PromptLogMetrics;
use entry::WORKERS;
pub use entry::{Entry, Part};
use export::Exporter;
use files::Files;
pub use short::SHORT;
use short::{Lines, is_short, line, with_buffer};
use waiting::Waiting;
use worker::Job;

/// Records that may wait.
const QUEUE: usize = 16_384;
/// Most bytes of a request that are parsed for the log, without white space between its parts.
pub const LONGEST_REQUEST: usize = 1 << 20;
/// Most bytes of an answer that are parsed for the log; of a plain one, without white space between its parts.
pub const LONGEST_ANSWER: usize = 1 << 20;

/// Accepts requests to record.
pub struct PromptLog {
    /// Its rules.
    pub rules: Arc<PromptLogRules>,
    queue: SyncSender<Job>,
    lines: Lines,
    waiting: Arc<Waiting>,
    metrics: PromptLogMetrics,
    exporter: Option<Exporter>,
}

impl std::fmt::Debug for PromptLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PromptLog({})", self.rules.path.display())
    }
}

impl PromptLog {
    /// Opens the file and starts the threads, within a Tokio runtime.
    ///
    /// # Errors
    /// If the file can't be opened.
    pub fn start(rules: Arc<PromptLogRules>, clock: Clock, metrics: PromptLogMetrics) -> std::io::Result<Self> {
        let files = Arc::new(Mutex::new(Files::open(Arc::clone(&rules), clock.clone())?));
        let (queue, jobs) = sync_channel(QUEUE);
        let jobs = Arc::new(Mutex::new(jobs));
        let waiting = Arc::new(Waiting::default());
        let exporter = rules.otlp.as_ref().map(|otlp| Exporter::start(otlp, clock, metrics.clone()));
        let busy = Arc::new(std::array::from_fn(|_| Mutex::new(())));
        for number in 0..WORKERS {
            let worker = worker::Worker {
                rules: Arc::clone(&rules),
                jobs: Arc::clone(&jobs),
                files: Arc::clone(&files),
                waiting: Arc::clone(&waiting),
                metrics: metrics.clone(),
                busy: Arc::clone(&busy),
                exporter: exporter.clone(),
                number,
            };
            std::thread::Builder::new().name(format!("prompt-log-{number}")).spawn(move || worker.run())?;
        }
        let lines = Lines::start(files, metrics.clone())?;
        Ok(PromptLog { rules, queue, lines, waiting, metrics, exporter })
    }

    /// Records a request, or counts it as lost. `facts` writes what else is known of it, as a JSON object.
    pub fn write(&self, entry: Entry, facts: impl FnOnce(&mut Vec<u8>)) {
        with_buffer(|record| {
            facts(record);
            // The collector's records are made from these, by the other threads.
            if self.exporter.is_some() || !is_short(&entry, &self.rules) {
                return self.hand_over(entry, record);
            }
            let facts = record.len();
            if line(&self.rules, &entry, record).is_none() {
                self.metrics.dropped.inc();
            } else if !self.lines.push(record) {
                record.truncate(facts.saturating_sub(1));
                record.push(b'}');
                self.hand_over(entry, record);
            }
        });
    }

    /// Hands over a request whose record is made later.
    fn hand_over(&self, mut entry: Entry, facts: &[u8]) {
        if let Some(answer) = entry.answer.as_mut().filter(|answer| answer.bytes.len() <= SHORT) {
            // It may be a part of something larger, which would wait with it.
            answer.bytes = Bytes::copy_from_slice(&answer.bytes);
        }
        let size = entry.size();
        let share = entry.share.clone();
        if !self.waiting.take(size, share.as_deref()) {
            self.metrics.dropped.inc();
        } else if self.queue.try_send(Job::Entry(entry, facts.to_vec(), size)).is_err() {
            self.waiting.give_back(size, share.as_deref());
            self.metrics.dropped.inc();
        }
    }

    /// Waits until everything that was handed over is written, at most `limit`.
    pub async fn flush(&self, limit: Duration) {
        let short = tokio::time::timeout(limit, self.lines.flush());
        let _ = tokio::join!(background_queue::flush(&self.queue, Job::Flush, limit), short);
        if let Some(exporter) = &self.exporter {
            let _ = tokio::time::timeout(limit, exporter.flush()).await;
        }
    }
}

#[cfg(test)]
mod tests;
