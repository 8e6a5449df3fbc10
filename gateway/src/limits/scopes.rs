//! The scopes that there are, and who wants to know which of them change.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use spillway_plugins::limits::{Changes, Rank, Scope};

/// A scope, and the number of the last config that had it.
#[derive(Debug)]
struct Held {
    scope: Arc<Scope>,
    generation: u64,
}

/// All scopes, by the kind of their owner and their name.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    held: BTreeMap<Rank, BTreeMap<String, Held>>,
    watching: Vec<Arc<Changes>>,
}

impl Scopes {
    pub(super) fn of_rank(&self, rank: Rank, name: &str) -> Option<&Arc<Scope>> {
        self.held.get(&rank)?.get(name).map(|held| &held.scope)
    }

    /// By the name alone, as another process knows it: names of different ranks differ.
    pub(super) fn named(&self, name: &str) -> Option<&Arc<Scope>> {
        self.held.values().find_map(|of_rank| of_rank.get(name)).map(|held| &held.scope)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Scope>> {
        self.held.values().flat_map(BTreeMap::values).map(|held| &held.scope)
    }

    /// Adds a scope, or puts it in the place of the one with its name, whose usage it has.
    pub(super) fn put(&mut self, scope: Arc<Scope>, generation: u64) {
        match self.held.entry(scope.rank).or_default().entry(scope.name.clone()) {
            Entry::Occupied(mut held) => drop(held.insert(Held { scope, generation })),
            Entry::Vacant(new) => {
                self.watching.iter().for_each(|changes| scope.watch(changes));
                new.insert(Held { scope, generation });
            }
        }
    }

    /// Removes those that the config of this number doesn't have.
    pub(super) fn sweep(&mut self, generation: u64) {
        self.held.values_mut().for_each(|of_rank| of_rank.retain(|_, held| held.generation == generation));
    }

    /// From now on `changes` gets the names of scopes that have changed; at first of all.
    pub(super) fn watch(&mut self, changes: &Arc<Changes>) {
        self.watching.push(Arc::clone(changes));
        self.all().for_each(|scope| scope.watch(changes));
    }

    pub(super) fn unwatch(&mut self, changes: &Arc<Changes>) {
        self.watching.retain(|one| !Arc::ptr_eq(one, changes));
        self.all().for_each(|scope| scope.unwatch(changes));
    }
}
