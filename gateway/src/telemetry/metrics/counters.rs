//! Counters of one request, member, consumer or identity, looked up once, so that a request only adds numbers.

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};
use spillway_plugins::guard::Finding;
use spillway_plugins::prices::Money;
use spillway_plugins::tokens::{Metered, Provenance, Usage};

use super::STATUSES;
use crate::attempt_outcome::AttemptOutcome;
use spillway_plugins::prices::Cost;

/// A request's counters, looked up once per pool and API.
#[derive(Debug, Clone)]
pub struct RequestMetrics {
    pub(super) by_status: Vec<IntCounter>,
    /// Duration of whole requests.
    pub duration: Histogram,
}

impl RequestMetrics {
    /// Counts a request that ended with `status`.
    pub fn count(&self, status: u16) {
        let index = STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len());
        if let Some(counter) = self.by_status.get(index) {
            counter.inc();
        }
    }
}

/// A member's counters, looked up once.
#[derive(Debug, Clone)]
pub struct MemberMetrics {
    pub(super) by_outcome: [IntCounter; AttemptOutcome::ALL.len()],
    /// Requests that its tier served.
    pub served: IntCounter,
    /// Time to the first output.
    pub first_token: Histogram,
    /// Seconds for which it was throttled.
    pub throttled_seconds: prometheus::Counter,
    /// Requests that left it for another member.
    pub failovers: IntCounter,
    pub(super) tokens: [IntCounter; 5],
    pub(super) estimated_tokens: IntCounter,
    pub(super) usage_unknown: IntCounter,
    pub(super) cost: prometheus::Counter,
    pub(super) cost_unknown: IntCounter,
}

impl MemberMetrics {
    /// Counts the usage and cost of an attempt.
    pub fn count_usage(&self, metered: &Metered, cost: Cost) {
        let usage = &metered.usage;
        match metered.source {
            Provenance::Reported => {
                let counts = [usage.input, usage.output, usage.cached_input, usage.cache_write, usage.reasoning];
                self.tokens.iter().zip(counts).filter(|(_, count)| *count > 0).for_each(|(counter, count)| counter.inc_by(count));
            }
            Provenance::Estimated => self.estimated_tokens.inc_by(usage.tokens()),
            Provenance::Unknown => self.usage_unknown.inc(),
        }
        match cost {
            Cost::Known(money) => self.cost.inc_by(money.usd()),
            Cost::Hourly(_) => {}
            Cost::Unknown => self.cost_unknown.inc(),
        }
    }

    /// Counts an attempt.
    pub fn count(&self, outcome: AttemptOutcome) {
        self.by_outcome[outcome.index()].inc();
    }
}

/// A consumer's counters, looked up once. Above [`CONSUMERS`] the others share one set.
#[derive(Debug, Clone)]
pub struct ConsumerMetrics {
    pub(super) requests: IntCounter,
    pub(super) tokens: [IntCounter; 2],
    pub(super) cost: prometheus::Counter,
}

impl ConsumerMetrics {
    /// Counts a request that was answered or may have cost something.
    pub fn count(&self, usage: &Usage, cost: Money) {
        self.requests.inc();
        self.tokens[0].inc_by(usage.input);
        self.tokens[1].inc_by(usage.output);
        if cost.0 > 0 {
            self.cost.inc_by(cost.usd());
        }
    }
}

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
    pub(super) results: Vec<IntCounter>,
    pub(super) saved: [IntCounter; 2],
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
    /// Counts a request.
    pub fn count(&self, result: CacheResult) {
        if let Some(counter) = self.results.get(result as usize) {
            counter.inc();
        }
    }

    /// Counts tokens that no model had to process.
    pub fn saved(&self, input: u64, output: u64) {
        self.saved[0].inc_by(input);
        self.saved[1].inc_by(output);
    }
}

/// The guard's counters.
#[derive(Debug, Clone)]
pub struct GuardMetrics {
    pub(super) blocked: IntCounterVec,
    /// Contents that could not be checked.
    pub unchecked: IntCounter,
}

