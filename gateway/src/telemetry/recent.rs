//! The latest requests, for whoever asks why one went where it went. In memory, bounded, and gone with the process.

use std::cell::Cell;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use crate::balance::route::PassedOver;
use crate::shares::{Owner, Ring};

/// Parts, so that requests seldom meet at a lock.
const SHARDS: usize = 16;
/// Requests in each.
const EACH: usize = 64;
/// Of them all, requests that moved on from a target: they would be pushed out by those that didn't.
const MOVED: usize = 50;

/// One attempt.
#[derive(Debug, Clone, Serialize)]
pub struct Tried {
    /// The backend's name.
    pub backend: Arc<str>,
    /// The deployment's name there.
    pub deployment: Arc<str>,
    /// Its tier.
    pub priority: u32,
    /// How it went.
    pub outcome: &'static str,
    /// The upstream's status, if it answered.
    pub status: Option<u16>,
    /// How long it took, in microseconds.
    pub us: u64,
    /// What the upstream said of its failure, cut and redacted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub said: Option<Arc<str>>,
    /// The connection from the pool turned out to be closed: the next one is the same attempt on a fresh one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// A request that is over.
#[derive(Debug, Clone, Serialize)]
pub struct Recent {
    /// When it arrived, in milliseconds since 1970.
    pub at: i64,
    /// Its id.
    pub id: String,
    /// The caller, if known.
    pub consumer: Option<Arc<str>>,
    /// The API.
    pub api: &'static str,
    /// The model asked for, where it is one of the config's.
    pub model: Option<Arc<str>>,
    /// The pool that served it.
    pub pool: Option<Arc<str>>,
    /// The status that the caller got; 499 if it left before one was sent.
    pub status: u16,
    /// How it ended.
    pub end: &'static str,
    /// The error code, if the gateway answered itself.
    pub code: Option<&'static str>,
    /// How it stood with the cache, where there is one.
    pub cache: Option<&'static str>,
    /// Every attempt in order.
    pub attempts: Vec<Tried>,
    /// Members of better tiers that could not be asked, each time that a member was chosen.
    pub passed_over: Vec<PassedOver>,
    /// Time in all, in microseconds.
    pub us: u64,
}

/// The latest requests, of each consumer its share.
#[derive(Debug)]
pub struct RecentRequests {
    shards: [Mutex<Ring<Owner, Recent>>; SHARDS],
    moved: Mutex<Ring<Owner, Recent>>,
}

impl Default for RecentRequests {
    fn default() -> Self {
        RecentRequests { shards: std::array::from_fn(|_| Mutex::new(Ring::new(EACH))), moved: Mutex::new(Ring::new(MOVED)) }
    }
}

thread_local! {
    /// The shard for this thread's next request: each in turn, so that nothing in a request chooses it.
    static TURN: Cell<usize> = const { Cell::new(0) };
}

impl RecentRequests {
    /// Remembers a request, and forgets an older one.
    pub fn push(&self, request: Recent) {
        let owner = request.consumer.clone();
        if request.attempts.len() > 1 || request.end == "last_resort" {
            self.moved.lock().push(owner.clone(), request.clone());
        }
        let turn = TURN.get();
        TURN.set(turn.wrapping_add(1));
        self.shards[turn % SHARDS].lock().push(owner, request);
    }

    /// The request of this id; the latest, if several had it.
    pub fn find(&self, id: &str) -> Option<Recent> {
        let of = |ring: &Mutex<Ring<Owner, Recent>>| ring.lock().iter().rev().find(|request| request.id == id).cloned();
        self.shards.iter().filter_map(of).max_by_key(|request| request.at).or_else(|| of(&self.moved))
    }

    /// The latest, newest first, at most `most`.
    pub fn latest(&self, most: usize) -> Vec<Recent> {
        let mut all: Vec<Recent> = self.shards.iter().flat_map(|shard| shard.lock().iter().cloned().collect::<Vec<_>>()).collect();
        all.sort_by_key(|request| std::cmp::Reverse(request.at));
        all.truncate(most);
        all
    }

    /// The latest that moved on from a target, newest first.
    pub fn moved(&self) -> Vec<Recent> {
        self.moved.lock().iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(consumer: &str, id: String, at: i64) -> Recent {
        Recent {
            at,
            id,
            consumer: Some(consumer.into()),
            api: "chat",
            model: None,
            pool: None,
            status: 200,
            end: "ok",
            code: None,
            cache: None,
            attempts: Vec::new(),
            passed_over: Vec::new(),
            us: 1,
        }
    }

    #[test]
    fn a_flood_under_one_id_hides_nobodys_requests() {
        let recent = RecentRequests::default();
        (0..100).for_each(|number| recent.push(request("b", format!("b-{number}"), number)));
        (0..10_000).for_each(|number| recent.push(request("a", "chosen".to_owned(), 1000 + number)));
        assert!((0..100).all(|number| recent.find(&format!("b-{number}")).is_some()));
        assert_eq!(recent.find("chosen").map(|request| request.at), Some(10_999), "the latest");
        assert_eq!(recent.latest(usize::MAX).len(), SHARDS * EACH, "the rest is lent");
    }
}
