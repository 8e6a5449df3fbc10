//! A request, to be written down.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use spillway_plugins::api::Api;
use spillway_plugins::prompt_log::Level;

/// One request, to be written down.
pub struct Entry {
    /// How much of it.
    pub level: Level,
    /// What is known of it, as a JSON object.
    pub facts: Vec<u8>,
    /// The operation.
    pub api: Api,
    /// Its body, if that is wanted.
    pub body: Option<Part>,
    /// Its answer as far as it came.
    pub answer: Option<Part>,
    /// The answer is a stream.
    pub streamed: bool,
    /// What counts what waits of its consumer's, where there are several.
    pub share: Option<Arc<AtomicUsize>>,
}

/// A body, or its beginning.
pub struct Part {
    /// Its bytes.
    pub bytes: Bytes,
    /// There is more.
    pub cut: bool,
}

/// What a record counts as beside its prompt and answer: so the bound of bytes bounds their number, too.
const RECORD: usize = 8 * 1024;

impl Entry {
    pub(super) fn size(&self) -> usize {
        RECORD + [&self.body, &self.answer].into_iter().flatten().map(|part| part.bytes.len()).sum::<usize>()
    }
}

/// Threads that read, redact and write.
pub(super) const WORKERS: usize = 2;
