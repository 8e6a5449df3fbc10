//! Where stored things live, and whose they are: responses, conversations, files and batches are at
//! the one backend that made them, and nobody but the consumer that made them may see them.
//!
//! Kept in bounded memory, and in Redis where that is configured, so that several nodes (and a
//! restarted one) know the same.

mod redis;

use std::sync::Arc;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use serde::{Deserialize, Serialize};

use crate::config;
use crate::shared_memory::RedisError;
use crate::telemetry::metrics::Metrics;

/// One stored thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The backend that made it.
    pub backend: Arc<str>,
    /// The consumer that owns it; `None` if callers needn't say who they are.
    pub consumer: Option<Arc<str>>,
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Where it is, and whose.
    At(Pin),
    /// Nothing.
    Nothing,
    /// Nobody can say: the shared memory is out of reach.
    Unsure,
}

/// Where stored things live.
pub struct Objects {
    here: Cache<String, Pin>,
    shared: Option<redis::Shared>,
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Objects({}, {})", self.here.entry_count(), if self.shared.is_some() { "shared" } else { "here" })
    }
}

impl Objects {
    /// Nothing is known yet, but what Redis knows.
    ///
    /// # Errors
    /// If the URL of Redis can't be used.
    pub fn new(rules: &config::Objects, shared: Option<&config::Redis>, metrics: &Metrics) -> Result<Self, RedisError> {
        let here = Cache::builder().max_capacity(rules.max).time_to_live(rules.ttl).eviction_policy(EvictionPolicy::lru()).build();
        let shared = shared.map(|config| redis::Shared::new(config, rules.ttl, metrics)).transpose()?;
        Ok(Objects { here, shared })
    }

    /// Remembers a thing. Never waits. Whoever owns it keeps it.
    pub fn pin(&self, name: String, pin: Pin) {
        if self.here.contains_key(&name) {
            return;
        }
        if let Some(shared) = &self.shared {
            shared.pin(&name, &pin);
        }
        self.here.insert(name, pin);
    }

    /// Everything that is known here.
    pub fn all(&self) -> Vec<(String, Pin)> {
        self.here.iter().map(|(name, pin)| (name.to_string(), pin)).collect()
    }

    /// Remembers what another process knew. The shared memory knows it already.
    pub fn take_over(&self, name: String, pin: Pin) {
        self.here.insert(name, pin);
    }

    /// What is known of a name. Waits only for Redis, and not long.
    pub async fn find(&self, name: &str) -> Known {
        if let Some(pin) = self.here.get(name) {
            return Known::At(pin);
        }
        let Some(shared) = &self.shared else { return Known::Nothing };
        let known = shared.find(name).await;
        if let Known::At(pin) = &known {
            self.here.insert(name.to_owned(), pin.clone());
        }
        known
    }

    /// Waits until the shared memory knows everything, at most `limit`.
    pub async fn flush(&self, limit: Duration) {
        if let Some(shared) = &self.shared {
            let _ = tokio::time::timeout(limit, shared.flushed()).await;
        }
    }

    /// Keeps the shared memory up to date, for ever; returns at once if there is none.
    pub async fn keep_shared(self: Arc<Self>) {
        if let Some(shared) = &self.shared {
            shared.run().await;
        }
    }
}

/// How long a look-up in the shared memory may take.
const LOOK_UP: Duration = Duration::from_millis(250);
