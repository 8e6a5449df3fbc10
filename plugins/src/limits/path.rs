//! The scopes that one request counts for.

use std::sync::Arc;

use smallvec::SmallVec;

use super::Cell;
use super::scope::Scope;
use super::state::State;

/// A scope on the path of a request.
#[derive(Debug)]
pub struct Step<C: Cell<State> = parking_lot::Mutex<State>> {
    /// The scope.
    pub scope: Arc<Scope<C>>,
    /// Index of its guarantee for the scope below it.
    pub via: Option<usize>,
    /// How far it is from the consumer.
    pub(super) distance: u8,
}

impl<C: Cell<State>> Clone for Step<C> {
    fn clone(&self) -> Self {
        Step { scope: Arc::clone(&self.scope), via: self.via, distance: self.distance }
    }
}

/// All scopes of a request, from the consumer through its groups up to the pool. They are stored in the order in which
/// all requests lock them.
#[derive(Debug)]
pub struct Path<C: Cell<State> = parking_lot::Mutex<State>> {
    steps: SmallVec<[Step<C>; 4]>,
    pushed: u8,
}

impl<C: Cell<State>> Default for Path<C> {
    fn default() -> Self {
        Path { steps: SmallVec::new(), pushed: 0 }
    }
}

impl<C: Cell<State>> Clone for Path<C> {
    fn clone(&self) -> Self {
        Path { steps: self.steps.clone(), pushed: self.pushed }
    }
}

impl<C: Cell<State>> Path<C> {
    /// Without scopes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a scope, farther from the consumer than those before. `via`: index of its guarantee for the scope below it.
    pub fn push(&mut self, scope: Arc<Scope<C>>, via: Option<usize>) {
        let step = Step { scope, via, distance: self.pushed };
        let at = self.steps.partition_point(|other| other.scope.number() < step.scope.number());
        // A state that is locked already can't be locked again.
        if self.steps.get(at).is_none_or(|other| other.scope.number() != step.scope.number()) {
            self.steps.insert(at, step);
            self.pushed = self.pushed.saturating_add(1);
        }
    }

    /// Whether no limit applies.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Its scopes from the consumer upwards: in the order in which they were added.
    pub fn outwards(&self) -> SmallVec<[&Step<C>; 4]> {
        let mut steps: SmallVec<[&Step<C>; 4]> = self.steps.iter().collect();
        steps.sort_by_key(|step| step.distance);
        steps
    }

    /// Its scopes, in the order in which they are locked.
    pub fn steps(&self) -> &[Step<C>] {
        &self.steps
    }
}

impl<C: Cell<State>> Extend<Arc<Scope<C>>> for Path<C> {
    fn extend<I: IntoIterator<Item = Arc<Scope<C>>>>(&mut self, scopes: I) {
        scopes.into_iter().for_each(|scope| self.push(scope, None));
    }
}

impl<C: Cell<State>> FromIterator<Arc<Scope<C>>> for Path<C> {
    fn from_iter<I: IntoIterator<Item = Arc<Scope<C>>>>(scopes: I) -> Self {
        let mut path = Path::new();
        path.extend(scopes);
        path
    }
}
