//! A resource that can't be taken back: every owner has a portion of its own, and the rest goes to those who come
//! first.

use std::collections::HashMap;
use std::hash::Hash;

/// How much each owner holds.
#[derive(Debug)]
pub struct Portions<O> {
    own: usize,
    common: usize,
    held: HashMap<O, usize>,
    lent: usize,
}

impl<O: Clone + Eq + Hash> Portions<O> {
    /// `own` for each owner, and `common` for all together.
    pub fn new(own: usize, common: usize) -> Self {
        Portions { own, common, held: HashMap::new(), lent: 0 }
    }

    /// Counts one more for an owner; `false` if its portion and the common rest are used up.
    pub fn take(&mut self, owner: &O) -> bool {
        let held = match self.held.get_mut(owner) {
            Some(held) => held,
            None => self.held.entry(owner.clone()).or_default(),
        };
        if *held >= self.own {
            if self.lent >= self.common {
                return false;
            }
            self.lent += 1;
        }
        *held += 1;
        true
    }

    /// Gives everything back.
    pub fn clear(&mut self) {
        self.held.clear();
        self.lent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_takes_everything_leaves_everybody_its_own() {
        let mut portions = Portions::new(3, 10);
        assert_eq!((0..100).filter(|_| portions.take(&"a")).count(), 13);
        for other in ["b", "c"] {
            assert_eq!((0..100).filter(|_| portions.take(&other)).count(), 3, "{other}");
        }
        portions.clear();
        assert_eq!((0..100).filter(|_| portions.take(&"b")).count(), 13);
    }
}
