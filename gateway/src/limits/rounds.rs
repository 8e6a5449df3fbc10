//! The agreements on one scope, one after the other: if answers came in another order than the questions, this node would
//! keep a share that others think was given back. Requests that lack something wait together for the next one, which asks
//! for all of them.

use parking_lot::Mutex;
use tokio::sync::{MutexGuard, watch};

/// The agreements on one scope, by number.
#[derive(Debug)]
pub(super) struct Rounds {
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    /// The number of the last one that has ended.
    ended: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the last one that has begun.
    begun: u64,
    /// The number of the last one that somebody waits for.
    wanted: u64,
    /// Somebody waits for its turn to begin it.
    is_queued: bool,
}

/// One that has begun. It ends when this is dropped.
pub(super) struct Round<'r> {
    rounds: &'r Rounds,
    number: u64,
    _turn: MutexGuard<'r, ()>,
}

impl Default for Rounds {
    fn default() -> Self {
        Rounds { turn: tokio::sync::Mutex::default(), state: Mutex::default(), ended: watch::Sender::new(0) }
    }
}

impl Rounds {
    /// The number of the first one that asks for what a request is known to lack now, and whether the caller must begin it
    /// with [`Rounds::begin_wanted`].
    pub(super) fn want(&self) -> (u64, bool) {
        let mut state = self.state.lock();
        let next = state.begun + 1;
        state.wanted = state.wanted.max(next);
        (next, !std::mem::replace(&mut state.is_queued, true))
    }

    /// Waits for its turn, and begins one.
    pub(super) async fn begin(&self) -> Round<'_> {
        let turn = self.turn.lock().await;
        let mut state = self.state.lock();
        state.begun += 1;
        Round { rounds: self, number: state.begun, _turn: turn }
    }

    /// The same, for those who wait for it; `None` if one has begun meanwhile.
    pub(super) async fn begin_wanted(&self) -> Option<Round<'_>> {
        let turn = self.turn.lock().await;
        let mut state = self.state.lock();
        state.is_queued = false;
        if state.begun >= state.wanted {
            return None;
        }
        state.begun += 1;
        Some(Round { rounds: self, number: state.begun, _turn: turn })
    }

    /// Waits until the one of this number has ended.
    pub(super) async fn ended(&self, number: u64) {
        // The sender is here, so this can't fail.
        let _ = self.ended.subscribe().wait_for(|ended| *ended >= number).await;
    }
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        self.rounds.ended.send_replace(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// What a future gives that has nothing to wait for.
    fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn those_who_come_before_it_begins_share_one_and_those_who_come_later_the_next() {
        let rounds = Rounds::default();
        assert_eq!((rounds.want(), rounds.want()), ((1, true), (1, false)));
        let first = at_once(rounds.begin_wanted()).flatten().unwrap();
        // What this one lacks was not known when the first one asked.
        assert_eq!((rounds.want(), rounds.want()), ((2, true), (2, false)));
        assert!(at_once(rounds.ended(1)).is_none() && at_once(rounds.begin_wanted()).is_none(), "one at a time");
        drop(first);
        assert!(at_once(rounds.ended(1)).is_some() && at_once(rounds.ended(2)).is_none());
        drop(at_once(rounds.begin_wanted()).flatten().unwrap());
        assert!(at_once(rounds.ended(2)).is_some());
    }

    #[test]
    fn one_that_began_for_another_reason_serves_those_who_came_before_it() {
        let rounds = Rounds::default();
        assert_eq!(rounds.want(), (1, true));
        drop(at_once(rounds.begin()).unwrap());
        assert!(at_once(rounds.ended(1)).is_some());
        assert!(at_once(rounds.begin_wanted()).unwrap().is_none(), "nobody waits any more");
        assert_eq!(rounds.want(), (2, true));
    }
}
