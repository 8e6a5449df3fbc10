//! The request's body, held so that every attempt can send the same bytes.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use prometheus::IntGauge;

use crate::shares::leaves_room;

/// The memory budget for all bodies together.
#[derive(Debug)]
pub struct BufferBudget {
    used: AtomicUsize,
    limit: AtomicUsize,
    gauge: IntGauge,
}

impl BufferBudget {
    /// A budget of `limit` bytes, shown in `gauge`.
    pub fn new(limit: usize, gauge: IntGauge) -> Self {
        BufferBudget { used: AtomicUsize::new(0), limit: AtomicUsize::new(limit), gauge }
    }

    /// Changes the number of bytes. Shares that are already taken stay valid.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    fn take(&self, bytes: usize) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let taken =
            self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| used.checked_add(bytes).filter(|sum| *sum <= limit));
        if taken.is_ok() {
            self.gauge.add(i64::try_from(bytes).unwrap_or(0));
        }
        taken.is_ok()
    }

    /// Bytes that would be left after taking `bytes` more.
    fn free_after(&self, bytes: usize) -> usize {
        self.limit.load(Ordering::Relaxed).saturating_sub(self.used.load(Ordering::Relaxed)).saturating_sub(bytes)
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.gauge.sub(i64::try_from(bytes).unwrap_or(0));
    }
}

/// A share of the budget. It is returned when this is dropped.
#[derive(Debug)]
pub struct BufferShare {
    budget: Arc<BufferBudget>,
    bytes: usize,
    /// Bytes in all shares of its consumer. `None` if consumers are not counted separately.
    held: Option<Arc<AtomicUsize>>,
}

impl BufferShare {
    /// An empty share.
    pub fn new(budget: &Arc<BufferBudget>) -> Self {
        BufferShare::of(budget, None)
    }

    /// An empty share of a consumer, whose bytes in all shares are counted in `held`.
    pub fn of(budget: &Arc<BufferBudget>, held: Option<Arc<AtomicUsize>>) -> Self {
        BufferShare { budget: Arc::clone(budget), bytes: 0, held }
    }

    /// Grows the share to at least `bytes`; `false` if the budget is used up.
    pub fn covers(&mut self, bytes: usize) -> bool {
        self.grow(bytes.saturating_sub(self.bytes))
    }

    /// Grows or shrinks the share to `bytes`; `false` if the budget is used up.
    pub fn set(&mut self, bytes: usize) -> bool {
        if bytes < self.bytes {
            let less = self.bytes - bytes;
            self.bytes = bytes;
            self.budget.give_back(less);
            if let Some(held) = &self.held {
                held.fetch_sub(less, Ordering::Relaxed);
            }
        }
        self.covers(bytes)
    }

    /// Grows the share; `false` if the budget is used up, or its consumer holds too much of it. If a consumer has only
    /// one body, that one may be as large as any.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let before = self.held.as_ref().map_or(0, |held| held.fetch_add(bytes, Ordering::Relaxed));
        let alone = before <= self.bytes;
        let taken = (alone || leaves_room(before + bytes, self.budget.free_after(bytes))) && self.budget.take(bytes);
        if taken {
            self.bytes += bytes;
        } else if let Some(held) = &self.held {
            held.fetch_sub(bytes, Ordering::Relaxed);
        }
        taken
    }
}

