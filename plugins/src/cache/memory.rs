//! Cached answers in memory, within a number of bytes.
//!
//! Each lock has a queue of answers, the oldest first. If there is no room, the first one is removed; if it was asked for
//! since it was last first, it goes to the end instead (the "second chance" or CLOCK algorithm: Corbató, 1968). So finding
//! an answer moves nothing, and adding one touches little memory besides its own.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{CacheKey, Entry, KeyState};

/// Number of locks: a table that grows is moved while its lock is held.
const SHARDS: usize = 16;
/// Most answers that get a second chance while room is made for one: it must not take long.
const SECOND_CHANCES: usize = 16;

/// Answers by key. If there is no room, those are removed first that were not asked for lately.
#[derive(Debug)]
pub struct Memory {
    shards: [Mutex<Shard>; SHARDS],
    max_bytes: u64,
    bytes: AtomicU64,
    entries: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    /// The number of each key's place, counted from the first place that ever was. By a part of the key, so that the table is small
    /// enough for the processor's cache; of two keys with the same part, the later one counts.
    numbers: HashMap<u64, u64, KeyState>,
    /// Oldest first.
    places: VecDeque<Place>,
    /// The number of the first place.
    first: u64,
}

#[derive(Debug)]
struct Place {
    key: CacheKey,
    /// `None` once it was replaced.
    entry: Option<Arc<Entry>>,
    good_until: i64,
    /// Whether it was asked for.
    used: bool,
}

fn size(entry: &Entry) -> u64 {
    (entry.size() + size_of::<Place>() + size_of::<(u64, u64)>()) as u64
}

impl Memory {
    /// Room for so many bytes.
    pub fn new(max_bytes: u64) -> Self {
        Memory { shards: Default::default(), max_bytes, bytes: AtomicU64::new(0), entries: AtomicU64::new(0) }
    }

    fn index(key: &CacheKey) -> usize {
        // The table uses other bytes; of some keys, the second half is empty.
        usize::from(key.0[15]) % SHARDS
    }

    /// The answer for `key`, if it is valid at `now` (milliseconds since 1970).
    pub fn get(&self, key: &CacheKey, now: i64) -> Option<Arc<Entry>> {
        let entry = self.shards.get(Self::index(key))?.lock().find(key)?;
        Some(entry).filter(|entry| entry.is_good(now))
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (CacheKey, Arc<Entry>)> + '_ {
        self.shards.iter().flat_map(|shard| {
            let held = |place: &Place| Some((place.key, Arc::clone(place.entry.as_ref()?)));
            shard.lock().places.iter().filter_map(held).collect::<Vec<_>>()
        })
    }

    /// Adds an answer. One that is longer than all of the room is not cached.
    pub fn put(&self, key: CacheKey, entry: Arc<Entry>) {
        let (bytes, now) = (size(&entry), entry.kept_at);
        if bytes > self.max_bytes {
            return;
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.entries.fetch_add(1, Ordering::Relaxed);
        let begin = Self::index(&key);
        let mut put = Some((key, entry));
        let mut removed = Vec::new();
        // Mostly its own shard has enough to remove.
        for shard in self.shards.iter().cycle().skip(begin).take(SHARDS) {
            let mut shard = shard.lock();
            let new = put.take();
            let mut chances = SECOND_CHANCES;
            while let Some(place) = shard.take_first(self.bytes.load(Ordering::Relaxed) > self.max_bytes, now, &mut chances) {
                self.forget(place.entry, &mut removed);
            }
            // After that, so that it isn't removed itself.
            if let Some((key, entry)) = new {
                let before = shard.push(Place { key, good_until: entry.good_until, entry: Some(entry), used: false });
                self.forget(before, &mut removed);
            }
            drop(shard);
            // Without a lock.
            removed.clear();
            if self.bytes.load(Ordering::Relaxed) <= self.max_bytes {
                return;
            }
        }
    }

    /// Counts an entry that was removed.
    fn forget(&self, entry: Option<Arc<Entry>>, removed: &mut Vec<Arc<Entry>>) {
        if let Some(entry) = entry {
            self.bytes.fetch_sub(size(&entry), Ordering::Relaxed);
            self.entries.fetch_sub(1, Ordering::Relaxed);
            removed.push(entry);
        }
    }

    /// Bytes and entries in it.
    pub fn size(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.entries.load(Ordering::Relaxed))
    }
}

