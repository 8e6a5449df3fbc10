//! Cached answers in memory, within a number of bytes.

use std::sync::Arc;
use std::time::Duration;

use super::{CacheKey, Entry};

/// Answers by key. If there is no room, the least used ones are removed first.
#[derive(Debug)]
pub struct Memory(moka::sync::Cache<CacheKey, Arc<Entry>>);

impl Memory {
    /// Room for so many bytes, each for at most `ttl`. [`Memory::get`] also refuses expired entries, by its caller's
    /// clock: this one only frees the room.
    pub fn new(max_bytes: u64, ttl: Duration) -> Self {
        let weight = |_: &CacheKey, entry: &Arc<Entry>| u32::try_from(entry.size() + size_of::<CacheKey>()).unwrap_or(u32::MAX);
        Memory(moka::sync::Cache::builder().max_capacity(max_bytes).weigher(weight).time_to_live(ttl).build())
    }

    /// The answer for `key`, if it is valid at `now` (milliseconds since 1970).
    pub fn get(&self, key: &CacheKey, now: i64) -> Option<Arc<Entry>> {
        self.0.get(key).filter(|entry| entry.is_good(now))
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (CacheKey, Arc<Entry>)> + '_ {
        self.0.iter().map(|(key, entry)| (*key, entry))
    }

    /// Adds an answer.
    pub fn put(&self, key: CacheKey, entry: Arc<Entry>) {
        self.0.insert(key, entry);
    }

    /// Does now what otherwise happens later: frees room, and counts.
    pub fn settle(&self) {
        self.0.run_pending_tasks();
    }

    /// Removes everything.
    pub fn clear(&self) {
        self.0.invalidate_all();
    }

    /// Bytes and entries in it, approximately.
    pub fn size(&self) -> (u64, u64) {
        (self.0.weighted_size(), self.0.entry_count())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn it_stays_within_its_bytes() {
        let memory = Memory::new(100_000, Duration::from_secs(600));
        let entry = |now| Entry {
            streamed: false,
            backend: "b".into(),
            kept_at: now,
            good_until: now + 1000,
            input: 0,
            output: 0,
            body: Bytes::from(vec![b'x'; 9_000]),
        };
        for number in 0..100u8 {
            memory.put(CacheKey([number; 32]), Arc::new(entry(5000)));
        }
        memory.settle();
        let (bytes, entries) = memory.size();
        assert!(bytes <= 100_000 && (5..=11).contains(&entries), "{bytes} bytes, {entries} entries");
        let kept = (0..100u8).find(|number| memory.get(&CacheKey([*number; 32]), 5000).is_some()).unwrap();
        assert!(memory.get(&CacheKey([kept; 32]), 6000).is_none(), "too old by the caller's time");
        memory.clear();
        assert!(memory.get(&CacheKey([kept; 32]), 5000).is_none());
    }
}
