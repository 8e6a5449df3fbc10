//! What one process reports to another while one takes over: only scopes that have changed, so that a report of few is quick
//! though there are many.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::task::{Wake, Waker};

use spillway_plugins::limits::{Changes, OwnUse, Scope};
use tokio::sync::Notify;

use super::Limits;

/// The scopes that change from its creation on; at first all.
#[derive(Debug)]
pub struct ChangedScopes {
    limits: Arc<Limits>,
    changes: Arc<Changes>,
    settled: Arc<Settled>,
}

/// Tells that a request has ended, or a part of it.
#[derive(Debug, Default)]
struct Settled(Notify);

impl Wake for Settled {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}

impl ChangedScopes {
    /// Those of `limits`.
    pub fn of(limits: &Arc<Limits>) -> Self {
        let settled = Arc::<Settled>::default();
        let changes = Arc::new(Changes::waking(Waker::from(Arc::clone(&settled))));
        limits.scopes.lock().watch(&changes);
        ChangedScopes { limits: Arc::clone(limits), changes, settled }
    }

    /// Waits until a request has ended, or a part of it, since the last time.
    pub async fn has_settled(&self) {
        self.settled.0.notified().await;
    }

    /// Those that have changed since the last time. What is read of them now contains these changes.
    pub fn take(&self) -> Vec<Arc<Scope>> {
        let names = self.changes.take();
        let scopes = self.limits.scopes.lock();
        let changed: Vec<_> = names.iter().filter_map(|name| scopes.named(name)).cloned().collect();
        drop(scopes);
        changed.iter().for_each(|scope| scope.seen(&self.changes));
        changed
    }
}

impl Drop for ChangedScopes {
    fn drop(&mut self) {
        self.limits.scopes.lock().unwatch(&self.changes);
    }
}

/// What this process uses itself, and those after it, for the old one, whose open sockets end when a quota is used up. Nodes that
/// share limits have told it its share.
#[derive(Debug)]
pub struct OwnUseReports {
    changed: ChangedScopes,
    told: HashMap<String, OwnUse>,
    /// What decreases though nothing happens, because it was used in the last minute. It is read again in each second.
    fading: HashSet<String>,
    second: u64,
}

impl OwnUseReports {
    /// Nothing is told yet.
    pub fn of(limits: &Arc<Limits>) -> Self {
        OwnUseReports { changed: ChangedScopes::of(limits), told: HashMap::new(), fading: HashSet::new(), second: 0 }
    }

    /// What isn't told yet, by scope.
    pub fn news(&mut self) -> Vec<(String, OwnUse)> {
        let limits = Arc::clone(&self.changed.limits);
        if limits.shared.is_some() {
            return Vec::new();
        }
        let mut scopes = self.changed.take();
        let second = limits.now().second();
        if std::mem::replace(&mut self.second, second) != second {
            let known = limits.scopes.lock();
            scopes.extend(self.fading.iter().filter_map(|name| known.named(name)).cloned());
        }
        let mut used = Vec::new();
        for scope in scopes {
            let own = limits.own_use(&scope);
            if own.fades() {
                self.fading.insert(scope.name.clone());
            } else {
                self.fading.remove(&scope.name);
            }
            if self.told.get(&scope.name) != Some(&own) {
                self.told.insert(scope.name.clone(), own.clone());
                used.push((scope.name.clone(), own));
            }
        }
        used
    }
}
