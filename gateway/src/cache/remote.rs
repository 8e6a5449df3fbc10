//! Cached answers in Redis, for all nodes. Every failure there is a miss.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prometheus::IntCounter;
use redis::AsyncCommands as _;
use spillway_plugins::cache::{CacheKey, Entry};
use tokio::sync::Semaphore;
use tracing::warn;

use crate::clock::{Clock, Tick};
use crate::config;
use crate::redis::{RedisError, SharedMemory};

/// How long a request waits for an answer from Redis: a model takes longer, but not much.
const LIMIT: Duration = Duration::from_millis(100);
/// How long Redis is not used after a failure.
const PAUSE: Duration = Duration::from_secs(5);
/// Most writes under way at once; further answers are not cached for other nodes.
const AT_ONCE: usize = 64;

/// The cache that nodes share.
#[derive(Debug, Clone)]
pub(super) struct Remote(Arc<Inner>);

struct Inner {
    shared: SharedMemory,
    room: Arc<Semaphore>,
    failures: IntCounter,
    clock: Clock,
    /// The tick until which Redis is not used; 0 if it works.
    paused: AtomicU64,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remote")
    }
}

impl Remote {
    pub(super) fn new(redis: &config::Redis, clock: Clock, failures: IntCounter) -> Result<Self, RedisError> {
        Ok(Remote(Arc::new(Inner {
            shared: SharedMemory::new(redis)?,
            room: Arc::new(Semaphore::new(AT_ONCE)),
            failures,
            clock,
            paused: AtomicU64::new(0),
        })))
    }

    /// The answer that Redis has for a key.
    pub(super) async fn get(&self, key: &CacheKey) -> Option<Entry> {
        let bytes = self.0.within(LIMIT, self.0.get(key)).await??;
        Entry::from_bytes(&Bytes::from(bytes)).ok()
    }

    /// Writes an answer to Redis, in the background.
    pub(super) fn put(&self, key: CacheKey, entry: Arc<Entry>, ttl: Duration) {
        let Ok(place) = Arc::clone(&self.0.room).try_acquire_owned() else { return };
        let remote = self.clone();
        tokio::spawn(async move {
            // Longer than the limit of a read: no request waits for a write.
            remote.0.within(LIMIT * 10, remote.0.put(&key, &entry, ttl)).await;
            drop(place);
        });
    }
}

impl Inner {
    fn name(&self, key: &CacheKey) -> String {
        self.shared.key(&format!("cache:{key:?}"))
    }

    async fn get(&self, key: &CacheKey) -> redis::RedisResult<Option<Vec<u8>>> {
        self.shared.connection().await?.get(self.name(key)).await
    }

    async fn put(&self, key: &CacheKey, entry: &Entry, ttl: Duration) -> redis::RedisResult<()> {
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        self.shared.connection().await?.pset_ex(self.name(key), entry.to_bytes(), millis).await
    }

    /// Runs a call with a time limit, unless one failed a short time ago.
    async fn within<T>(&self, limit: Duration, call: impl Future<Output = redis::RedisResult<T>>) -> Option<T> {
        let paused = self.paused.load(Ordering::Relaxed);
        if self.clock.now() < Tick(paused) {
            return None;
        }
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(value)) => {
                if paused != 0 {
                    self.paused.store(0, Ordering::Relaxed);
                }
                return Some(value);
            }
            Ok(Err(error)) if paused == 0 => warn!(kind = ?error.kind(), "the shared cache can't be reached: look-ups in it are misses"),
            Err(_) if paused == 0 => warn!("the shared cache is slow: look-ups in it are misses"),
            _ => {}
        }
        self.failures.inc();
        self.paused.store((self.clock.now() + PAUSE).0, Ordering::Relaxed);
        None
    }
}
