//! Which scopes have changed since somebody looked: a report of them costs what has changed, however many there are.

use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

/// The names of scopes that have changed, each once ([`super::Scope::watch`]).
#[derive(Debug)]
pub struct Changes {
    names: Mutex<Vec<Arc<str>>>,
    /// Woken when a request has ended, or a part of it.
    settled: Waker,
}

impl Default for Changes {
    fn default() -> Self {
        Changes::waking(Waker::noop().clone())
    }
}

impl Changes {
    /// Wakes `settled` when a request has ended, or a part of it: until that is told, others may be refused because of what it
    /// gives back.
    pub fn waking(settled: Waker) -> Self {
        Changes { names: Mutex::default(), settled }
    }

    /// Those that have changed since the last time. Later changes of one are told only after [`super::Scope::seen`].
    pub fn take(&self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.names.lock())
    }
}

/// A scope that is watched.
#[derive(Debug)]
struct Watch {
    changes: Arc<Changes>,
    name: Arc<str>,
    /// It is in `changes`, or was taken from there and isn't seen yet.
    is_noted: bool,
}

/// Who wants to know that a scope has changed: none, but while one process takes over from another.
#[derive(Debug, Default)]
pub(super) struct Watches(Vec<Watch>);

impl Watches {
    /// The scope has changed, or is about to.
    #[inline]
    pub(super) fn note(&mut self) {
        // Of almost no request's scopes anybody wants to know.
        if !self.0.is_empty() {
            self.note_all();
        }
    }

    #[cold]
    fn note_all(&mut self) {
        for watch in &mut self.0 {
            if !std::mem::replace(&mut watch.is_noted, true) {
                watch.changes.names.lock().push(Arc::clone(&watch.name));
            }
        }
    }

    /// The same, because a request has ended, or a part of it.
    #[inline]
    pub(super) fn note_settled(&mut self) {
        if !self.0.is_empty() {
            self.note_all();
            self.wake_all();
        }
    }

    #[cold]
    fn wake_all(&self) {
        self.0.iter().for_each(|watch| watch.changes.settled.wake_by_ref());
    }

    pub(super) fn add(&mut self, name: &str, changes: &Arc<Changes>) {
        self.0.push(Watch { changes: Arc::clone(changes), name: name.into(), is_noted: false });
        self.note();
    }

    pub(super) fn remove(&mut self, changes: &Arc<Changes>) {
        self.0.retain(|watch| !Arc::ptr_eq(&watch.changes, changes));
    }

    pub(super) fn seen(&mut self, changes: &Arc<Changes>) {
        for watch in self.0.iter_mut().filter(|watch| Arc::ptr_eq(&watch.changes, changes)) {
            watch.is_noted = false;
        }
    }
}
