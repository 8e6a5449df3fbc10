//! Earlier questions, searched by similarity.
//!
//! A search compares every entry's scope, then the signatures of those that match, then the vectors of the few with
//! similar signatures. The result is exact except for a probability that [`super::signature`] states, and the search is
//! fast enough for the allowed sizes (`docs/decisions/0016-nearness-by-signatures.md`).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::RwLock;

use super::signature::{Signature, distance, most, signature};
use super::{Particulars, Question};
use crate::cache::{CacheKey, Entry};

/// A question with its answer.
#[derive(Debug, Clone)]
pub struct Known {
    /// The question.
    pub question: Question,
    /// Its embedding.
    pub vector: Arc<[f32]>,
    /// The answer.
    pub entry: Arc<Entry>,
}

/// What a search found.
#[derive(Debug, Clone)]
pub struct Near {
    /// The text of the earlier question.
    pub text: Arc<str>,
    /// The cosine of the two embeddings.
    pub score: f32,
    /// The answer.
    pub entry: Arc<Entry>,
}

/// The part of each slot that a search reads first.
#[derive(Debug, Clone, Copy)]
struct Sketch {
    scope: u64,
    signature: Signature,
}

#[derive(Debug)]
struct Slot {
    scope: CacheKey,
    particulars: Particulars,
    text: Arc<str>,
    /// The vector, of length 1, in units of 1/32767: half the memory, without a relevant difference.
    vector: Box<[i16]>,
    entry: Arc<Entry>,
    /// When it was last found, in milliseconds since 1970.
    used: AtomicI64,
}

/// The known questions.
#[derive(Debug)]
pub struct Index {
    max: usize,
    slots: RwLock<(Vec<Sketch>, Vec<Slot>)>,
}

