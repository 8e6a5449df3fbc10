//! A bounded map of names: when it is full, the owner that has most loses the name that was not used for longest.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use super::Shares;

#[derive(Debug)]
struct Entry<O, V> {
    owner: O,
    value: V,
    /// When it was used last.
    used: u64,
}

/// At most a fixed number of names, each with its owner and its value.
#[derive(Debug)]
pub struct Store<O, V> {
    most: usize,
    shares: Shares<O>,
    entries: HashMap<Arc<str>, Entry<O, V>>,
    /// Each owner's names, the one not used for longest first.
    queues: HashMap<O, BTreeMap<u64, Arc<str>>>,
    uses: u64,
}

impl<O: Clone + Eq + Hash, V> Store<O, V> {
    /// Room for `most` names, one at least.
    pub fn new(most: usize) -> Self {
        Store { most: most.max(1), shares: Shares::default(), entries: HashMap::new(), queues: HashMap::new(), uses: 0 }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a name. Counts as a use of it.
    pub fn get(&mut self, name: &str) -> Option<&V> {
        let entry = self.entries.get_mut(name)?;
        self.uses += 1;
        if let Some(queue) = self.queues.get_mut(&entry.owner)
            && let Some(name) = queue.remove(&entry.used)
        {
            queue.insert(self.uses, name);
        }
        entry.used = self.uses;
        Some(&entry.value)
    }

    /// Whether a name is in it. Doesn't count as a use.
    #[cfg(test)]
    fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Adds a name, or replaces its value and owner. Another name is removed, if there is no room.
    pub fn insert(&mut self, name: Arc<str>, owner: O, value: V) {
        self.remove(&name);
        while self.entries.len() >= self.most {
            // With more owners than room, the newest name stays.
            let loser = self.shares.gives_way(&owner).or_else(|| self.shares.largest());
            let oldest = loser.and_then(|loser| self.queues.get(loser)?.first_key_value()).map(|(_, name)| Arc::clone(name));
            match oldest {
                Some(oldest) => drop(self.remove(&oldest)),
                None => return,
            }
        }
        self.uses += 1;
        self.shares.add(&owner);
        self.queues.entry(owner.clone()).or_default().insert(self.uses, Arc::clone(&name));
        self.entries.insert(name, Entry { owner, value, used: self.uses });
    }

    /// Removes a name.
    pub fn remove(&mut self, name: &str) -> Option<V> {
        let Entry { owner, value, used } = self.entries.remove(name)?;
        self.shares.remove(&owner);
        if let Some(queue) = self.queues.get_mut(&owner) {
            queue.remove(&used);
            if queue.is_empty() {
                self.queues.remove(&owner);
            }
        }
        Some(value)
    }

    /// All names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &V)> {
        self.entries.iter().map(|(name, entry)| (name, &entry.value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_flood_pushes_out_nothing_but_its_own() {
        let mut store = Store::new(10);
        (0..3).for_each(|number| store.insert(format!("b{number}").into(), "b", number));
        (0..1000).for_each(|number| store.insert(format!("a{number}").into(), "a", number));
        assert!((0..3).all(|number| store.get(&format!("b{number}")) == Some(&number)));
        assert!((993..1000).all(|number| store.contains(&format!("a{number}"))) && store.len() == 10, "the rest is lent");
        (0..5).for_each(|number| store.insert(format!("c{number}").into(), "c", number));
        assert_eq!((0..3).filter(|number| store.contains(&format!("b{number}"))).count(), 3);
        assert!((1..5).filter(|number| store.contains(&format!("c{number}"))).count() >= 3);
    }

    #[test]
    fn what_is_used_stays() {
        let mut store = Store::new(2);
        store.insert("x".into(), "a", 1);
        store.insert("y".into(), "a", 2);
        assert_eq!(store.get("x"), Some(&1));
        store.insert("z".into(), "a", 3);
        assert!(store.contains("x") && !store.contains("y"));
        assert_eq!(store.remove("x"), Some(1));
        store.insert("x".into(), "b", 4);
        assert_eq!((store.get("x").copied(), store.len()), (Some(4), 2));
    }

    proptest! {
        #[test]
        fn everybodys_latest_stay_whatever_others_do(
            most in 1usize..24,
            steps in prop::collection::vec((0u8..4, 0u8..12, any::<bool>()), 0..160),
        ) {
            let mut store = Store::new(most);
            let mut recent: Vec<(u8, String)> = Vec::new();
            for (owner, number, get) in steps {
                let name = format!("{owner}-{number}");
                if get && store.get(&name).is_none() {
                    continue;
                }
                if !get {
                    store.insert(name.as_str().into(), owner, number);
                }
                recent.retain(|(_, other)| *other != name);
                recent.push((owner, name));
                prop_assert!(store.len() <= most);
                prop_assert_eq!(store.len(), store.queues.values().map(BTreeMap::len).sum::<usize>());
                prop_assert_eq!(store.len(), store.shares.total());
                for owner in 0..4 {
                    let share = most / 4;
                    for (_, name) in recent.iter().rev().filter(|(other, _)| *other == owner).take(share) {
                        prop_assert!(store.contains(name), "{} of {:?}", name, recent);
                    }
                }
            }
        }
    }
}
