//! Something that one background task keeps fresh, and that others may ask to have renewed early:
//! a token that was refused, a key set that lacks a key.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::clock::Tick;

/// The link between those who need it renewed and the one who renews it.
#[derive(Debug)]
pub struct Renewal {
    number: watch::Sender<u64>,
    wake: Notify,
    /// When one was last asked for, and after which number.
    last: Mutex<Option<(Tick, u64)>>,
    floor: Duration,
}

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It will be renewed.
    Now,
    /// It was asked for too short a time ago.
    Before {
        /// When.
        at: Tick,
        /// After which number.
        after: u64,
    },
}

impl Renewal {
    /// `floor` is the least time between two renewals that were asked for: whoever sends nonsense must
    /// not make us a nuisance to the service behind it.
    pub fn new(floor: Duration) -> Self {
        Renewal { number: watch::Sender::new(0), wake: Notify::new(), last: Mutex::new(None), floor }
    }

    /// How often it was renewed.
    pub fn number(&self) -> u64 {
        *self.number.borrow()
    }

    /// It has been renewed.
    pub fn done(&self) {
        self.number.send_modify(|number| *number += 1);
    }

    /// Number `seen` is no good: asks for another and waits for it, at most `limit`. `true` if there
    /// is a newer one.
    pub async fn request(&self, seen: u64, now: Tick, limit: Duration) -> bool {
        let mut number = self.number.subscribe();
        if *number.borrow_and_update() > seen {
            return true;
        }
        match self.ask(seen, now) {
            Asked::Now => {}
            // Whoever comes while one is under way waits along; the others have to do without.
            Asked::Before { at, after } if after < seen || now.since(at) > limit => return false,
            Asked::Before { .. } => {}
        }
        timeout(limit, number.wait_for(|newest| *newest > seen)).await.is_ok_and(|came| came.is_ok())
    }

    /// Number `seen` is no good: asks for another, unless that was just done, and doesn't wait.
    pub fn ask(&self, seen: u64, now: Tick) -> Asked {
        let mut last = self.last.lock();
        match *last {
            Some((at, after)) if now.since(at) < self.floor => Asked::Before { at, after },
            _ => {
                *last = Some((now, seen));
                self.wake.notify_one();
                Asked::Now
            }
        }
    }

    /// Ends when somebody asks for another than the newest.
    pub async fn wanted(&self) {
        loop {
            self.wake.notified().await;
            // Whoever asked while it was being renewed has what was asked for.
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
        assert_eq!(renewal.ask(0, at(100)), Asked::Now);
        for seconds in [100, 105, 109] {
            assert_eq!(renewal.ask(0, at(seconds)), Asked::Before { at: at(100), after: 0 });
        }
        assert_eq!(renewal.ask(0, at(110)), Asked::Now);
    }

    #[tokio::test]
    async fn whoever_asks_gets_the_next_one_or_none() {
        let renewal = Renewal::new(Duration::from_secs(10));
        let (now, limit) = (Tick(0) + Duration::from_secs(100), Duration::from_millis(20));
        assert!(!renewal.request(0, now, limit).await, "nobody renews it");
        renewal.done();
        assert!(renewal.request(0, now, limit).await, "it was renewed meanwhile");
        assert!(!renewal.request(1, now, Duration::from_secs(60)).await, "the new one is no good either: not asked for again, and no wait");
        let waiting = renewal.request(1, now + Duration::from_secs(11), Duration::from_secs(5));
        let (came, ()) = tokio::join!(waiting, async {
            renewal.wanted().await;
            renewal.done();
        });
        assert!(came);
    }
}
