//! Requests that wait for a throttled pool to reopen: a bounded queue, whose last places are reserved for the more
//! urgent classes. Within each class every consumer has a fair share.

use std::sync::Arc;

use spillway_plugins::limits::Class;

use crate::shares::{self, FairSlots, Owner};

/// Class and consumer of a waiting request; places are shared by class first.
type Waiter = (Class, Owner);

/// The queue of one pool.
#[derive(Debug, Clone)]
pub struct Waiting(Arc<FairSlots<Waiter>>);

/// A place in the queue. Given back when dropped; asked back when a consumer with fewer places needs it.
pub type QueueSlot = shares::FairSlot<Waiter>;

/// Returns when the place is asked back; without a place, never.
pub async fn asked_back(place: Option<&mut QueueSlot>) {
    match place {
        Some(place) => place.asked_back().await,
        None => std::future::pending().await,
    }
}

impl Default for Waiting {
    fn default() -> Self {
        Waiting(FairSlots::new(usize::MAX, usize::MAX))
    }
}

impl Waiting {
    /// Takes a place in a queue of `most`, if one is left for this class, or if a consumer of this class or a less
    /// urgent one has several.
    pub fn enter(&self, most: usize, class: Class, owner: Owner) -> Option<QueueSlot> {
        self.0.take_of((class, owner), class.room_in(most), |(other, _)| *other >= class)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn owner(name: &str) -> Owner {
        Some(name.into())
    }

    fn is_asked_back(place: &mut QueueSlot) -> bool {
        pin!(place.asked_back()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_last_places_are_for_the_more_urgent() {
        let queue = Waiting::default();
        let enter = |class: Class| queue.enter(10, class, None);
        let batch: Vec<QueueSlot> = std::iter::from_fn(|| enter(Class::Batch)).collect();
        assert_eq!(batch.len(), 8);
        let standard: Vec<QueueSlot> = std::iter::from_fn(|| enter(Class::Standard)).take(2).collect();
        assert_eq!(standard.len(), 2);
        drop((batch, standard));
        assert!(enter(Class::Batch).is_some());
        assert!(queue.enter(0, Class::Interactive, None).is_none());
    }

    #[test]
    fn whoever_has_most_of_a_class_gives_way() {
        let queue = Waiting::default();
        let mut of_a: Vec<QueueSlot> = std::iter::from_fn(|| queue.enter(10, Class::Batch, owner("a"))).collect();
        assert_eq!(of_a.len(), 8);
        let of_b: Vec<QueueSlot> = std::iter::from_fn(|| queue.enter(10, Class::Batch, owner("b"))).collect();
        assert_eq!((of_b.len(), of_a.iter_mut().filter_map(|place| is_asked_back(place).then_some(())).count()), (4, 4));
    }

    #[test]
    fn the_more_urgent_gives_way_to_nobody_less_urgent() {
        let queue = Waiting::default();
        let of_a: Vec<QueueSlot> = std::iter::from_fn(|| queue.enter(10, Class::Interactive, owner("a"))).collect();
        assert_eq!(of_a.len(), 10);
        assert!(queue.enter(10, Class::Batch, owner("b")).is_none());
        assert!(queue.enter(10, Class::Interactive, owner("c")).is_some());
    }
}
