//! Where the answers of keys are in a queue.
//!
//! A table of buckets that are small queues of their own: what is added takes the place of the bucket's oldest entry, which has mostly left
//! the queue of answers by then. So removing an answer touches nothing here, and adding one reads nothing. A byte of each key's hash is
//! kept apart from the rest: most requests ask what isn't known, and read only these bytes, which are few enough for the processor's cache.

use std::hash::BuildHasher as _;

use wide::i8x16;

use super::KeyState;

/// Bytes of a bucket: those of its entries, and which entry is its oldest.
const WIDTH: usize = 16;
/// Entries of a bucket.
const ENTRIES: usize = WIDTH - 1;

/// A byte for each entry of a bucket.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(16))]
struct Tags([u8; WIDTH]);

/// Low bits of the number of a place, for each entry of a bucket.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Numbers([u32; WIDTH]);

/// The table. Places of the queue have numbers that count from the first place that ever was.
#[derive(Debug, Default)]
pub(super) struct Index {
    tags: Vec<Tags>,
    numbers: Vec<Numbers>,
    state: KeyState,
}

impl Index {
    /// The most places of a queue.
    pub(super) const MOST: usize = 1 << 30;
    /// Bytes for an answer, on average.
    pub(super) const ENTRY: usize = 3 * (size_of::<u32>() + 1);

    /// Whether the table must grow before another place is added to so many. When it is half full, about two in a thousand
    /// answers are lost because their buckets have too many.
    pub(super) fn is_full(&self, places: usize) -> bool {
        places >= self.tags.len() * WIDTH / 2
    }

    /// Makes the table larger. It is empty then.
    pub(super) fn grow(&mut self) {
        let buckets = (self.tags.len() * 2).max(4);
        self.tags = vec![Tags::default(); buckets];
        self.numbers = vec![Numbers::default(); buckets];
    }

    /// The bucket of a key, and its byte there.
    fn place(&self, key: u64) -> (usize, u8) {
        let hash = self.state.hash_one(key);
        (hash as usize & self.tags.len().wrapping_sub(1), (hash >> 56) as u8)
    }

    /// Which place has a key, counted from the one with the number `first`. `has_key` is asked for places that may have it, or may not be.
    pub(super) fn find(&self, key: u64, first: u64, has_key: impl Fn(usize) -> bool) -> Option<usize> {
        let (at, tag) = self.place(key);
        let Tags(tags) = self.tags.get(at)?;
        let same = i8x16::new(tags.map(|tag| tag as i8)).simd_eq(i8x16::splat(tag as i8)).to_bitmask();
        let mut same = same & ((1 << ENTRIES) - 1);
        while same != 0 {
            let Numbers(numbers) = self.numbers.get(at)?;
            let number = numbers.get(same.trailing_zeros() as usize)?;
            let place = number.wrapping_sub(first as u32) as usize;
            if has_key(place) {
                return Some(place);
            }
            same &= same - 1;
        }
        None
    }

    /// Adds a key, whose place has this number.
    pub(super) fn add(&mut self, key: u64, number: u64) {
        let (at, tag) = self.place(key);
        let (Some(Tags(tags)), Some(Numbers(numbers))) = (self.tags.get_mut(at), self.numbers.get_mut(at)) else { return };
        let [entries @ .., oldest] = tags;
        let slot = usize::from(*oldest);
        if let (Some(entry), Some(of)) = (entries.get_mut(slot), numbers.get_mut(slot)) {
            *entry = tag;
            *of = number as u32;
        }
        *oldest = if slot + 1 < ENTRIES { *oldest + 1 } else { 0 };
    }
}
