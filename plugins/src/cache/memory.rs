//! Cached answers in memory, within a number of bytes.
//!
//! Each lock has a queue of answers, the oldest first. If there is no room, the first one is removed; if it was asked for
//! since it was last first, it goes to the end instead (the "second chance" or CLOCK algorithm: Corbató, 1968). So finding
//! an answer moves nothing, and adding one touches little memory besides its own.
//!
//! Short answers lie one after the other in blocks. As the oldest goes first, a block is given back as a whole.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::index::Index;
use super::{CacheKey, Entry};

/// Most answers that get a second chance while room is made for one: it must not take long.
const SECOND_CHANCES: usize = 16;
/// Bytes of a block, if there is much room, and if there is little.
const BLOCK: (usize, usize) = (64 << 10, 1 << 10);
/// A block's share of all room: of each lock, the first block and the last one are partly empty.
const BLOCKS: u64 = 1024;
/// An answer is short if so many fit into a block.
const SHORT: usize = 8;

/// Answers by key. If there is no room, those are removed first that were not asked for lately.
#[derive(Debug)]
pub struct Memory {
    /// Each with its lock; as many as a power of two.
    shards: Vec<Mutex<Shard>>,
    max_bytes: u64,
    /// Bytes of a block.
    block: usize,
    bytes: AtomicU64,
    entries: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    index: Index,
    /// Oldest first.
    places: VecDeque<Place>,
    /// The number of the first place, counted from the first place that ever was.
    first: u64,
    /// The rest of the last block.
    room: BytesMut,
    /// Full blocks, the oldest first: their memory is used again when their answers are gone.
    full: VecDeque<BytesMut>,
}

#[derive(Debug)]
struct Place {
    key: CacheKey,
    /// `None` once it was replaced.
    entry: Option<Entry>,
    /// What it takes until it is removed.
    bytes: u64,
    /// Whether it was asked for.
    used: bool,
}

/// What an answer takes besides its body.
const PLACE: u64 = (size_of::<Place>() + Index::ENTRY) as u64;

impl Memory {
    /// Room for so many bytes, with at least so many locks. With few of them, what lies at the ends of their queues stays in the
    /// processor's cache; with many, threads seldom wait for each other.
    pub fn new(max_bytes: u64, locks: usize) -> Self {
        let block = usize::try_from(max_bytes / BLOCKS).unwrap_or(usize::MAX).clamp(BLOCK.1, BLOCK.0);
        let shards = (0..locks.next_power_of_two()).map(|_| Mutex::default()).collect();
        Memory { shards, max_bytes, block, bytes: AtomicU64::new(0), entries: AtomicU64::new(0) }
    }

    fn index(&self, key: &CacheKey) -> usize {
        // The table uses other bytes; of some keys, the second half is empty.
        usize::from(key.0[15]) & (self.shards.len() - 1)
    }

    fn is_short(&self, body: &Bytes) -> bool {
        body.len() <= self.block / SHORT
    }

    /// The answer for `key`, if it is valid at `now` (milliseconds since 1970).
    pub fn get(&self, key: &CacheKey, now: i64) -> Option<Arc<Entry>> {
        let mut entry = self.shards.get(self.index(key))?.lock().find(key).filter(|entry| entry.is_good(now))?;
        if self.is_short(&entry.body) {
            // Whoever sends it slowly must not keep a whole block.
            entry.body = Bytes::copy_from_slice(&entry.body);
        }
        Some(Arc::new(entry))
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (CacheKey, Entry)> + '_ {
        self.shards.iter().flat_map(|shard| {
            let held = |place: &Place| Some((place.key, place.entry.clone()?));
            shard.lock().places.iter().filter_map(held).collect::<Vec<_>>()
        })
    }

