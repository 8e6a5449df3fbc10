//! All issued keys that this node knows, and which of them are still to be stored, or to be sent to other nodes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::live::{LiveKey, LiveKeys};
use super::record::StoredKey;
use crate::telemetry::metrics::IssuedKeyMetrics;

/// Most keys, revoked ones included.
pub(super) const MOST: usize = 100_000;

/// Where something about a key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// It happened here, and isn't in the file yet.
    Here,
    /// It is in the file.
    File,
    /// It is in Redis.
    Redis,
    /// The process before this one knew it; it may be in neither.
    Predecessor,
}

#[derive(Debug, Default)]
struct State {
    known: BTreeMap<Arc<str>, StoredKey>,
    /// Keys that were revoked since the start, as they were looked up before, by id: when they were used last is still of interest.
    ended: HashMap<Arc<str>, Arc<LiveKey>>,
    /// Ids of keys of which the file doesn't have the latest state.
    unsaved: HashSet<Arc<str>>,
    /// Ids of keys of which Redis may not have the latest state.
    unsent: HashSet<Arc<str>>,
    /// Ids of keys that were forgotten, and that Redis may still have.
    forgotten: BTreeSet<Arc<str>>,
    revoked: i64,
}

/// All issued keys that this node knows.
#[derive(Debug)]
pub(super) struct Memory {
    live: Arc<LiveKeys>,
    /// Whether there is a file.
    has_file: bool,
    /// Whether there is Redis.
    is_shared: bool,
    state: Mutex<State>,
    /// Something happened here that other nodes don't know yet.
    news: Notify,
    metrics: IssuedKeyMetrics,
}

impl Memory {
    pub(super) fn new(has_file: bool, is_shared: bool, metrics: IssuedKeyMetrics) -> Self {
        Memory { live: Arc::default(), has_file, is_shared, state: Mutex::default(), news: Notify::new(), metrics }
    }

    /// The keys that requests are checked against.
    pub(super) fn live(&self) -> &Arc<LiveKeys> {
        &self.live
    }

    /// Takes over what is said about keys. From now on requests are checked against it.
    pub(super) fn learn(&self, keys: impl IntoIterator<Item = StoredKey>, from: Source) {
        let mut state = self.state.lock();
        let State { known, unsaved, unsent, revoked, .. } = &mut *state;
        let mut changes: BTreeMap<Arc<str>, StoredKey> = BTreeMap::new();
        for key in keys {
            let id = Arc::clone(&key.made.id);
            let before = known.get(&id).cloned();
            if before.is_none() && matches!(from, Source::Redis | Source::Predecessor) && known.len() >= MOST {
                continue;
            }
            let now = known.entry(Arc::clone(&id)).or_insert_with(|| key.clone());
            let changed = now.merge(&key) || before.is_none();
            if changed {
                *revoked += i64::from(now.revoked.is_some()) - i64::from(before.as_ref().is_some_and(|before| before.revoked.is_some()));
                if let Some(before) = before.filter(|before| before.made.stored != now.made.stored) {
                    self.live.remove(&before.made.stored);
                }
                changes.insert(Arc::clone(&id), now.clone());
            }
            let is_all = *now == key;
            match from {
                Source::Here => {
                    if self.has_file {
                        unsaved.insert(Arc::clone(&id));
                    }
                    unsent.extend(self.is_shared.then_some(id));
                }
                Source::File if is_all => {
                    unsaved.remove(&id);
                    unsent.extend((changed && self.is_shared).then_some(id));
                }
                Source::File => {}
                Source::Predecessor => {
                    unsaved.extend((changed && self.has_file).then(|| Arc::clone(&id)));
                    unsent.extend((changed && self.is_shared).then_some(id));
                }
                Source::Redis => {
                    if changed && self.has_file {
                        unsaved.insert(Arc::clone(&id));
                    }
                    if is_all {
                        unsent.remove(&id)
                    } else {
                        unsent.insert(id)
                    };
                }
            }
        }
        for (id, key) in changes.iter().filter(|(_, key)| key.revoked.is_some()) {
            if let Some(live) = self.live.known(&key.made.stored) {
                state.ended.insert(Arc::clone(id), live);
            }
        }
        self.live.update(changes.values());
        self.show(&state);
        if self.is_shared && from != Source::Redis && !changes.is_empty() {
            self.news.notify_one();
        }
    }

    /// Waits until something happens here that other nodes don't know yet.
    pub(super) async fn has_news(&self) {
        self.news.notified().await;
    }

    fn show(&self, state: &State) {
        self.metrics.keys.set(i64::try_from(state.known.len()).unwrap_or(i64::MAX) - state.revoked);
        self.metrics.unsaved.set(i64::try_from(state.unsaved.len()).unwrap_or(i64::MAX));
    }

