//! Records of short requests, which are made at once, on the thread that served the request.
//!
//! A short text takes a few microseconds to read, redact and write down. To another thread it would be handed over with all that it
//! keeps in memory, which would be read again when it has left the processor's cache, and given back late.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::IntGauge;
use spillway_plugins::prompt_log::Level;

use super::entry::Entry;
use super::files::Files;
use super::record::complete;
use crate::batch_queue::{Receiver, Sender, inbox};
use crate::config::PromptLogRules;
use crate::telemetry::metrics::PromptLogMetrics;

/// Bytes of prompt and answer that are short, together.
pub const SHORT: usize = 8 << 10;
/// Bytes of lines that may wait for the writer. If more do, the disk is slow, and records go where each consumer leaves room to others.
const WAITING: usize = 4 << 20;
/// How long lines are collected: see `GATHER` of the workers.
const GATHER: Duration = Duration::from_millis(2);
/// The capacity that a thread's buffer keeps, in bytes.
const CALM: usize = 256 * 1024;

/// The lines of short requests on their way to the file.
pub(super) struct Lines(Sender<u8>);

impl Lines {
    /// Starts the thread that writes them.
    ///
    /// # Errors
    /// If it can't be started.
    pub(super) fn start(files: Arc<Mutex<Files>>, metrics: PromptLogMetrics) -> std::io::Result<Self> {
        let waiting = IntGauge::new("prompt_log_waiting_bytes", "Bytes of lines that wait.").map_err(std::io::Error::other)?;
        let (inlet, outlet) = inbox(WAITING, waiting);
        std::thread::Builder::new().name("prompt-log".to_owned()).spawn(move || write_all(&outlet, &files, &metrics))?;
        Ok(Lines(inlet))
    }

    /// Hands a line over; `false` if too many wait already.
    pub(super) fn push(&self, line: &[u8]) -> bool {
        self.0.fill(|waiting| waiting.extend_from_slice(line))
    }

    /// Waits until all lines are written, or lost.
    pub(super) async fn flush(&self) {
        self.0.flush().await;
    }
}

/// Whether the record of a request is made at once. An operator's patterns may take long.
pub(super) fn is_short(entry: &Entry, rules: &PromptLogRules) -> bool {
    entry.length() <= SHORT && (entry.level != Level::Redacted || !rules.redactor.has_own())
}

/// Completes a record. `None` if that panics, whatever the content: it costs this record and not the request.
pub(super) fn line(rules: &PromptLogRules, entry: &Entry, record: &mut Vec<u8>) -> Option<()> {
    catch_unwind(AssertUnwindSafe(|| complete(rules, entry, record))).ok()
}

/// Calls `with` with an empty buffer that the thread uses again and again.
pub(super) fn with_buffer<T>(with: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    thread_local!(static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
    BUFFER.with_borrow_mut(|buffer| {
        buffer.clear();
        let result = with(buffer);
        if buffer.capacity() > CALM {
            *buffer = Vec::new();
        }
        result
    })
}

/// Writes lines in batches: all waiting lines in one call.
fn write_all(lines: &Receiver<u8>, files: &Mutex<Files>, metrics: &PromptLogMetrics) {
    lines.write_batches(GATHER, |batch| {
        if batch.is_empty() {
            return;
        }
        let records = memchr::memchr_iter(b'\n', batch).count() as u64;
        match files.lock().write(batch) {
            Ok(()) => metrics.records.inc_by(records),
            Err(_) => metrics.dropped.inc_by(records),
        }
    });
}
