//! The latest requests, to explain why one went to a backend. In memory, bounded, and lost when the process ends.

use std::cell::Cell;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use smallvec::SmallVec;

use crate::balance::route::Skipped;
use crate::request_end::End;
use crate::shares::{Owner, Ring};

/// Number of locks, so that requests seldom wait for the same one.
const SHARDS: usize = 16;
/// Requests in each shard.
const EACH: usize = 64;
/// Requests that moved on from a target, kept separately: the others would displace them.
const MOVED: usize = 50;

/// One attempt.
#[derive(Debug, Clone, Serialize)]
pub struct Tried {
    /// The backend's name.
    pub backend: Arc<str>,
    /// The name of the deployment that served it there.
    pub deployment: Arc<str>,
    /// The member's deployment, if Azure's own spillover had another one serve the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spilled_from: Option<Arc<str>>,
    /// Its tier.
    pub priority: u32,
    /// The service tier that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<&'static str>,
    /// How full its provisioned throughput was by the gateway's account when it was sent, in percent, if it has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ptu_percent: Option<u32>,
    /// The outcome.
    pub outcome: &'static str,
    /// The upstream's status, if it answered.
    pub status: Option<u16>,
    /// How long it took, in microseconds.
    pub us: u64,
    /// The backend's message about its failure, cut and redacted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub said: Option<Arc<str>>,
    /// The pooled connection was already closed: the next entry is the same attempt on a new connection.
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
    /// The model asked for, if it is in the config.
    pub model: Option<Arc<str>>,
    /// The pool that served it.
    pub pool: Option<Arc<str>>,
    /// The status that the caller got; 499 if it left before one was sent.
    pub status: u16,
    /// How it ended.
    pub end: End,
    /// The error code, if the gateway answered itself.
    pub code: Option<&'static str>,
    /// The limit that refused it, and whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// The result of the cache, if there is one.
    pub cache: Option<&'static str>,
    /// The service tier that the answer names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<&'static str>,
    /// Every attempt in order. Mostly there is one: memory of its own would keep a page of a burst in use.
    pub attempts: SmallVec<[Tried; 1]>,
    /// Members of better tiers that were not usable, for each choice of a member.
    pub passed_over: Vec<Skipped>,
    /// Time in all, in microseconds.
    pub us: u64,
}

/// The latest requests; each consumer has a share.
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
    /// The shard for this thread's next request: one after the other, so that a request can't choose it.
    static TURN: Cell<usize> = const { Cell::new(0) };
}

impl RecentRequests {
    /// Adds a request, and removes an older one.
    pub fn push(&self, request: Recent) {
        let owner = request.consumer.clone();
        if request.attempts.len() > 1 || request.end == End::LastResort {
            self.moved.lock().push(owner.clone(), request.clone());
        }
        let turn = TURN.get();
        TURN.set(turn.wrapping_add(1));
        self.shards[turn % SHARDS].lock().push(owner, request);
    }

    /// The request with this id; the latest, if there are several.
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

    /// The latest requests that moved on from a target, newest first.
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
            end: End::Complete,
            code: None,
            limit: None,
            cache: None,
            service_tier: None,
            attempts: SmallVec::new(),
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