impl GuardMetrics {
    /// Counts a blocked content, of a `request` or an `answer`.
    pub fn blocked(&self, side: &str, finding: &Finding) {
        self.blocked.with_label_values(&[side, finding.label()]).inc();
    }
}

/// The prompt log's counters.
#[derive(Debug, Clone)]
pub struct PromptLogMetrics {
    /// Records written.
    pub records: IntCounter,
    /// Records lost.
    pub dropped: IntCounter,
    /// Events that the collector didn't accept.
    pub export_dropped: IntCounter,
}

/// The counters of spans.
#[derive(Debug, Clone)]
pub struct TraceMetrics {
    /// Spans that the collector has accepted.
    pub exported: IntCounter,
    /// Spans that it didn't accept.
    pub dropped: IntCounter,
}

/// The ledger's counters.
#[derive(Debug, Clone)]
pub struct LedgerMetrics {
    /// Whether it can be written.
    pub up: IntGauge,
    /// Rows written.
    pub rows: IntCounter,
    /// Rows lost.
    pub dropped: IntCounter,
    /// Rows that wait to be written.
    pub waiting: IntGauge,
    /// Times that it couldn't be written or was broken.
    pub failures: IntCounter,
}

/// The counters of the token issuer's keys, looked up once.
#[derive(Debug, Clone)]
pub struct IssuerMetrics {
    pub(super) fetched: IntCounter,
    pub(super) failed: IntCounter,
    pub(super) at: IntGauge,
}

impl IssuerMetrics {
    /// The keys were fetched at `now`, in seconds since 1970.
    pub fn fetched(&self, now: i64) {
        self.fetched.inc();
        self.at.set(now);
    }

    /// They could not be fetched.
    pub fn failed(&self) {
        self.failed.inc();
    }
}

/// An identity's counters, looked up once.
#[derive(Debug, Clone)]
pub struct TokenMetrics {
    pub(super) acquired: IntCounter,
    pub(super) failed: IntCounter,
    pub(super) expires: IntGauge,
    pub(super) usable: IntGauge,
}

impl TokenMetrics {
    /// A token was fetched that is valid until `expires`, in seconds since 1970.
    pub fn fetched(&self, expires: i64) {
        self.acquired.inc();
        self.expires.set(expires);
        self.usable.set(1);
    }

    /// None could be fetched.
    pub fn failed(&self) {
        self.failed.inc();
    }

    /// The last one has expired.
    pub fn lost(&self) {
        self.usable.set(0);
    }
}

/// The config's metrics.
#[derive(Debug, Clone)]
pub struct ConfigMetrics {
    /// Whether the config that was read last is active.
    pub successful: IntGauge,
    /// When the active one was loaded, in seconds since 1970.
    pub loaded_at: IntGauge,
    /// Re-read and now active.
    pub applied: IntCounter,
    /// Re-read and unchanged.
    pub unchanged: IntCounter,
    /// Re-read and refused.
    pub rejected: IntCounter,
}

impl ConfigMetrics {
    pub(super) fn new(successful: IntGauge, loaded_at: IntGauge, reloads: &IntCounterVec) -> Self {
        let of = |result| reloads.with_label_values(&[result]);
        ConfigMetrics { successful, loaded_at, applied: of("applied"), unchanged: of("unchanged"), rejected: of("rejected") }
    }
}

/// The results of upgrades.
#[derive(Debug, Clone)]
pub struct UpgradeMetrics {
    /// The new program took over.
    pub done: IntCounter,
    /// It didn't, and the old process continues.
    pub failed: IntCounter,
}

impl UpgradeMetrics {
    pub(super) fn new(upgrades: &IntCounterVec) -> Self {
        UpgradeMetrics { done: upgrades.with_label_values(&["done"]), failed: upgrades.with_label_values(&["failed"]) }
    }
}
