//! The latest requests, for whoever asks why one went where it went. In memory, bounded, and gone with the process.

use std::collections::VecDeque;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use crate::balance::route::PassedOver;

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

/// The latest requests.
#[derive(Debug, Default)]
pub struct RecentRequests {
    shards: [Mutex<VecDeque<Recent>>; SHARDS],
    moved: Mutex<VecDeque<Recent>>,
}

impl RecentRequests {
    /// Remembers a request, and forgets an older one.
    pub fn push(&self, request: Recent) {
        if request.attempts.len() > 1 || request.end == "last_resort" {
            keep(&self.moved, MOVED, request.clone());
        }
        keep(self.shard(&request.id), EACH, request);
    }

    /// The request of this id; the latest, if several had it.
    pub fn find(&self, id: &str) -> Option<Recent> {
        let of = |shard: &Mutex<VecDeque<Recent>>| shard.lock().iter().rev().find(|request| request.id == id).cloned();
        of(self.shard(id)).or_else(|| of(&self.moved))
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

    fn shard(&self, id: &str) -> &Mutex<VecDeque<Recent>> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(id);
        &self.shards[hash as usize % SHARDS]
    }
}

fn keep(ring: &Mutex<VecDeque<Recent>>, most: usize, request: Recent) {
    let mut ring = ring.lock();
    if ring.len() == most {
        ring.pop_front();
    }
    ring.push_back(request);
}
