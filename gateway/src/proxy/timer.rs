//! A timer that costs nothing while things move: it is armed once and re-armed only when it fires
//! too early, not for every piece of an answer.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::Sleep;

use crate::clock::{Clock, Tick};

/// One request's timer.
#[derive(Debug, Default)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    fires: Tick,
}

impl Timer {
    /// Waits until `deadline`. Dropping the future keeps the timer armed for the next wait.
    pub(super) async fn until(&mut self, deadline: Tick, clock: &Clock) {
        loop {
            // Armed at or before the deadline: it fires in time to look again.
            if self.sleep.is_none() || self.fires > deadline {
                self.arm(deadline, clock.now());
            }
            if let Some(sleep) = &mut self.sleep {
                sleep.as_mut().await;
            }
            let now = clock.now();
            if now >= deadline {
                // Fired: whoever waits next arms it anew.
                self.sleep = None;
                return;
            }
            self.arm(deadline, now);
        }
    }

    fn arm(&mut self, deadline: Tick, now: Tick) {
        // A millisecond more, so that rounding never wakes it just before its time.
        let wait = deadline.since(now) + Duration::from_millis(1);
        self.sleep = Some(Box::pin(tokio::time::sleep(wait)));
        self.fires = now + wait;
    }
}