    /// Adds an answer. One that is longer than all of the room is not cached.
    pub fn put(&self, key: CacheKey, mut entry: Entry) {
        let (bytes, now) = (entry.body.len() as u64 + PLACE, entry.kept_at);
        if bytes > self.max_bytes {
            return;
        }
        if !self.is_short(&entry.body) {
            // It may be a part of something larger, which would be kept with it.
            entry.body = Bytes::copy_from_slice(&entry.body);
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.entries.fetch_add(1, Ordering::Relaxed);
        let begin = self.index(&key);
        let mut put = Some(Place { key, entry: Some(entry), bytes, used: false });
        let mut removed = Vec::new();
        // Mostly its own shard has enough to remove.
        for shard in self.shards.iter().cycle().skip(begin).take(self.shards.len()) {
            let mut shard = shard.lock();
            let new = put.take();
            let mut chances = SECOND_CHANCES;
            while let Some(place) = shard.take_first(self, now, &mut chances) {
                self.bytes.fetch_sub(place.bytes, Ordering::Relaxed);
                self.forget(place.entry, &mut removed);
            }
            // After that, so that it isn't removed itself.
            if let Some(place) = new {
                if place.entry.as_ref().is_some_and(|entry| !self.is_short(&entry.body)) {
                    // What long answers take the place of must not stay as room for short ones.
                    shard.give_back(self.block);
                }
                shard.push(place, self, &mut removed);
            }
            drop(shard);
            // Without a lock.
            removed.clear();
            if self.bytes.load(Ordering::Relaxed) <= self.max_bytes {
                return;
            }
        }
    }

    /// Counts an entry that was removed. What takes long to give back is given back later.
    fn forget(&self, entry: Option<Entry>, removed: &mut Vec<Bytes>) {
        if let Some(entry) = entry {
            self.entries.fetch_sub(1, Ordering::Relaxed);
            if !self.is_short(&entry.body) {
                removed.push(entry.body);
            }
        }
    }

    /// Bytes that it takes, and entries in it.
    pub fn size(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.entries.load(Ordering::Relaxed))
    }
}

impl Shard {
    /// Which place has a key, counted from the first one.
    fn position(&self, key: &CacheKey) -> Option<usize> {
        let has_key = |at: usize| self.places.get(at).is_some_and(|place| place.key == *key && place.entry.is_some());
        self.index.find(key.short(), self.first, has_key)
    }

    fn find(&mut self, key: &CacheKey) -> Option<Entry> {
        let place = self.position(key).and_then(|at| self.places.get_mut(at))?;
        place.used = true;
        place.entry.clone()
    }

    /// Adds a place at the end. Another one with its key is of no use any more.
    fn push(&mut self, mut place: Place, memory: &Memory, removed: &mut Vec<Bytes>) {
        if self.index.is_full(self.places.len()) {
            self.index.grow();
            for (number, place) in (self.first..).zip(&self.places).filter(|(_, place)| place.entry.is_some()) {
                self.index.add(place.key.short(), number);
            }
        }
        if let Some(replaced) = self.position(&place.key).and_then(|at| self.places.get_mut(at)) {
            let entry = replaced.entry.take();
            // A block is only given back as a whole.
            if let Some(long) = entry.as_ref().filter(|entry| !memory.is_short(&entry.body)) {
                replaced.bytes -= long.body.len() as u64;
                memory.bytes.fetch_sub(long.body.len() as u64, Ordering::Relaxed);
            }
            memory.forget(entry, removed);
        }
        self.index.add(place.key.short(), self.first + self.places.len() as u64);
        if let Some(short) = place.entry.as_mut().filter(|entry| memory.is_short(&entry.body)) {
            short.body = self.store(&short.body, memory.block);
        }
        self.places.push_back(place);
    }

    /// Copies a short body to the end of the last block.
    fn store(&mut self, body: &[u8], block: usize) -> Bytes {
        if self.room.capacity() < body.len() {
            self.give_back(block);
            let free = self.full.front_mut().is_some_and(|oldest| oldest.try_reclaim(block));
            let free = if free { self.full.pop_front() } else { None };
            let full = std::mem::replace(&mut self.room, free.unwrap_or_else(|| BytesMut::with_capacity(block)));
            // There was none before the first.
            if full.capacity() > 0 {
                self.full.push_back(full);
            }
        }
        self.room.extend_from_slice(body);
        self.room.split().freeze()
    }

    /// Gives back the memory of blocks that nothing is in, except for one.
    fn give_back(&mut self, block: usize) {
        while self.full.get_mut(1).is_some_and(|second| second.try_reclaim(block)) {
            self.full.pop_front();
        }
    }

