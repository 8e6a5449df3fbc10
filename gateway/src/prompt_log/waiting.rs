//! How many bytes may wait for the prompt log, in all and for one consumer.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::shares::leaves_room;

/// Bytes that may wait.
const MOST: usize = 128 << 20;

/// The waiting bytes. One consumer always leaves a quarter of the room to others.
#[derive(Debug, Default)]
pub(super) struct Waiting(AtomicUsize);

impl Waiting {
    /// Takes so many bytes, if there is room; `share` counts the waiting bytes of the same consumer.
    pub(super) fn take(&self, bytes: usize, share: Option<&AtomicUsize>) -> bool {
        let all = self.0.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let own = share.map(|share| share.fetch_add(bytes, Ordering::Relaxed) + bytes);
        let taken = all <= MOST && own.is_none_or(|own| own == bytes || leaves_room(own, MOST - all));
        if !taken {
            self.give_back(bytes, share);
        }
        taken
    }

    /// Gives bytes back.
    pub(super) fn give_back(&self, bytes: usize, share: Option<&AtomicUsize>) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(share) = share {
            share.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn one_consumer_leaves_a_quarter_and_gets_it_back() {
        let (waiting, one, other) = (Waiting::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        let takes = |share| (0..200).filter(|_| waiting.take(MIB, share)).count();
        assert_eq!((takes(Some(&one)), takes(Some(&other))), (96, 24));
        assert_eq!((one.load(Ordering::Relaxed), other.load(Ordering::Relaxed)), (96 * MIB, 24 * MIB));
        (0..96).for_each(|_| waiting.give_back(MIB, Some(&one)));
        assert_eq!((one.load(Ordering::Relaxed), takes(None)), (0, 104), "a lone consumer may have all");
        assert!(!waiting.take(1, None));
    }
}