/// The first bytes of a key: enough to skip nearly all that don't match.
fn short(key: &CacheKey) -> u64 {
    key.0.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The vector scaled to length 1; `None` if its length is zero.
fn normal(vector: &[f32]) -> Option<Vec<f32>> {
    let length = vector.iter().map(|component| component * component).sum::<f32>().sqrt();
    (length.is_finite() && length > 0.0).then(|| vector.iter().map(|component| component / length).collect())
}

fn cosine(vector: &[f32], known: &[i16]) -> f32 {
    // Eight sums, so that the processor can compute eight at once.
    let mut sums = [0.0f32; 8];
    for (ours, theirs) in vector.chunks(8).zip(known.chunks(8)) {
        ours.iter().zip(theirs).zip(&mut sums).for_each(|((ours, theirs), sum)| *sum += ours * f32::from(*theirs));
    }
    sums.iter().sum::<f32>() / f32::from(i16::MAX)
}

/// The stored form of a question; `None` if its embedding's length is zero.
fn slot(known: &Known, now: i64) -> Option<(Sketch, Slot)> {
    let vector = normal(&known.vector)?;
    let sketch = Sketch { scope: short(&known.question.scope), signature: signature(&vector) };
    let slot = Slot {
        scope: known.question.scope,
        particulars: known.question.particulars,
        text: known.question.text.as_str().into(),
        vector: vector.iter().map(|component| (component * f32::from(i16::MAX)).round() as i16).collect(),
        entry: Arc::clone(&known.entry),
        used: AtomicI64::new(now),
    };
    Some((sketch, slot))
}

impl Index {
    /// Room for so many questions.
    pub fn new(max: usize) -> Self {
        Index { max: max.max(1), slots: RwLock::default() }
    }

    /// The most similar known question, if its cosine is at least `threshold` and its answer is valid at `now`
    /// (milliseconds since 1970) and `allowed`.
    pub fn find(&self, question: &Question, vector: &[f32], threshold: f32, now: i64, allowed: impl Fn(&Entry) -> bool) -> Option<Near> {
        let vector = normal(vector)?;
        let (scope, sketch, most) = (short(&question.scope), signature(&vector), most(threshold));
        let slots = self.slots.read();
        let mut best: Option<(f32, &Slot)> = None;
        for (known, slot) in slots.0.iter().zip(&slots.1) {
            if known.scope != scope || distance(&known.signature, &sketch) > most {
                continue;
            }
            if slot.scope != question.scope
                || slot.particulars != question.particulars
                || slot.vector.len() != vector.len()
                || !slot.entry.is_good(now)
                || !allowed(&slot.entry)
            {
                continue;
            }
            let score = cosine(&vector, &slot.vector);
            if score >= threshold && best.as_ref().is_none_or(|(other, _)| score > *other) {
                best = Some((score, slot));
            }
        }
        let (score, slot) = best?;
        slot.used.store(now, Ordering::Relaxed);
        Some(Near { text: Arc::clone(&slot.text), score, entry: Arc::clone(&slot.entry) })
    }

    /// Adds an answer at `now`. A known question gets the new answer; if there is no room, expired entries are removed
    /// first, then the one that was found longest ago.
    pub fn learn(&self, known: &Known, now: i64) {
        let Some((sketch, slot)) = slot(known, now) else { return };
        let mut slots = self.slots.write();
        let (sketches, slots) = &mut *slots;
        let same = slots.iter().position(|other| other.scope == slot.scope && *other.text == *slot.text);
        let place = same.or_else(|| {
            let worth = |slot: &Slot| (slot.entry.is_good(now), slot.used.load(Ordering::Relaxed));
            (slots.len() >= self.max).then(|| (0..slots.len()).min_by_key(|index| worth(&slots[*index])))?
        });
        match place {
            Some(place) => (sketches[place], slots[place]) = (sketch, slot),
            None => {
                sketches.push(sketch);
                slots.push(slot);
            }
        }
    }

    /// Adds many earlier entries at once, which must differ and for which there must be room.
    pub fn fill(&self, known: impl IntoIterator<Item = Known>, now: i64) {
        let made: Vec<(Sketch, Slot)> = known.into_iter().filter_map(|known| slot(&known, now)).collect();
        let mut slots = self.slots.write();
        for (sketch, slot) in made.into_iter().take(self.max) {
            slots.0.push(sketch);
            slots.1.push(slot);
        }
    }

    /// The number of known questions.
    pub fn len(&self) -> usize {
        self.slots.read().0.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn entry(body: &'static str, good_until: i64) -> Arc<Entry> {
        let body = Bytes::from_static(body.as_bytes());
        Arc::new(Entry { streamed: false, backend: "b".into(), kept_at: 0, good_until, input: 0, output: 0, body })
    }

    fn question(scope: u8, text: &str) -> Question {
        Question { scope: CacheKey([scope; 32]), particulars: Particulars::of(text), text: text.to_owned() }
    }

    fn known(scope: u8, text: &str, vector: &[f32], body: &'static str, good_until: i64) -> Known {
        Known { question: question(scope, text), vector: vector.into(), entry: entry(body, good_until) }
    }

    #[test]
    fn the_nearest_of_the_same_scope_is_found() {
        let index = Index::new(10);
        index.learn(&known(1, "ways to reset a password", &[1.0, 0.1, 0.0], "far", 100), 0);
        index.learn(&known(1, "reset the password", &[1.0, 0.0, 0.0], "near", 100), 0);
        index.learn(&known(2, "reset the password", &[1.0, 0.0, 0.0], "other scope", 100), 0);
        index.learn(&known(1, "reset 3 of the password", &[1.0, 0.0, 0.0], "other number", 100), 0);
        let find = |scope: u8, vector: &[f32], now: i64| {
            let near = index.find(&question(scope, "please reset my password"), vector, 0.9, now, |_| true);
            near.map(|near| String::from_utf8(near.entry.body.to_vec()).unwrap())
        };
        assert_eq!(find(1, &[2.0, 0.01, 0.0], 1).as_deref(), Some("near"));
        assert_eq!(find(2, &[2.0, 0.01, 0.0], 1).as_deref(), Some("other scope"));
        assert_eq!(find(3, &[2.0, 0.01, 0.0], 1), None);
        assert_eq!(find(1, &[0.0, 1.0, 0.0], 1), None, "it isn't near");
        assert_eq!(find(1, &[2.0, 0.01, 0.0], 100), None, "it is too old");
        assert_eq!(find(1, &[0.0, 0.0, 0.0], 1), None, "it has no direction");
        assert_eq!(find(1, &[1.0, 0.0], 1), None, "another model's");
        assert!(index.find(&question(1, "please reset my password"), &[1.0, 0.0, 0.0], 0.9, 1, |_| false).is_none());
        let near = index.find(&question(1, "please reset my password"), &[1.0, 0.0, 0.0], 0.9, 1, |_| true).unwrap();
        assert!((near.score - 1.0).abs() < 1e-3 && &*near.text == "reset the password", "{}", near.score);
    }

    #[test]
    fn what_is_known_is_replaced_and_the_unused_goes() {
        let index = Index::new(2);
        index.learn(&known(1, "old", &[1.0, 0.0], "1", 100), 0);
        index.learn(&known(1, "old", &[1.0, 0.0], "2", 100), 1);
        assert_eq!(index.len(), 1);
        index.learn(&known(1, "new", &[0.0, 1.0], "3", 100), 2);
        assert!(index.find(&question(1, "old"), &[1.0, 0.0], 0.9, 5, |_| true).is_some());
        index.learn(&known(1, "newer", &[-1.0, 0.0], "4", 100), 6);
        assert_eq!(index.len(), 2);
        assert!(index.find(&question(1, "new"), &[0.0, 1.0], 0.9, 7, |_| true).is_none(), "it was found longest ago");
        assert_eq!(&index.find(&question(1, "old"), &[1.0, 0.0], 0.9, 7, |_| true).unwrap().entry.body[..], b"2");
    }
}
