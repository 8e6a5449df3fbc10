//! Something that one background task renews, and whose users may request an early renewal: after a token was refused,
//! or when a key set lacks a key.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::clock::{Clock, Tick};

/// The link between the users of a thing and the task that renews it.
#[derive(Debug)]
pub struct Renewal {
    number: watch::Sender<u64>,
    wake: Notify,
    /// When the last renewal was requested, and what the number was then.
    last: Mutex<Option<(Tick, u64)>>,
    floor: Duration,
}

/// The result of a request for renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RenewalReply {
    /// It will be renewed.
    Accepted,
    /// The last request for renewal was too short a time ago.
    TooSoon {
        /// When that was.
        at: Tick,
        /// The number at that time.
        after: u64,
    },
}

impl RenewalReply {
    /// Whether a version newer than `seen` is being made, for at most `limit`.
    fn is_under_way(self, seen: u64, now: Tick, limit: Duration) -> bool {
        match self {
            RenewalReply::Accepted => true,
            RenewalReply::TooSoon { at, after } => after >= seen && now.since(at) <= limit,
        }
    }
}

impl Renewal {
    /// `floor` is the least time between two requested renewals: callers that send nonsense must not cause a flood of
    /// requests to the service behind it.
    pub fn new(floor: Duration) -> Self {
        Renewal { number: watch::Sender::new(0), wake: Notify::new(), last: Mutex::new(None), floor }
    }

    /// The number of renewals so far.
    pub fn number(&self) -> u64 {
        *self.number.borrow()
    }

    /// Called after a renewal.
    pub fn done(&self) {
        self.number.send_modify(|number| *number += 1);
    }

    /// Version `seen` is not usable: requests a renewal and waits for it, at most `limit`. `true` if there is a newer
    /// version.
    pub async fn request(&self, seen: u64, clock: &Clock, limit: Duration) -> bool {
        let mut number = self.number.subscribe();
        if *number.borrow_and_update() > seen {
            return true;
        }
        let now = clock.now();
        // Callers that come while a renewal is under way wait for it; the others must continue without one.
        self.ask(seen, now).is_under_way(seen, now, limit)
            && clock.within(limit, number.wait_for(|newest| *newest > seen)).await.is_some_and(|came| came.is_ok())
    }

    /// Version `seen` is not usable: requests a renewal unless there is a newer version, and doesn't wait. `true` if
    /// there is one, or if one is being made for at most `limit`.
    pub fn is_replaced(&self, seen: u64, now: Tick, limit: Duration) -> bool {
        self.number() > seen || self.ask(seen, now).is_under_way(seen, now, limit)
    }

    /// Version `seen` is not usable: requests a renewal, unless that was just done, and doesn't wait.
    fn ask(&self, seen: u64, now: Tick) -> RenewalReply {
        let mut last = self.last.lock();
        match *last {
            Some((at, after)) if now.since(at) < self.floor => RenewalReply::TooSoon { at, after },
            _ => {
                *last = Some((now, seen));
                self.wake.notify_one();
                RenewalReply::Accepted
            }
        }
    }

    /// Returns when a version newer than the current one is requested.
    pub async fn wanted(&self) {
        loop {
            self.wake.notified().await;
            // A request that came during the renewal is served by it.
            if self.last.lock().is_some_and(|(_, after)| after >= self.number()) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_again_within_the_floor_changes_nothing() {
        let renewal = Renewal::new(Duration::from_secs(10));
        let at = |seconds: u64| Tick(0) + Duration::from_secs(seconds);
        assert_eq!(renewal.ask(0, at(100)), RenewalReply::Accepted);
        for seconds in [100, 105, 109] {
            assert_eq!(renewal.ask(0, at(seconds)), RenewalReply::TooSoon { at: at(100), after: 0 });
        }
        assert_eq!(renewal.ask(0, at(110)), RenewalReply::Accepted);
    }

    #[test]
    fn a_refusal_of_an_older_version_is_no_news() {
        let renewal = Renewal::new(Duration::from_secs(10));
        let (at, limit) = (|seconds: u64| Tick(0) + Duration::from_secs(seconds), Duration::from_secs(3));
        assert!(renewal.is_replaced(1, at(100), limit), "requested");
        assert!(renewal.is_replaced(1, at(102), limit), "under way");
        assert!(!renewal.is_replaced(1, at(104), limit), "it does not come");
        renewal.done();
        renewal.done();
        assert!(renewal.is_replaced(1, at(104), limit), "it was sent before the renewal");
        assert!(!renewal.is_replaced(2, at(104), limit), "the new one is no good either");
        assert!(renewal.is_replaced(2, at(110), limit), "requested again");
    }

    #[tokio::test]
    async fn whoever_asks_gets_the_next_one_or_none() {
        let renewal = Renewal::new(Duration::from_secs(10));
        let (clock, limit) = (Clock::standing(), Duration::from_millis(20));
        assert!(!renewal.request(0, &clock, limit).await, "nobody renews it");
        renewal.done();
        assert!(renewal.request(0, &clock, limit).await, "it was renewed meanwhile");
        assert!(
            !renewal.request(1, &clock, Duration::from_secs(60)).await,
            "the new one is no good either: not asked for again, and no wait"
        );
        clock.pass(Duration::from_secs(11));
        let waiting = renewal.request(1, &clock, Duration::from_secs(5));
        let (came, ()) = tokio::join!(waiting, async {
            renewal.wanted().await;
            renewal.done();
        });
        assert!(came);
    }
}