    /// These states are in the file.
    pub(super) fn saved(&self, keys: &[StoredKey]) {
        let mut state = self.state.lock();
        let State { known, unsaved, .. } = &mut *state;
        for key in keys.iter().filter(|key| known.get(&key.made.id) == Some(key)) {
            unsaved.remove(&key.made.id);
        }
        self.show(&state);
    }

    /// Keys of which the file doesn't have the latest state.
    pub(super) fn unsaved(&self) -> Vec<StoredKey> {
        let state = self.state.lock();
        state.unsaved.iter().filter_map(|id| state.known.get(id).cloned()).collect()
    }

    /// Whether there are such keys.
    pub(super) fn has_unsaved(&self) -> bool {
        !self.state.lock().unsaved.is_empty()
    }

    /// Up to `most` keys of which Redis may not have the latest state.
    pub(super) fn unsent(&self, most: usize) -> Vec<StoredKey> {
        let state = self.state.lock();
        state.unsent.iter().take(most).filter_map(|id| state.known.get(id).cloned()).collect()
    }

    /// These states are in Redis.
    pub(super) fn sent(&self, keys: &[StoredKey]) {
        let mut state = self.state.lock();
        let State { known, unsent, .. } = &mut *state;
        for key in keys.iter().filter(|key| known.get(&key.made.id) == Some(key)) {
            unsent.remove(&key.made.id);
        }
    }

    /// Redis has lost what it knew: everything is sent again.
    pub(super) fn send_all(&self) {
        let mut state = self.state.lock();
        let State { known, unsent, .. } = &mut *state;
        unsent.extend(known.keys().cloned());
    }

    /// Up to `most` keys that come after this one.
    pub(super) fn some_after(&self, id: &str, most: usize) -> Vec<StoredKey> {
        let state = self.state.lock();
        state.known.range::<str, _>((Bound::Excluded(id), Bound::Unbounded)).take(most).map(|(_, key)| key.clone()).collect()
    }

    /// Up to `most` ids of keys that were forgotten, and that Redis may still have.
    pub(super) fn forgotten(&self, most: usize) -> Vec<Arc<str>> {
        self.state.lock().forgotten.iter().take(most).cloned().collect()
    }

    /// Redis doesn't have these any longer.
    pub(super) fn are_gone(&self, ids: &[Arc<str>]) {
        let mut state = self.state.lock();
        state.forgotten.retain(|id| !ids.contains(id));
    }

    /// Forgets keys that ended long before `now`, in seconds since 1970.
    pub(super) fn forget_ended(&self, now: i64) {
        let mut state = self.state.lock();
        let over: Vec<Arc<str>> = state.known.iter().filter(|(_, key)| key.is_over(now)).map(|(id, _)| Arc::clone(id)).collect();
        for id in &over {
            if let Some(key) = state.known.remove(&**id) {
                state.revoked -= i64::from(key.revoked.is_some());
                self.live.remove(&key.made.stored);
            }
            state.ended.remove(id);
            state.unsaved.remove(id);
            state.unsent.remove(id);
        }
        if self.is_shared {
            let room = MOST.saturating_sub(state.forgotten.len());
            state.forgotten.extend(over.into_iter().take(room));
        }
        self.show(&state);
    }

    /// The key with this id.
    pub(super) fn get(&self, id: &str) -> Option<StoredKey> {
        self.state.lock().known.get(id).cloned()
    }

    /// When a key was last used since the start, in seconds since 1970.
    pub(super) fn last_use(&self, key: &StoredKey) -> Option<i64> {
        let live = self.live.known(&key.made.stored);
        live.or_else(|| self.state.lock().ended.get(&key.made.id).cloned())?.last_use()
    }

    /// All keys.
    pub(super) fn all(&self) -> Vec<StoredKey> {
        self.state.lock().known.values().cloned().collect()
    }

    /// The number of keys.
    pub(super) fn len(&self) -> usize {
        self.state.lock().known.len()
    }

    /// Whether something that was in the file is missing in these lines of it.
    pub(super) fn has_more_than(&self, lines: &[StoredKey]) -> bool {
        let mut written: HashMap<&Arc<str>, StoredKey> = HashMap::new();
        for line in lines {
            written.entry(&line.made.id).or_insert_with(|| line.clone()).merge(line);
        }
        let state = self.state.lock();
        state.known.iter().any(|(id, key)| !state.unsaved.contains(id) && written.get(id) != Some(key))
    }

    /// Counts a key in Redis that isn't signed as it should be.
    pub(super) fn refused(&self) {
        self.metrics.refused.inc();
    }

    /// Shows whether keys are exchanged with other nodes.
    pub(super) fn shared(&self, are_shared: bool) {
        self.metrics.shared.set(i64::from(are_shared));
    }

    /// Counts damaged pieces of the file.
    pub(super) fn damaged(&self, pieces: usize) {
        self.metrics.damaged.inc_by(pieces as u64);
    }
}
