//! The threads of the prompt log: each takes a few requests, parses and redacts them, and writes them together.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::entry::{Entry, WORKERS};
use super::export::Exporter;
use super::files::Files;
use super::record::complete;
use super::waiting::Waiting;
use crate::config::PromptLogRules;
use crate::telemetry::metrics::PromptLogMetrics;

/// The work of a thread.
pub(super) enum Job {
    /// Record this request, of which these facts are known; it counts as so many waiting bytes.
    Entry(Entry, Vec<u8>, usize),
    /// Report when everything before is written.
    Flush(oneshot::Sender<()>),
}

/// How many requests are written together: few enough that their lines are still in the processor's cache then. More while
/// more are waiting: the disk may be slow.
const BATCH: (usize, usize) = (64, 1024);
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
        let mut batch = Vec::with_capacity(BATCH.0);
        let mut lines = Vec::new();
        let mut most = BATCH.0;
        loop {
            let busy = match self.take(&mut batch, most) {
                Ok(busy) => busy,
                Err(RecvTimeoutError::Timeout) => {
                    lines = Vec::new();
                    self.files.lock().maintain();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            most = if batch.len() < most { BATCH.0 } else { (most * 2).min(BATCH.1) };
            lines.clear();
            let (mut records, mut flushed) = (0, Vec::new());
            for job in batch.drain(..) {
                match job {
                    Job::Entry(entry, facts, size) => {
                        let whole = lines.len();
                        // A panic, whatever the content, costs this record and not the log.
                        if catch_unwind(AssertUnwindSafe(|| self.line(&entry, &facts, &mut lines))).is_ok() {
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

    /// Takes waiting requests, at most so many. Only one thread waits at a time; the other one waits for its turn.
    #[expect(clippy::disallowed_methods, reason = "these threads have nothing else to do")]
    fn take(&self, batch: &mut Vec<Job>, most: usize) -> Result<MutexGuard<'_, ()>, RecvTimeoutError> {
        let jobs = self.jobs.lock();
        batch.push(jobs.recv_timeout(PAUSE)?);
        let busy = self.busy[self.number].lock();
        let mut gathered = false;
        while batch.len() < most {
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
    fn line(&self, entry: &Entry, facts: &[u8], lines: &mut Vec<u8>) {
        let begin = lines.len();
        lines.extend_from_slice(facts);
        complete(&self.rules, entry, lines);
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