impl Drop for BufferShare {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
        if let Some(held) = &self.held {
            held.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

/// Collects a body piece by piece.
#[derive(Debug)]
pub struct BodyBuffer {
    bytes: BytesMut,
    first: Option<Bytes>,
    share: BufferShare,
}

/// Most bytes that are reserved because a caller announced them.
const TRUSTED: usize = 1 << 20;

impl BodyBuffer {
    /// An empty buffer. A body that comes in one piece is kept without copying; memory is allocated from the second
    /// piece on.
    pub fn new(budget: &Arc<BufferBudget>) -> Self {
        BodyBuffer { bytes: BytesMut::new(), first: None, share: BufferShare::new(budget) }
    }

    /// Counts the bytes in `held`, for their consumer.
    pub fn of(mut self, held: Option<Arc<AtomicUsize>>) -> Self {
        debug_assert!(self.is_empty(), "bytes that are already held would not be counted");
        self.share.held = held;
        self
    }

    /// Adds a piece; `false` if the budget has no room for it.
    pub fn push(&mut self, piece: Bytes, expected: Option<usize>) -> bool {
        if !self.share.grow(piece.len()) {
            return false;
        }
        match (self.first.take(), self.bytes.is_empty()) {
            (None, true) => self.first = Some(piece),
            (Some(first), _) => {
                self.bytes.reserve(expected.unwrap_or(0).clamp(first.len() + piece.len(), TRUSTED.max(first.len() + piece.len())));
                self.bytes.extend_from_slice(&first);
                self.bytes.extend_from_slice(&piece);
            }
            (None, false) => self.bytes.extend_from_slice(&piece),
        }
        true
    }

    /// Makes room for this many bytes that are received outside; `false` if the budget has none.
    pub fn covers(&mut self, bytes: usize) -> bool {
        self.share.covers(bytes)
    }

    /// Takes a whole body, for which [`BodyBuffer::covers`] has made room.
    pub fn put(&mut self, body: Bytes) {
        debug_assert!(self.is_empty(), "it would replace what was collected");
        self.first = Some(body);
    }

    /// Bytes received so far.
    pub fn len(&self) -> usize {
        self.first.as_ref().map_or(self.bytes.len(), Bytes::len)
    }

    /// Whether it has no bytes yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes so far.
    pub fn as_slice(&self) -> &[u8] {
        self.first.as_deref().unwrap_or(&self.bytes)
    }

    /// Replaces the bytes; `false` if the budget has no room for the new ones.
    pub fn replace(&mut self, bytes: Vec<u8>) -> bool {
        if !self.share.grow(bytes.len().saturating_sub(self.len())) {
            return false;
        }
        self.bytes.clear();
        self.first = Some(bytes.into());
        true
    }

    /// The body.
    pub fn finish(self) -> ReplayBody {
        ReplayBody { bytes: self.first.unwrap_or_else(|| self.bytes.freeze()), _share: self.share }
    }
}

/// A whole body, and its share of the budget.
#[derive(Debug)]
pub struct ReplayBody {
    bytes: Bytes,
    _share: BufferShare,
}

/// Bytes before and after an edit that are copied together with it.
const NEAR: usize = 512;

/// A body as it is sent: slices of the caller's bytes, and copies of what is near an edit.
pub type Pieces = smallvec::SmallVec<[Bytes; 3]>;

/// A change to a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The range that is replaced; empty for an insertion.
    pub range: Range<usize>,
    /// The new bytes.
    pub replacement: std::borrow::Cow<'static, [u8]>,
}

impl ReplayBody {
    /// The caller's bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The body with `range` replaced.
    pub fn spliced(&self, range: Range<usize>, replacement: &[u8]) -> Pieces {
        self.edited(&[Edit { range, replacement: replacement.to_vec().into() }])
    }

    /// The body with edits, which must be in order. Only bytes near an edit are copied: all pieces are sent in one write,
    /// but very small ones cost more than copying.
    pub fn edited(&self, edits: &[Edit]) -> Pieces {
        let mut pieces = Pieces::new();
        let grows: usize = edits.iter().map(|edit| edit.replacement.len()).sum();
        let shrinks: usize = edits.iter().map(|edit| edit.range.len()).sum();
        // The exact length, if all of it is copied: a vector without spare capacity becomes `Bytes` without copying.
        let whole = self.bytes.len().saturating_sub(shrinks) + grows;
        let mut copied = Vec::with_capacity(whole.min(3 * NEAR + grows));
        let mut at = 0;
        for (number, edit) in edits.iter().enumerate() {
            self.keep(at..edit.range.start, number > 0, true, &mut copied, &mut pieces);
            copied.extend_from_slice(&edit.replacement);
            at = edit.range.end;
        }
        self.keep(at..self.bytes.len(), !edits.is_empty(), false, &mut copied, &mut pieces);
        if !copied.is_empty() {
            pieces.push(copied.into());
        }
        pieces
    }

    /// Adds the bytes between two edits. Short ranges are copied; of long ranges, only the ends next to an edit.
    fn keep(&self, range: Range<usize>, edit_before: bool, edit_after: bool, copied: &mut Vec<u8>, pieces: &mut Pieces) {
        let head = if edit_before { NEAR } else { 0 };
        let tail = if edit_after { NEAR } else { 0 };
        // A separate piece is only worth it if it is longer than what would be copied.
        if range.len() <= head + tail + NEAR {
            return copied.extend_from_slice(&self.bytes[range]);
        }
        copied.extend_from_slice(&self.bytes[range.start..range.start + head]);
        if !copied.is_empty() {
            pieces.push(std::mem::take(copied).into());
        }
        pieces.push(self.bytes.slice(range.start + head..range.end - tail));
        copied.extend_from_slice(&self.bytes[range.end - tail..range.end]);
    }

