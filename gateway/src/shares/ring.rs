//! The latest items of all owners: a new one displaces an older one of the owner that has most.

use std::collections::VecDeque;
use std::hash::Hash;

use super::Shares;

/// The latest items, each with its owner.
#[derive(Debug)]
pub struct Ring<O, V> {
    most: usize,
    shares: Shares<O>,
    items: VecDeque<(O, V)>,
}

impl<O: Clone + Eq + Hash, V> Ring<O, V> {
    /// Room for `most`.
    pub fn new(most: usize) -> Self {
        Ring { most, shares: Shares::default(), items: VecDeque::new() }
    }

    /// Adds an item. An older one is removed, if there is no room.
    pub fn push(&mut self, owner: O, value: V) {
        let gone = if self.items.len() < self.most {
            None
        } else {
            let Some(loser) = self.shares.gives_way(&owner).or_else(|| self.shares.largest()) else { return };
            // With only one owner, which is usual, it is the first.
            let oldest = self.items.iter().position(|(other, _)| other == loser);
            oldest.and_then(|oldest| self.items.remove(oldest)).map(|(gone, _)| gone)
        };
        if gone.as_ref() != Some(&owner) {
            self.shares.add(&owner);
            gone.iter().for_each(|gone| self.shares.remove(gone));
        }
        self.items.push_back((owner, value));
    }

    /// From the oldest to the latest.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.items.iter().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_owner_has_all_of_it() {
        let mut ring = Ring::new(3);
        (0..10).for_each(|number| ring.push("a", number));
        assert_eq!(ring.iter().copied().collect::<Vec<_>>(), [7, 8, 9]);
        assert!(Ring::<u8, u8>::new(0).iter().next().is_none());
    }

    proptest! {
        #[test]
        fn everybodys_latest_stay_whatever_others_do(most in 1usize..20, steps in prop::collection::vec(0u8..4, 0..120)) {
            let mut ring = Ring::new(most);
            for (number, owner) in steps.iter().enumerate() {
                ring.push(*owner, (*owner, number));
                let kept: Vec<_> = ring.iter().copied().collect();
                prop_assert!(kept.len() <= most && kept.is_sorted_by_key(|(_, number)| *number));
                for other in 0..4 {
                    let had = steps[..=number].iter().enumerate().filter(|(_, owner)| **owner == other);
                    for (number, _) in had.rev().take(most / 4) {
                        prop_assert!(kept.contains(&(other, number)));
                    }
                }
            }
        }
    }
}
