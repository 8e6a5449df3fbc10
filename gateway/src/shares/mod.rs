//! Fair shares of bounded resources that all consumers use: memory, places in queues, slots. Each consumer has an equal
//! share, and what nobody needs is lent.
//!
//! Nothing is reserved. While there is room, a consumer may have more than its share. When there is none, the consumer
//! that holds most gives way to one that holds less, so that every consumer always gets its share and keeps it,
//! whatever others do. For resources that can't be taken back, each consumer has a [`Portions`] of its own in addition
//! to a common rest.

mod fair_slots;
mod portions;
mod ring;
mod store;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

pub use fair_slots::{FairSlot, FairSlots};
pub use portions::Portions;
pub use ring::Ring;
pub use store::Store;

/// How many parts an owner may hold for each free part: a single owner can hold three quarters of all.
const FOR_EACH_FREE: usize = 3;

/// Whether an owner may hold `held` if `free` is left then, of a resource that can't be taken back. The less is free,
/// the less one owner may hold, so that there is always some for an owner with nothing.
pub fn leaves_room(held: usize, free: usize) -> bool {
    held <= free.saturating_mul(FOR_EACH_FREE)
}

/// The owner of something: a consumer's name, or `None` for callers that needn't identify themselves.
pub type Owner = Option<Arc<str>>;

/// How much each owner holds.
#[derive(Debug, Clone)]
pub struct Shares<O> {
    /// Each owner's index in `order`.
    at: HashMap<O, usize>,
    /// Owners and how much they hold, the largest first.
    order: Vec<(O, usize)>,
    total: usize,
}

impl<O> Default for Shares<O> {
    fn default() -> Self {
        Shares { at: HashMap::new(), order: Vec::new(), total: 0 }
    }
}

impl<O: Clone + Eq + Hash> Shares<O> {
    /// How much all hold together.
    pub fn total(&self) -> usize {
        self.total
    }

    /// How much an owner holds.
    pub fn held(&self, owner: &O) -> usize {
        self.at.get(owner).map_or(0, |at| self.order[*at].1)
    }

    /// The owner that holds most.
    pub fn largest(&self) -> Option<&O> {
        self.order.first().map(|(owner, _)| owner)
    }

    /// Counts one more for an owner.
    pub fn add(&mut self, owner: &O) {
        let at = match self.at.get(owner) {
            Some(at) => *at,
            None => {
                self.at.insert(owner.clone(), self.order.len());
                self.order.push((owner.clone(), 0));
                self.order.len() - 1
            }
        };
        // It becomes the first of those that hold as much: then the order stays correct with one more.
        let held = self.order[at].1;
        let first = self.order.partition_point(|(_, other)| *other > held);
        self.swap(at, first);
        self.order[first].1 += 1;
        self.total += 1;
    }

    /// Counts one less for an owner.
    pub fn remove(&mut self, owner: &O) {
        let Some(at) = self.at.get(owner).copied() else { return };
        let held = self.order[at].1;
        let last = self.order.partition_point(|(_, other)| *other >= held).saturating_sub(1);
        self.swap(at, last);
        self.order[last].1 -= 1;
        self.total -= 1;
        if self.order[last].1 == 0 {
            self.order.truncate(last);
            self.at.remove(owner);
        }
    }

    fn swap(&mut self, one: usize, other: usize) {
        if one == other {
            return;
        }
        self.order.swap(one, other);
        for at in [one, other] {
            if let Some(known) = self.at.get_mut(&self.order[at].0) {
                *known = at;
            }
        }
    }

    /// The owner that gives something up for `newcomer` if there is no room left: the one that holds most, if it then
    /// still holds at least as much as the newcomer; else the newcomer itself, if it holds anything.
    pub fn gives_way(&self, newcomer: &O) -> Option<&O> {
        match self.largest() {
            Some(largest) if largest == newcomer => Some(largest),
            _ => self.loses_to(newcomer, |_| true).or_else(|| self.at.get_key_value(newcomer).map(|(owner, _)| owner)),
        }
    }

    /// Of some owners, the one that holds most, if it then still holds at least as much as `newcomer`.
    pub fn loses_to(&self, newcomer: &O, some: impl Fn(&O) -> bool) -> Option<&O> {
        let (largest, most) = self.order.iter().find(|(owner, _)| some(owner))?;
        (*most >= self.held(newcomer) + 2).then_some(largest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_are_right_and_in_order(steps in prop::collection::vec((any::<bool>(), 0u8..6), 0..200)) {
            let mut shares = Shares::default();
            let mut expected: HashMap<u8, usize> = HashMap::new();
            for (more, owner) in steps {
                let held = expected.entry(owner).or_default();
                if more {
                    shares.add(&owner);
                    *held += 1;
                } else {
                    shares.remove(&owner);
                    *held = held.saturating_sub(1);
                }
                for owner in 0..6 {
                    prop_assert_eq!(shares.held(&owner), expected.get(&owner).copied().unwrap_or(0));
                }
                prop_assert_eq!(shares.total(), expected.values().sum::<usize>());
                let most = shares.largest().map_or(0, |owner| shares.held(owner));
                prop_assert_eq!(most, expected.values().copied().max().unwrap_or(0));
            }
        }
    }

    #[test]
    fn whoever_holds_most_gives_way_and_nobody_below_its_share() {
        let mut shares = Shares::default();
        (0..5).for_each(|_| shares.add(&"a"));
        assert_eq!(shares.gives_way(&"b"), Some(&"a"));
        assert_eq!(shares.gives_way(&"a"), Some(&"a"));
        (0..4).for_each(|_| shares.add(&"b"));
        assert_eq!(shares.gives_way(&"b"), Some(&"b"), "one less is as good as equal");
        assert_eq!(shares.gives_way(&"c"), Some(&"a"));
        let mut ones = Shares::default();
        ones.add(&"a");
        assert_eq!(ones.gives_way(&"c"), None, "everybody has one, and there are no more");
    }
}
