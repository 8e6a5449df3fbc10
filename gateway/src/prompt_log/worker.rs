//! The threads of the prompt log: each takes a few requests, parses and redacts them, and writes them together.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use spillway_plugins::prompt_log::{Answer, Level, Request, content};
use tokio::sync::oneshot;

use super::entry::{Entry, WORKERS};
use super::export::Exporter;
use super::files::Files;
use super::waiting::Waiting;
use crate::config::PromptLogRules;
use crate::telemetry::metrics::PromptLogMetrics;

/// The work of a thread.
pub(super) enum Job {
    /// Record this request; it counts as so many waiting bytes.
    Entry(Entry, usize),
    /// Report when everything before is written.
    Flush(oneshot::Sender<()>),
}

/// Most requests that are written together: few enough that their lines are still in the processor's cache then.
const BATCH: usize = 64;
/// How often the files are checked while there are no requests.
const PAUSE: Duration = Duration::from_secs(5);
/// How long requests are collected. While the threads sleep, handing one over doesn't wake them; what waits long has left
/// the processor's cache, and its memory can't be used for other requests.
const GATHER: Duration = Duration::from_millis(2);

pub(super) struct Worker {
    pub(super) rules: Arc<PromptLogRules>,
    pub(super) jobs: Arc<Mutex<Receiver<Job>>>,
    pub(super) files: Arc<Mutex<Files>>,
    pub(super) waiting: Arc<Waiting>,
    pub(super) metrics: PromptLogMetrics,
    /// Each thread holds its lock while it works on requests.
    pub(super) busy: Arc<[Mutex<()>; WORKERS]>,
    /// The number of this thread.
    pub(super) number: usize,
    /// Sends the records to a collector, too.
    pub(super) exporter: Option<Exporter>,
}

impl Worker {
    /// Works until the sender is dropped.
    pub(super) fn run(self) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut lines = Vec::new();
        loop {
            let busy = match self.take(&mut batch) {
                Ok(busy) => busy,
                Err(RecvTimeoutError::Timeout) => {
                    self.files.lock().maintain();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            lines.clear();
            let (mut records, mut flushed) = (0, Vec::new());
            for job in batch.drain(..) {
                match job {
                    Job::Entry(entry, size) => {
                        let whole = lines.len();
                        // A panic, whatever the content, costs this record and not the log.
                        if catch_unwind(AssertUnwindSafe(|| self.line(&entry, &mut lines))).is_ok() {
                            records += 1;
                        } else {
                            lines.truncate(whole);
                            self.metrics.dropped.inc();
                        }
                        self.waiting.give_back(size, entry.share.as_deref());
                    }
                    Job::Flush(done) => flushed.push(done),
                }
            }
            self.write(&lines, records);
            drop(busy);
            if !flushed.is_empty() {
                // What the other threads took before is written once they are no longer busy.
                self.busy.iter().for_each(|other| drop(other.lock()));
            }
            for done in flushed {
                let _ = done.send(());
            }
        }
    }

    /// Takes waiting requests, at most a batch. Only one thread waits at a time; the other one waits for its turn.
    #[expect(clippy::disallowed_methods, reason = "these threads have nothing else to do")]
    fn take(&self, batch: &mut Vec<Job>) -> Result<MutexGuard<'_, ()>, RecvTimeoutError> {
        let jobs = self.jobs.lock();
        batch.push(jobs.recv_timeout(PAUSE)?);
        let busy = self.busy[self.number].lock();
        let mut gathered = false;
        while batch.len() < BATCH {
            match jobs.try_recv() {
                Ok(job) => batch.push(job),
                Err(_) if gathered => break,
                Err(_) => {
                    gathered = true;
                    std::thread::sleep(GATHER);
                }
            }
        }
        Ok(busy)
    }

    /// Appends a request's line.
    fn line(&self, entry: &Entry, lines: &mut Vec<u8>) {
        let Some(facts) = entry.facts.strip_suffix(b"}") else { return };
        let begin = lines.len();
        lines.extend_from_slice(facts);
        lines.extend_from_slice(b",\"level\":\"");
        lines.extend_from_slice(entry.level.name().as_bytes());
        lines.push(b'"');
        if entry.level.has_content() {
            let redactor = (entry.level == Level::Redacted).then_some(&self.rules.redactor);
            let body = entry.body.as_ref().map(|body| Request { bytes: &body.bytes, cut: body.cut });
            let answer = entry.answer.as_ref();
            let answer = answer.map(|answer| Answer { bytes: &answer.bytes, streamed: entry.streamed, cut: answer.cut });
            content(entry.api, body, answer, redactor, self.rules.max_message).write(lines);
        }
        lines.extend_from_slice(b"}\n");
        if let Some(exporter) = &self.exporter {
            exporter.send(&lines[begin..]);
        }
    }

    fn write(&self, lines: &[u8], records: u64) {
        if lines.is_empty() {
            return;
        }
        match self.files.lock().write(lines) {
            Ok(()) => self.metrics.records.inc_by(records),
            Err(_) => self.metrics.dropped.inc_by(records),
        }
    }
}
