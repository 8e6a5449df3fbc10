//! Kept answers: in memory, in Redis if nodes share one, and requests that wait for each other's.

mod flights;
mod remote;
pub mod semantic;

use std::sync::Arc;
use std::time::Duration;

use spillway_plugins::cache::{CacheKey, Entry, Memory};

use crate::clock::Clock;
use crate::config::{self, CacheRules, ExactRules};
use crate::shared_memory::RedisError;
use crate::telemetry::metrics::{CacheMetrics, Metrics};
use flights::Flights;
pub use flights::{Boarding, Flight, State};
use remote::Remote;
use semantic::{SemanticCache, StoreError};

/// The cache can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The URL of Redis.
    #[error("{0}")]
    Redis(#[from] RedisError),
    /// What is known can't be kept.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// The cache for equal requests.
#[derive(Debug)]
pub struct AnswerCache {
    /// Its rules.
    pub rules: ExactRules,
    /// Its counters.
    pub metrics: CacheMetrics,
    memory: Memory,
    remote: Option<Remote>,
    flights: Flights,
    /// For requests that mean the same.
    pub semantic: Option<SemanticCache>,
}

impl AnswerCache {
    /// What was kept before is in the semantic part; nothing is connected yet.
    ///
    /// # Errors
    /// [`CacheError`]
    pub fn new(rules: CacheRules, redis: Option<&config::Redis>, clock: &Clock, metrics: &Metrics) -> Result<Self, CacheError> {
        let CacheRules { exact: rules, semantic } = rules;
        let now = clock.wall().timestamp_millis();
        let failures = &metrics.redis_failures;
        Ok(AnswerCache {
            memory: Memory::new(rules.max_memory as u64, rules.ttl),
            remote: redis.map(|redis| Remote::new(redis, clock.clone(), failures.clone())).transpose()?,
            flights: Flights::default(),
            semantic: semantic.map(|rules| SemanticCache::open(rules, now)).transpose()?,
            metrics: metrics.cache.clone(),
            rules,
        })
    }

    /// The answer in memory, if it is good at `now` (milliseconds since 1970).
    pub fn get(&self, key: &CacheKey, now: i64) -> Option<Arc<Entry>> {
        self.memory.get(key, now)
    }

    /// The answer that another node has kept, if there is one; it is in memory from now on.
    pub async fn fetch(&self, key: &CacheKey, now: i64) -> Option<Arc<Entry>> {
        let entry = Arc::new(self.remote.as_ref()?.get(key).await.filter(|entry| entry.is_good(now))?);
        self.memory.put(*key, Arc::clone(&entry));
        Some(entry)
    }

    /// Keeps an answer, here at once and for other nodes soon.
    pub fn put(&self, key: CacheKey, entry: Entry) {
        let entry = Arc::new(entry);
        if let Some(remote) = &self.remote {
            remote.put(key, Arc::clone(&entry), self.rules.ttl);
        }
        self.memory.put(key, entry);
        let (bytes, entries) = self.memory.size();
        self.metrics.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.metrics.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    /// Waits until everything is kept, at most `limit`.
    pub async fn flush(&self, limit: Duration) {
        if let Some(semantic) = &self.semantic {
            semantic.flush(limit).await;
        }
    }

    /// Boards the flight for a key, or begins it.
    pub fn board(&self, key: CacheKey) -> Boarding {
        self.flights.board(key)
    }
}