    /// The body, unchanged.
    pub fn verbatim(&self) -> Pieces {
        if self.bytes.is_empty() { Pieces::new() } else { smallvec::smallvec![self.bytes.clone()] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(limit: usize) -> Arc<BufferBudget> {
        Arc::new(BufferBudget::new(limit, IntGauge::new("g", "h").unwrap()))
    }

    #[test]
    fn pieces_make_the_body() {
        let budget = budget(100);
        let mut buffer = BodyBuffer::new(&budget);
        for piece in ["ab", "cd", "ef"] {
            assert!(buffer.push(Bytes::from_static(piece.as_bytes()), Some(6)));
        }
        let body = buffer.finish();
        assert_eq!(&body.bytes()[..], b"abcdef");
        let spliced = body.spliced(2..4, b"XYZ");
        assert_eq!((spliced.len(), spliced.concat()), (1, b"abXYZef".to_vec()));
        assert_eq!(budget.used.load(Ordering::Relaxed), 6);
        drop(body);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn edits_anywhere_in_a_body_of_any_size() {
        let budget = budget(usize::MAX);
        for size in [10, NEAR, NEAR * 2 + 5, NEAR * 5] {
            let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let mut buffer = BodyBuffer::new(&budget);
            buffer.push(bytes.clone().into(), None);
            let body = buffer.finish();
            let edit = |start: usize| Edit { range: start..start + 3, replacement: b"edited".as_slice().into() };
            for (first, second) in [(0, 3), (1, size / 2), (0, size - 3), (size / 2 - 2, size - 3)] {
                let edited = body.edited(&[edit(first), edit(second)]);
                let expected = [&bytes[..first], b"edited", &bytes[first + 3..second], b"edited", &bytes[second + 3..]].concat();
                assert_eq!(edited.concat(), expected, "{size} {first} {second}");
                assert!(edited.len() <= 5 && edited.iter().all(|piece| !piece.is_empty()));
            }
            for start in [0, 1, size / 2, size - 3] {
                let spliced = body.spliced(start..start + 3, b"edited");
                assert_eq!(spliced.concat(), [&bytes[..start], b"edited", &bytes[start + 3..]].concat(), "{size} {start}");
            }
        }
    }

    #[test]
    fn one_piece_is_not_copied() {
        let budget = budget(100);
        let mut buffer = BodyBuffer::new(&budget);
        let piece = Bytes::from_static(b"hello");
        buffer.push(piece.clone(), Some(5));
        assert_eq!(buffer.finish().bytes().as_ptr(), piece.as_ptr());
    }

    proptest::proptest! {
        /// Whatever one consumer takes and gives back, the first body of another consumer has room, up to a quarter of
        /// the budget.
        #[test]
        fn one_consumer_leaves_room_for_another(steps in proptest::collection::vec((1usize..26, proptest::bool::ANY), 1..100)) {
            let budget = budget(100);
            let (one, other) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let mut held = Vec::new();
            for (size, keep) in steps {
                let mut buffer = BodyBuffer::new(&budget).of(Some(Arc::clone(&one)));
                if buffer.push(Bytes::from(vec![0; size]), None) && keep {
                    held.push(buffer);
                } else {
                    drop(buffer);
                }
                let mut first = BodyBuffer::new(&budget).of(Some(Arc::clone(&other)));
                proptest::prop_assert!(first.push(Bytes::from(vec![0; 25]), None));
                let total: usize = held.iter().map(BodyBuffer::len).sum();
                proptest::prop_assert_eq!((one.load(Ordering::Relaxed), total <= 75), (total, true));
            }
            drop(held);
            proptest::prop_assert_eq!((one.load(Ordering::Relaxed), budget.used.load(Ordering::Relaxed)), (0, 0));
        }
    }

    #[test]
    fn the_budget_is_shared_and_bounded() {
        let budget = budget(10);
        let mut a = BodyBuffer::new(&budget);
        let mut b = BodyBuffer::new(&budget);
        assert!(a.push(Bytes::from_static(b"123456"), None));
        assert!(!b.push(Bytes::from_static(b"12345"), None));
        drop(a);
        assert!(b.push(Bytes::from_static(b"12345"), None));
    }
}
