//! A request that is to be recorded.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use spillway_plugins::api::Api;
use spillway_plugins::prompt_log::Level;

/// A request that is to be recorded.
pub struct Entry {
    /// How much of it is recorded.
    pub level: Level,
    /// The operation.
    pub api: Api,
    /// Its body, if that is recorded.
    pub body: Option<Part>,
    /// Its answer, as far as it was received.
    pub answer: Option<Part>,
    /// The answer is a stream.
    pub streamed: bool,
    /// Counts the waiting bytes of its consumer, if there are several consumers.
    pub share: Option<Arc<AtomicUsize>>,
}

/// A body, or its beginning.
pub struct Part {
    /// Its bytes.
    pub bytes: Bytes,
    /// Whether the rest is missing.
    pub cut: bool,
}

/// Bytes that a record counts in addition to its prompt and answer, so that the bound of bytes also bounds the number
/// of records.
const RECORD: usize = 8 * 1024;

impl Entry {
    /// Bytes of its prompt and answer.
    pub(super) fn length(&self) -> usize {
        [&self.body, &self.answer].into_iter().flatten().map(|part| part.bytes.len()).sum()
    }

    /// Bytes that it counts while it waits.
    pub(super) fn size(&self) -> usize {
        RECORD + self.length()
    }
}

/// Threads that parse, redact and write.
pub(super) const WORKERS: usize = 2;
