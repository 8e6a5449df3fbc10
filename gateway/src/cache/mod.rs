//! Cached answers: in memory, and in Redis if nodes share one; equal requests wait for each other's answer.

mod flights;
mod remote;
pub mod semantic;

use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use arc_swap::ArcSwap;
use ring::rand::{SecureRandom as _, SystemRandom};
use spillway_plugins::cache::{CacheKey, Entry, KeyKind, KeySecret, Memory};

use crate::clock::Clock;
use crate::config::{self, CacheRules, ExactRules};
use crate::redis::RedisError;
use crate::telemetry::metrics::{CacheMetrics, Metrics};
use flights::Flights;
pub use flights::{Flight, FlightRole, FlightState};
use remote::Remote;
use semantic::{SemanticCache, StoreError};

/// The cache can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The URL of Redis.
    #[error("{0}")]
    Redis(#[from] RedisError),
    /// The semantic cache can't be used.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The system has no random numbers.
    #[error("the system has no random numbers")]
    Random,
}

/// Fewest and most locks of a table: two for each thread, so that one seldom waits for another.
const LOCKS: (usize, usize) = (4, 16);

/// A secret for keys; `None` if the system has no random numbers.
fn new_secret() -> Option<KeySecret> {
    let mut bytes = [0; KeySecret::LENGTH];
    SystemRandom::new().fill(&mut bytes).ok()?;
    KeySecret::from_bytes(&bytes)
}

/// The cache for equal requests.
#[derive(Debug)]
pub struct AnswerCache {
    /// Its rules.
    pub rules: ExactRules,
    /// Its counters.
    pub metrics: CacheMetrics,
    memory: Arc<Memory>,
    remote: Option<Remote>,
    flights: Flights,
    /// Of which the keys are made, if nodes share no answers.
    secret: ArcSwap<KeySecret>,
    /// The cache for requests with the same meaning.
    pub semantic: Option<Arc<SemanticCache>>,
}

impl AnswerCache {
    /// With the answers of the cache before, whose rules may differ, and what the semantic cache has on disk; for so many worker
    /// `threads`, or one per core. Does not connect yet.
    ///
    /// # Errors
    /// [`CacheError`]
    pub fn new(
        rules: CacheRules,
        redis: Option<&config::Redis>,
        threads: Option<usize>,
        clock: &Clock,
        metrics: &Metrics,
        before: Option<&AnswerCache>,
    ) -> Result<Self, CacheError> {
        let CacheRules { exact: rules, semantic } = rules;
        let now = clock.wall_millis();
        let locks = threads.unwrap_or_else(|| available_parallelism().map_or(1, usize::from)).clamp(LOCKS.0 / 2, LOCKS.1 / 2) * 2;
        let memory = match before {
            Some(before) if (before.rules.max_memory, before.rules.ttl) == (rules.max_memory, rules.ttl) => Arc::clone(&before.memory),
            _ => Arc::new(Memory::new(rules.max_memory as u64, locks)),
        };
        let remote = match before.and_then(|before| before.remote.clone()) {
            Some(known) => Some(known),
            None => redis.map(|redis| Remote::new(redis, clock.clone(), metrics.limits.redis_failures.clone())).transpose()?,
        };
        let known = before.and_then(|before| before.semantic.as_ref());
        let semantic = semantic.map(|rules| match known.filter(|known| known.rules == rules) {
            Some(same) => Ok(Arc::clone(same)),
            None => SemanticCache::open(rules, now).map(Arc::new),
        });
        let flights = before.map_or_else(|| Flights::new(locks), |before| before.flights.clone());
        let secret = match before {
            Some(before) => before.secret.load_full(),
            None => Arc::new(new_secret().ok_or(CacheError::Random)?),
        };
        let (semantic, metrics) = (semantic.transpose()?, metrics.cache.clone());
        let cache = AnswerCache { memory, remote, flights, secret: ArcSwap::new(secret), semantic, metrics, rules };
        if let Some(before) = before.filter(|before| !Arc::ptr_eq(&before.memory, &cache.memory)) {
            before.entries(now).for_each(|(key, entry)| cache.memory.put(key, entry));
        }
        Ok(cache)
    }

    /// Whether it was made with these rules.
    pub fn has_rules(&self, rules: &CacheRules) -> bool {
        self.rules == rules.exact && self.semantic.as_ref().map(|semantic| &semantic.rules) == rules.semantic.as_ref()
    }

    /// The answers in memory that are valid at `now` (milliseconds since 1970).
    pub fn entries(&self, now: i64) -> impl Iterator<Item = (CacheKey, Entry)> + '_ {
        self.memory.iter().filter(move |(_, entry)| entry.is_good(now))
    }

    /// How keys are made: nodes that share answers need the same ones.
    pub fn key_kind(&self) -> KeyKind {
        if self.is_shared() { KeyKind::Shared } else { KeyKind::Own(self.secret.load_full()) }
    }

    /// The secret of which keys are made, for the process that takes over.
    pub fn secret(&self) -> Arc<KeySecret> {
        self.secret.load_full()
    }

    /// Takes the old process's secret, before there are requests: its answers are found by it.
    pub fn take_over_secret(&self, secret: KeySecret) {
        self.secret.store(Arc::new(secret));
    }

    /// Takes an answer from the old process.
    pub fn take_over(&self, key: CacheKey, entry: Entry) {
        // The one that is cached here is newer.
        if self.memory.get(&key, entry.kept_at).is_some() {
            return;
        }
        self.memory.put(key, entry);
        self.report_size();
    }

    /// The answer in memory, if it is valid at `now` (milliseconds since 1970).
    pub fn get(&self, key: &CacheKey, now: i64) -> Option<Arc<Entry>> {
        self.memory.get(key, now)
    }

    /// Whether other nodes' answers can be fetched.
    pub fn is_shared(&self) -> bool {
        self.remote.is_some()
    }

    /// The answer that another node has cached, if any; it is kept in memory from now on.
    pub async fn fetch(&self, key: &CacheKey, now: i64) -> Option<Arc<Entry>> {
        let entry = Arc::new(self.remote.as_ref()?.get(key).await.filter(|entry| entry.is_good(now))?);
        self.memory.put(*key, Entry::clone(&entry));
        Some(entry)
    }

    /// Caches an answer: in memory at once, for other nodes soon after.
    pub fn put(&self, key: CacheKey, entry: Entry) {
        if let Some(remote) = &self.remote {
            remote.put(key, Arc::new(entry.clone()), self.rules.ttl);
        }
        self.memory.put(key, entry);
        self.report_size();
    }

    fn report_size(&self) {
        let (bytes, entries) = self.memory.size();
        self.metrics.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.metrics.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    /// Waits until everything is written, at most `limit`.
    pub async fn flush(&self, limit: Duration) {
        if let Some(semantic) = &self.semantic {
            semantic.flush(limit).await;
        }
    }

    /// How many flights have ended. As long as it stays the same, no flight has brought an answer.
    pub fn flights_ended(&self) -> u64 {
        self.flights.ended()
    }

    /// Joins the flight for a key, or begins it.
    pub fn board(&self, key: CacheKey) -> FlightRole {
        self.flights.board(key)
    }
}
