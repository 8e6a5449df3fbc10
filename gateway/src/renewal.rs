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
        {
            let mut last = self.last.lock();
            match *last {
                // Whoever comes while one is under way waits along; the others have to do without.
                Some((at, after)) if now.since(at) < self.floor => {
                    if after < seen || now.since(at) > limit {
                        return false;
                    }
                }
                _ => {
                    *last = Some((now, seen));
                    self.wake.notify_one();
                }
            }
        }
        timeout(limit, number.wait_for(|newest| *newest > seen)).await.is_ok_and(|came| came.is_ok())
    }

    /// Ends when somebody asks.
    pub async fn wanted(&self) {
        self.wake.notified().await;
    }
}
