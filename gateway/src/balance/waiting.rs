//! Requests that wait for a throttled pool to reopen: a bounded queue, whose last places are for the more
//! urgent classes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use spillway_plugins::limits::Class;

/// How many wait.
#[derive(Debug, Clone, Default)]
pub struct Waiting(Arc<AtomicUsize>);

/// A place in the queue; given back when dropped.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

impl Waiting {
    /// A place in a queue of `most`, if one is left for this class.
    pub fn enter(&self, most: usize, class: Class) -> Option<Place> {
        let room = class.room_in(most);
        let taken = self.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |waiting| (waiting < room).then(|| waiting + 1));
        taken.is_ok().then(|| Place(Arc::clone(&self.0)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_places_are_for_the_more_urgent() {
        let queue = Waiting::default();
        let enter = |class: Class| queue.enter(10, class);
        let batch: Vec<Place> = std::iter::from_fn(|| enter(Class::Batch)).collect();
        assert_eq!(batch.len(), 8);
        let standard: Vec<Place> = std::iter::from_fn(|| enter(Class::Standard)).collect();
        assert_eq!(standard.len(), 2);
        assert!(enter(Class::Interactive).is_none(), "95 % of ten is all ten");
        drop(batch);
        assert!(enter(Class::Batch).is_some());
        assert!(queue.enter(0, Class::Interactive).is_none());
    }
}
