//! The threads behind the prompt log: each takes a few requests, reads and redacts them, and writes them in one go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use parking_lot::Mutex;
use spillway_plugins::prompt_log::{Level, content};
use tokio::sync::oneshot;

use super::Entry;
use super::files::Files;
use crate::config::PromptLogRules;
use crate::telemetry::metrics::PromptLogMetrics;

/// What a thread is asked to do.
pub(super) enum Job {
    /// Write this down; so many bytes are waiting with it.
    Entry(Entry, usize),
    /// Say when everything before is written.
    Flush(oneshot::Sender<()>),
}

/// Most requests that are written in one go.
const BATCH: usize = 64;
/// How often the files are looked after while nothing comes.
const PAUSE: Duration = Duration::from_secs(5);
/// How long requests gather. While the threads sleep, handing one over wakes nobody.
const GATHER: Duration = Duration::from_millis(10);

pub(super) struct Worker {
    pub(super) rules: Arc<PromptLogRules>,
    pub(super) jobs: Arc<Mutex<Receiver<Job>>>,
    pub(super) files: Arc<Mutex<Files>>,
    pub(super) waiting: Arc<AtomicUsize>,
    pub(super) metrics: PromptLogMetrics,
}

impl Worker {
    /// Works until nobody can hand anything over any more.
    pub(super) fn run(self) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut lines = Vec::new();
        loop {
            match self.take(&mut batch) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => {
                    self.files.lock().keep_house();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            lines.clear();
            let (mut records, mut flushed) = (0, Vec::new());
            for job in batch.drain(..) {
                match job {
                    Job::Entry(entry, size) => {
                        self.line(&entry, &mut lines);
                        self.waiting.fetch_sub(size, Ordering::Relaxed);
                        records += 1;
                    }
                    Job::Flush(done) => flushed.push(done),
                }
            }
            self.write(&lines, records);
            for done in flushed {
                let _ = done.send(());
            }
        }
    }

    /// Takes what is there, at most a batch. While one thread waits, the other one does, too: behind it.
    #[expect(clippy::disallowed_methods, reason = "these threads have nothing else to do")]
    fn take(&self, batch: &mut Vec<Job>) -> Result<(), RecvTimeoutError> {
        let jobs = self.jobs.lock();
        batch.push(jobs.recv_timeout(PAUSE)?);
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
        Ok(())
    }

    /// Appends a request's line.
    fn line(&self, entry: &Entry, lines: &mut Vec<u8>) {
        let Some(facts) = entry.facts.strip_suffix(b"}") else { return };
        lines.extend_from_slice(facts);
        lines.extend_from_slice(b",\"level\":\"");
        lines.extend_from_slice(entry.level.name().as_bytes());
        lines.push(b'"');
        if entry.level.has_content() {
            let redactor = (entry.level == Level::Redacted).then_some(&self.rules.redactor);
            let body = entry.body.as_ref().map(|body| (**body).as_ref());
            let answer = entry.answer.as_ref().map(|(answer, streamed)| (&answer[..], *streamed));
            let content = content(entry.api, body, answer, redactor, self.rules.max_message);
            let mut text = Vec::with_capacity(1024);
            // Texts and numbers can always be written.
            if serde_json::to_writer(&mut text, &content).is_ok() && text.len() > 2 {
                lines.push(b',');
                lines.extend_from_slice(&text[1..text.len() - 1]);
            }
        }
        lines.extend_from_slice(b"}\n");
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
