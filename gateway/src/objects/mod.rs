//! Where stored objects are, and who owns them: responses, conversations, files and batches are at the one backend that
//! made them, and only the consumer that made them may see them.
//!
//! Kept in bounded memory, of which every consumer has its share, and in Redis if that is configured, so that all nodes
//! (also after a restart) know the same.

mod known;
mod redis;

use std::sync::Arc;
use std::time::Duration;

pub use known::{Known, ObjectLocation};
use parking_lot::Mutex;

use crate::clock::Tick;
use crate::config;
use crate::redis::RedisError;
use crate::shares::{Owner, Store};
use crate::telemetry::metrics::Metrics;

/// A pin, and when it was made.
#[derive(Debug)]
struct Kept {
    pin: ObjectLocation,
    at: Tick,
}

/// Prefix of names that stand for sealed content instead of stored objects: see [`sealed_name`].
const SEALED: &str = "sealed:";

/// The name under which the backend that can read a sealed content is remembered. No caller can name it: names have no
/// colon.
pub fn sealed_name(mark: &str) -> String {
    format!("{SEALED}{mark}")
}

/// Where stored objects are.
pub struct Objects {
    ttl: Duration,
    /// Stored objects, which have names.
    named: Mutex<Store<Owner, Kept>>,
    /// Sealed contents: they are far more, and must not displace stored objects.
    sealed: Mutex<Store<Owner, Kept>>,
    shared: Option<redis::Shared>,
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.named.lock().len() + self.sealed.lock().len();
        write!(f, "Objects({count}, {})", if self.shared.is_some() { "shared" } else { "here" })
    }
}

impl Objects {
    /// Knows nothing at first, except what Redis knows.
    ///
    /// # Errors
    /// If the URL of Redis can't be used.
    pub fn new(rules: &config::Objects, shared: Option<&config::Redis>, metrics: &Metrics) -> Result<Self, RedisError> {
        let most = usize::try_from(rules.max).unwrap_or(usize::MAX);
        let shared = shared.map(|config| redis::Shared::new(config, rules.ttl, metrics)).transpose()?;
        Ok(Objects { ttl: rules.ttl, named: Mutex::new(Store::new(most)), sealed: Mutex::new(Store::new(most)), shared })
    }

    fn of(&self, name: &str) -> &Mutex<Store<Owner, Kept>> {
        if name.starts_with(SEALED) { &self.sealed } else { &self.named }
    }

    /// What this node knows at `now`.
    fn here(&self, name: &str, now: Tick) -> Option<ObjectLocation> {
        let mut store = self.of(name).lock();
        let Kept { pin, at } = store.get(name)?;
        if now.since(*at) < self.ttl {
            return Some(pin.clone());
        }
        store.remove(name);
        None
    }

    fn keep(&self, name: &str, pin: ObjectLocation, now: Tick) {
        self.of(name).lock().insert(name.into(), pin.consumer.clone(), Kept { pin, at: now });
    }

    /// Remembers an object. Never waits. An object that is known already keeps its owner.
    pub fn pin(&self, name: &str, pin: ObjectLocation, now: Tick) {
        if self.here(name, now).is_some() {
            return;
        }
        if let Some(shared) = &self.shared {
            shared.pin(name, &pin);
        }
        self.keep(name, pin, now);
    }

    /// Everything that this node knows.
    pub fn all(&self) -> Vec<(String, ObjectLocation)> {
        let of = |store: &Mutex<Store<Owner, Kept>>| -> Vec<(String, ObjectLocation)> {
            store.lock().iter().map(|(name, kept)| (name.to_string(), kept.pin.clone())).collect()
        };
        [of(&self.named), of(&self.sealed)].concat()
    }

    /// Remembers what the old process knew. Redis knows it already.
    pub fn take_over(&self, name: &str, pin: ObjectLocation, now: Tick) {
        self.keep(name, pin, now);
    }

    /// Looks up a name. Waits only for Redis, and not long.
    pub async fn find(&self, name: &str, now: Tick) -> Known {
        if let Some(pin) = self.here(name, now) {
            return Known::At(pin);
        }
        let Some(shared) = &self.shared else { return Known::Nothing };
        let known = shared.find(name).await;
        if let Known::At(pin) = &known {
            self.keep(name, pin.clone(), now);
        }
        known
    }

    /// The backend that can read the last known one of these sealed contents. Asks Redis only for the last one.
    pub async fn reader_of(&self, marks: &[String], now: Tick) -> Option<Arc<str>> {
        let here = marks.iter().rev().find_map(|mark| self.here(&sealed_name(mark), now));
        let pin = match (here, marks.last()) {
            (Some(pin), _) => pin,
            (None, Some(last)) => match self.find(&sealed_name(last), now).await {
                Known::At(pin) => pin,
                Known::Nothing | Known::Unsure => return None,
            },
            (None, None) => return None,
        };
        Some(pin.backend)
    }

    /// Waits until everything is written to Redis, at most `limit`.
    pub async fn flush(&self, limit: Duration) {
        if let Some(shared) = &self.shared {
            let _ = tokio::time::timeout(limit, shared.flushed()).await;
        }
    }

    /// Writes to Redis in the background, for ever; returns at once without Redis.
    pub async fn keep_shared(self: Arc<Self>) {
        if let Some(shared) = &self.shared {
            shared.run().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(max: u64) -> Objects {
        Objects::new(&config::Objects { max, ttl: Duration::from_secs(100) }, None, &Metrics::new().unwrap()).unwrap()
    }

    fn pin(backend: &str, consumer: &str) -> ObjectLocation {
        ObjectLocation { backend: backend.into(), consumer: Some(consumer.into()) }
    }

    const NOW: Tick = Tick(0);

    #[tokio::test]
    async fn names_stay_their_owners_until_they_are_forgotten() {
        let objects = objects(10);
        objects.pin("resp_1", pin("a", "one"), NOW);
        objects.pin("resp_1", pin("b", "two"), NOW);
        assert_eq!(objects.find("resp_1", NOW).await, Known::At(pin("a", "one")));
        let later = NOW + Duration::from_secs(100);
        assert_eq!(objects.find("resp_1", later).await, Known::Nothing);
        objects.pin("resp_1", pin("b", "two"), later);
        assert_eq!(objects.find("resp_1", later).await, Known::At(pin("b", "two")));
    }

    #[tokio::test]
    async fn the_newest_sealed_content_that_is_known_tells_who_reads_them() {
        let objects = objects(4);
        objects.pin("resp_1", pin("a", "one"), NOW);
        for (mark, backend) in [("x", "a"), ("y", "b")] {
            objects.pin(&sealed_name(mark), pin(backend, "one"), NOW);
        }
        let reader = async |marks: &[&str]| {
            let marks: Vec<String> = marks.iter().map(|mark| (*mark).to_owned()).collect();
            objects.reader_of(&marks, NOW).await
        };
        assert_eq!(reader(&["x", "y", "new"]).await.as_deref(), Some("b"));
        assert_eq!(reader(&["y", "x"]).await.as_deref(), Some("a"));
        assert_eq!((reader(&["new"]).await, reader(&[]).await), (None, None));
        (0..100).for_each(|number| objects.pin(&sealed_name(&number.to_string()), pin("a", "one"), NOW));
        assert_eq!(objects.find("resp_1", NOW).await, Known::At(pin("a", "one")), "what has a name isn't pushed out");
        assert_eq!(objects.all().len(), 5, "and the next process learns of both");
    }
}