    /// Takes the first place out if it is of no use any more, or if there is no room: then perhaps a later one.
    fn take_first(&mut self, memory: &Memory, now: i64, chances: &mut usize) -> Option<Place> {
        loop {
            let is_full = self.places.len() >= Index::MOST || memory.bytes.load(Ordering::Relaxed) > memory.max_bytes;
            let first = self.places.front()?;
            let is_good = first.entry.as_ref().map(|entry| now < entry.good_until);
            if is_good == Some(true) && !is_full {
                return None;
            }
            let mut place = self.places.pop_front()?;
            self.first += 1;
            if place.used && is_good == Some(true) && *chances > 0 {
                *chances -= 1;
                place.used = false;
                // It isn't in the index any more: nothing is replaced.
                self.push(place, memory, &mut Vec::new());
                continue;
            }
            return Some(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn key(number: u8) -> CacheKey {
        CacheKey([number; 32])
    }

    fn entry(now: i64, length: usize) -> Entry {
        let body = Bytes::from(vec![b'x'; length]);
        Entry { streamed: false, backend: "b".into(), kept_at: now, good_until: now + 1000, input: 0, output: 0, body }
    }

    fn taken(entry: &Entry) -> u64 {
        entry.body.len() as u64 + PLACE
    }

    #[test]
    fn it_stays_within_its_bytes() {
        let memory = Memory::new(100_000, 16);
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
        let memory = Memory::new(100_000, 16);
        // Keys of one shard.
        for number in (0..160u8).step_by(16) {
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
        let memory = Memory::new(1_000_000, 16);
        let keys = || (0..5000u32).map(|number| CacheKey(std::array::from_fn(|at| number.to_le_bytes().get(at).copied().unwrap_or(7))));
        assert_eq!(keys().map(|key| key.short()).collect::<std::collections::HashSet<_>>().len(), 5000);
        keys().for_each(|key| memory.put(key, entry(0, 500)));
        keys().for_each(|key| drop(memory.get(&key, 0)));
        memory.put(key(7), entry(0, 50_000));
        assert!(memory.size().0 <= 1_000_000 && memory.get(&key(7), 0).is_some());
    }

    #[test]
    fn what_is_replaced_again_and_again_takes_no_more_room() {
        for length in [100, 30_000] {
            let memory = Memory::new(1_000_000, 16);
            memory.put(key(0), entry(0, 200));
            (0..100_000).for_each(|_| memory.put(key(16), entry(0, length)));
            let places: usize = memory.shards.iter().map(|shard| shard.lock().places.len()).sum();
            assert!(memory.size().0 <= 1_000_000 && places <= 10_000, "{places} of {length}");
            assert!(memory.get(&key(16), 0).is_some());
        }
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_was_last_put(
            steps in prop::collection::vec((0..40u8, 0..3000usize, any::<bool>(), 0..300i64), 1..200),
            room in prop_oneof![Just(20_000u64), Just(20_000_000)],
            locks in 1usize..20,
        ) {
            let memory = Memory::new(room, locks);
            let mut last: HashMap<u8, Entry> = HashMap::new();
            let mut now = 0;
            for (step, (number, length, is_put, later)) in steps.into_iter().enumerate() {
                now += later;
                if is_put {
                    let entry = Entry { input: step as u64, body: vec![step as u8; length].into(), ..entry(now, 0) };
                    memory.put(key(number), entry.clone());
                    last.insert(number, entry);
                    prop_assert!(memory.get(&key(number), now).is_some(), "the newest is there");
                } else if let Some(found) = memory.get(&key(number), now) {
                    prop_assert_eq!(&*found, &last[&number]);
                }
                let held: HashMap<_, _> = memory.iter().map(|(key, entry)| (key.0[0], entry)).collect();
                prop_assert!(held.iter().all(|(number, entry)| entry == &last[number]));
                let bytes: u64 = held.values().map(taken).sum();
                let size = memory.size();
                prop_assert_eq!(size.1, held.len() as u64);
                prop_assert!(bytes <= size.0 && size.0 <= room);
            }
        }

        #[test]
        fn of_many_answers_nearly_all_are_found(count in 1..20_000u32, removed in 0..3u32) {
            // Its first eight bytes are as good as a hash; all are of one shard, which has room for as many.
            let key = |number: u32| {
                let mixed = (u64::from(number) << 32 ^ 0x5bd1_e995).wrapping_mul(0x9e37_79b9_7f4a_7c15).swap_bytes().wrapping_mul(0x94d0_49bb_1331_11eb);
                CacheKey(std::array::from_fn(|at| mixed.to_le_bytes().get(at).copied().unwrap_or(7)))
            };
            let memory = Memory::new(u64::from(count) * (PLACE + 10), 16);
            (0..count * (removed + 1)).for_each(|number| memory.put(key(number), entry(0, 10)));
            let first = count * removed;
            let found = (first..first + count).filter(|number| memory.get(&key(*number), 0).is_some()).count();
            // One in a thousand is lost, as the secret has it: ten times as many, and ten, never are.
            prop_assert!(found as u64 + u64::from(count) / 100 + 10 >= u64::from(count), "{} of {}", found, count);
            prop_assert!(removed == 0 || memory.get(&key(0), 0).is_none());
        }
    }
}
