//! Stored objects in Redis or Valkey: one string per object.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::IntCounter;
use redis::{AsyncCommands as _, ExistenceCheck, SetExpiry, SetOptions};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::known::{Known, LOOK_UP, ObjectLocation};
use crate::config;
use crate::redis::{RedisError, SharedMemory};
use crate::telemetry::metrics::Metrics;

/// Writes that may wait.
const QUEUE: usize = 10_000;
/// Timeout of one write.
const WRITE: Duration = Duration::from_secs(2);
/// Pause before a failed write is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Redis.
pub(super) struct Shared {
    memory: SharedMemory,
    ttl: u64,
    queue: mpsc::Sender<(String, String)>,
    /// Writes that are handed over and not done yet.
    pending: AtomicUsize,
    waiting: Mutex<mpsc::Receiver<(String, String)>>,
    dropped: IntCounter,
    failures: IntCounter,
}

impl Shared {
    pub(super) fn new(config: &config::Redis, ttl: Duration, metrics: &Metrics) -> Result<Self, RedisError> {
        let (queue, waiting) = mpsc::channel(QUEUE);
        Ok(Shared {
            memory: SharedMemory::new(config)?,
            ttl: ttl.as_secs().max(1),
            queue,
            pending: AtomicUsize::new(0),
            waiting: Mutex::new(waiting),
            dropped: metrics.limits.objects_unshared.clone(),
            failures: metrics.limits.redis_failures.clone(),
        })
    }

    fn key(&self, name: &str) -> String {
        self.memory.key(&format!("object:{name}"))
    }

    /// Hands an object over to be written.
    pub(super) fn pin(&self, name: &str, pin: &ObjectLocation) {
        self.pending.fetch_add(1, Ordering::Relaxed);
        let taken = serde_json::to_string(pin).ok().is_some_and(|text| self.queue.try_send((self.key(name), text)).is_ok());
        if !taken {
            self.pending.fetch_sub(1, Ordering::Relaxed);
            self.dropped.inc();
        }
    }

    pub(super) async fn find(&self, name: &str) -> Known {
        let key = self.key(name);
        let asked = timeout(LOOK_UP, async { self.memory.connection().await?.get::<_, Option<String>>(key).await }).await;
        match asked {
            Ok(Ok(Some(text))) => serde_json::from_str(&text).map_or(Known::Nothing, Known::At),
            Ok(Ok(None)) => Known::Nothing,
            Ok(Err(_)) | Err(_) => {
                self.failures.inc();
                Known::Unsure
            }
        }
    }

    /// Writes what was handed over, for ever; failed writes are tried again.
    pub(super) async fn run(&self) {
        let mut waiting = self.waiting.lock().await;
        let mut reachable = true;
        while let Some((key, text)) = waiting.recv().await {
            while !self.write(&key, &text).await {
                self.failures.inc();
                if std::mem::replace(&mut reachable, false) {
                    warn!("Redis can't be reached: other nodes don't learn which backend has stored responses and files");
                }
                sleep(AGAIN).await;
            }
            self.pending.fetch_sub(1, Ordering::Relaxed);
            if !std::mem::replace(&mut reachable, true) {
                info!("Redis can be reached again");
            }
        }
    }

    async fn write(&self, key: &str, text: &str) -> bool {
        let options = SetOptions::default().conditional_set(ExistenceCheck::NX).with_expiration(SetExpiry::EX(self.ttl));
        let write = async { self.memory.connection().await?.set_options::<_, _, Option<String>>(key, text, options).await };
        matches!(timeout(WRITE, write).await, Ok(Ok(_)))
    }

    /// Returns when everything is written.
    pub(super) async fn flushed(&self) {
        while self.pending.load(Ordering::Relaxed) > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    }
}