impl Shard {
    fn at(&mut self, number: u64) -> Option<&mut Place> {
        self.places.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn find(&mut self, key: &CacheKey) -> Option<Arc<Entry>> {
        let number = *self.numbers.get(&key.short())?;
        let place = self.at(number).filter(|place| place.key == *key)?;
        place.used = true;
        place.entry.clone()
    }

    /// Adds a place at the end. Returns the entry that its key had; the place of that stays.
    fn push(&mut self, place: Place) -> Option<Arc<Entry>> {
        let before = self.numbers.insert(place.key.short(), self.first + self.places.len() as u64);
        self.places.push_back(place);
        self.at(before?)?.entry.take()
    }

    /// Takes the first place out if it is of no use any more, or if there is no room (`full`): then perhaps a later one.
    fn take_first(&mut self, full: bool, now: i64, chances: &mut usize) -> Option<Place> {
        loop {
            let first = self.places.front()?;
            let is_held = first.entry.is_some();
            if is_held && now < first.good_until && !full {
                return None;
            }
            let mut place = self.places.pop_front()?;
            self.first += 1;
            if !is_held {
                return Some(place);
            }
            if place.used && now < place.good_until && *chances > 0 {
                *chances -= 1;
                place.used = false;
                let number = self.first + self.places.len() as u64;
                self.numbers.insert(place.key.short(), number);
                self.places.push_back(place);
                continue;
            }
            self.numbers.remove(&place.key.short());
            return Some(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn key(number: u8) -> CacheKey {
        CacheKey([number; 32])
    }

    fn entry(now: i64, length: usize) -> Arc<Entry> {
        let body = Bytes::from(vec![b'x'; length]);
        Arc::new(Entry { streamed: false, backend: "b".into(), kept_at: now, good_until: now + 1000, input: 0, output: 0, body })
    }

    #[test]
    fn it_stays_within_its_bytes() {
        let memory = Memory::new(100_000);
        for number in 0..100u8 {
            memory.put(key(number), entry(5000, 9_000));
            assert!(memory.size().0 <= 100_000);
        }
        assert_eq!(memory.size().1, 10);
        assert_eq!(memory.iter().count(), 10);
        let kept = (0..100u8).find(|number| memory.get(&key(*number), 5000).is_some()).unwrap();
        assert!(memory.get(&key(kept), 6000).is_none(), "too old by the caller's time");
        memory.put(key(200), entry(5000, 200_000));
        assert_eq!((memory.get(&key(200), 5000), memory.size().1), (None, 10), "what never fits removes nothing");
    }

    #[test]
    fn what_is_asked_for_stays_and_what_is_expired_goes() {
        let memory = Memory::new(100_000);
        // Keys of one shard.
        for number in (0..160u8).step_by(SHARDS) {
            memory.put(key(number), entry(5000, 9_000));
        }
        assert!(memory.get(&key(0), 5000).is_some());
        memory.put(key(160), entry(5000, 9_000));
        assert!(memory.get(&key(0), 5000).is_some(), "it was asked for");
        assert!(memory.get(&key(16), 5000).is_none(), "it was not, and is the oldest of these");
        memory.put(key(176), entry(7000, 9_000));
        assert_eq!(memory.size().1, 1, "all others are expired");
    }

    #[test]
    fn room_is_made_even_if_all_were_asked_for() {
        let memory = Memory::new(1_000_000);
        let keys = || (0..5000u32).map(|number| CacheKey(std::array::from_fn(|at| number.to_le_bytes().get(at).copied().unwrap_or(7))));
        assert_eq!(keys().map(|key| key.short()).collect::<std::collections::HashSet<_>>().len(), 5000);
        keys().for_each(|key| memory.put(key, entry(0, 500)));
        keys().for_each(|key| drop(memory.get(&key, 0)));
        memory.put(key(7), entry(0, 50_000));
        assert!(memory.size().0 <= 1_000_000 && memory.get(&key(7), 0).is_some());
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_was_last_put(steps in prop::collection::vec((0..40u8, 0..3000usize, any::<bool>(), 0..300i64), 1..200)) {
            let memory = Memory::new(20_000);
            let mut last: HashMap<u8, Arc<Entry>> = HashMap::new();
            let mut now = 0;
            for (number, length, is_put, later) in steps {
                now += later;
                if is_put {
                    let entry = entry(now, length);
                    memory.put(key(number), Arc::clone(&entry));
                    last.insert(number, entry);
                    prop_assert!(memory.get(&key(number), now).is_some(), "the newest is there");
                } else if let Some(found) = memory.get(&key(number), now) {
                    prop_assert!(Arc::ptr_eq(&found, &last[&number]));
                }
                let held: Vec<_> = memory.iter().collect();
                let bytes: u64 = held.iter().map(|(_, entry)| size(entry)).sum();
                prop_assert_eq!(memory.size(), (bytes, held.len() as u64));
                prop_assert!(bytes <= 20_000);
            }
        }
    }
}
