//! The cache.

use prometheus::{IntCounter, IntGauge};

use super::registration::Registration;

/// The result of the cache for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheResult {
    /// Answered from the cache, with the answer to an equal request.
    Hit,
    /// Answered from the cache, with the answer to a request with the same meaning.
    Semantic,
    /// Answered by a model.
    Miss,
    /// Its caller asked not to use the cache.
    Bypass,
}

impl CacheResult {
    /// All of them, in order of declaration.
    pub const ALL: [CacheResult; 4] = [CacheResult::Hit, CacheResult::Semantic, CacheResult::Miss, CacheResult::Bypass];

    /// Its text in header and label.
    pub fn label(self) -> &'static str {
        match self {
            CacheResult::Hit => "hit",
            CacheResult::Semantic => "semantic",
            CacheResult::Miss => "miss",
            CacheResult::Bypass => "bypass",
        }
    }
}

/// The cache's counters.
#[derive(Debug, Clone)]
pub struct CacheMetrics {
    results: [IntCounter; CacheResult::ALL.len()],
    saved: [IntCounter; 2],
    /// Bytes of cached answers in memory.
    pub bytes: IntGauge,
    /// Cached answers in memory.
    pub entries: IntGauge,
    /// Questions that the semantic cache knows.
    pub questions: IntGauge,
    /// Questions that could not be embedded.
    pub embedding_failures: IntCounter,
    /// Requests that would have been answered, in a dry run.
    pub dry_hits: IntCounter,
}

impl CacheMetrics {
    pub(super) fn new(to: &Registration<'_>) -> prometheus::Result<Self> {
        let results = to.counters("spillway_cache_requests_total", "Requests that the cache could answer, by result.", &["result"])?;
        let saved = to.counters("spillway_cache_saved_tokens_total", "Tokens that no model had to process, by kind.", &["kind"])?;
        Ok(CacheMetrics {
            results: CacheResult::ALL.map(|result| results.with_label_values(&[result.label()])),
            saved: ["input", "output"].map(|kind| saved.with_label_values(&[kind])),
            bytes: to.gauge("spillway_cache_bytes", "Bytes of cached answers in memory.")?,
            entries: to.gauge("spillway_cache_entries", "Cached answers in memory.")?,
            questions: to.gauge("spillway_cache_questions", "Questions that the semantic cache knows.")?,
            embedding_failures: to.counter("spillway_cache_embedding_failures_total", "Questions that could not be embedded.")?,
            dry_hits: to.counter("spillway_cache_dry_run_hits_total", "Requests that the semantic cache would have answered.")?,
        })
    }

    /// Counts a request.
    pub fn count(&self, result: CacheResult) {
        self.results[result as usize].inc();
    }

    /// Counts tokens that no model had to process.
    pub fn saved(&self, input: u64, output: u64) {
        self.saved[0].inc_by(input);
        self.saved[1].inc_by(output);
    }
}
