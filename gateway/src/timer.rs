//! A timer that is cheap while data keeps coming: it is armed once, and re-armed only when it fires too early, not for
//! every piece of an answer.
//!
//! It uses Pingora's coarse timers (10 ms). A Tokio timer that is earlier than all others wakes the I/O driver with a
//! system call, which for a proxy would be one per request.

use std::pin::Pin;
use std::time::Duration;

use pingora_timeout::ToTimeout;
use pingora_timeout::fast_timeout::FastTimeout;

use crate::clock::{Clock, Tick};

type Sleep = dyn Future<Output = ()> + Send + Sync;

/// One request's timer.
#[derive(Default)]
pub struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    fires: Tick,
}

impl Timer {
    /// Waits until `deadline`. Dropping the future keeps the timer armed for the next wait.
    pub(crate) async fn until(&mut self, deadline: Tick, clock: &Clock) {
        if let Some(time) = clock.virtual_time() {
            return time.sleep_until(deadline.0).await;
        }
        loop {
            // Armed for the deadline or earlier: it fires in time to check again.
            if self.sleep.is_none() || self.fires > deadline {
                self.arm(deadline, clock.now());
            }
            if let Some(sleep) = &mut self.sleep {
                sleep.as_mut().await;
            }
            let now = clock.now();
            if now >= deadline {
                // Fired: the next wait arms it again.
                self.sleep = None;
                return;
            }
            self.arm(deadline, now);
        }
    }

    fn arm(&mut self, deadline: Tick, now: Tick) {
        // A millisecond more, so that rounding never wakes it just before its time.
        let wait = deadline.since(now) + Duration::from_millis(1);
        self.sleep = Some(FastTimeout::create(wait).timeout());
        self.fires = deadline;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_fires_at_its_deadline_and_not_before() {
        let (clock, mut timer) = (Clock::new(), Timer::default());
        let deadline = clock.now() + Duration::from_millis(40);
        timer.until(deadline, &clock).await;
        assert!(clock.now() >= deadline);
        // One that is over needs no waiting to speak of.
        timer.until(deadline, &clock).await;
        assert!(clock.now() < deadline + Duration::from_secs(5));
    }

    #[tokio::test]
    async fn a_later_deadline_needs_no_other_timer_and_an_earlier_one_does() {
        let (clock, mut timer) = (Clock::new(), Timer::default());
        let begun = clock.now();
        let (long, longer) = (begun + Duration::from_secs(600), begun + Duration::from_secs(1200));
        let wait = async |timer: &mut Timer, until| {
            let _ = tokio::time::timeout(Duration::from_millis(1), timer.until(until, &clock)).await;
        };
        wait(&mut timer, long).await;
        let armed = |timer: &Timer| timer.sleep.as_ref().map(|sleep| std::ptr::from_ref(&**sleep).addr());
        let first = armed(&timer);
        wait(&mut timer, long).await;
        wait(&mut timer, longer).await;
        assert!(first.is_some() && armed(&timer) == first, "it is armed once");
        assert_eq!(timer.fires, long);
        timer.until(begun + Duration::from_millis(20), &clock).await;
        assert!(timer.sleep.is_none() && clock.now() < long);
        // One that is armed too early fires, and is armed again.
        let later = clock.now() + Duration::from_millis(80);
        wait(&mut timer, clock.now() + Duration::from_millis(20)).await;
        timer.until(later, &clock).await;
        assert!(clock.now() >= later);
    }
}
