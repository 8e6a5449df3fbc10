//! Time that stands still while anything happens, and jumps to the next moment that somebody waits for when nothing does:
//! ten minutes of timeouts and pauses pass in milliseconds. For rehearsals; a gateway that serves has real time.
//!
//! Who calls [`VirtualTime::jump`] decides when nothing happens any more.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;

/// A time line of its own. Its moments are in nanoseconds, as those of the clock that shows it.
#[derive(Debug)]
pub struct VirtualTime {
    now: AtomicU64,
    sleepers: Mutex<Sleepers>,
}

#[derive(Debug, Default)]
struct Sleepers {
    /// By the moment that each waits for; the number tells apart those that wait for the same one.
    waiting: BTreeMap<(u64, u64), Waker>,
    number: u64,
}

impl VirtualTime {
    /// A time line that begins at `first`.
    pub(crate) fn new(first: u64) -> Self {
        VirtualTime { now: AtomicU64::new(first), sleepers: Mutex::default() }
    }

    /// Now.
    pub fn now(&self) -> u64 {
        self.now.load(Ordering::Acquire)
    }

    /// Goes to the next moment that somebody waits for, and wakes all who wait for it. `false` if nobody waits.
    pub fn jump(&self) -> bool {
        let woken: Vec<Waker> = {
            let mut sleepers = self.sleepers.lock();
            let Some((&(at, _), _)) = sleepers.waiting.first_key_value() else { return false };
            let at = at.max(self.now());
            self.now.store(at, Ordering::Release);
            let later = sleepers.waiting.split_off(&(at.saturating_add(1), 0));
            std::mem::replace(&mut sleepers.waiting, later).into_values().collect()
        };
        woken.into_iter().for_each(Waker::wake);
        true
    }

    /// Waits until `moment`.
    pub fn sleep_until(self: &Arc<Self>, moment: u64) -> VirtualSleep {
        VirtualSleep { time: Arc::clone(self), moment, number: None }
    }
}

/// Waits for a moment. Dropped earlier, it no longer waits.
#[derive(Debug)]
pub struct VirtualSleep {
    time: Arc<VirtualTime>,
    moment: u64,
    number: Option<u64>,
}

impl Future for VirtualSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = &mut *self;
        let mut sleepers = sleep.time.sleepers.lock();
        if sleep.time.now() >= sleep.moment {
            return Poll::Ready(());
        }
        let number = *sleep.number.get_or_insert_with(|| {
            sleepers.number += 1;
            sleepers.number
        });
        sleepers.waiting.insert((sleep.moment, number), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for VirtualSleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.time.sleepers.lock().waiting.remove(&(self.moment, number));
        }
    }
}

/// A time that is not over sooner than a limit; both in virtual time.
pub(crate) async fn within<T>(time: &Arc<VirtualTime>, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let until = time.now().saturating_add(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
    tokio::select! {
        biased;
        done = work => Some(done),
        () = time.sleep_until(until) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time() -> Arc<VirtualTime> {
        Arc::new(VirtualTime::new(1000))
    }

    /// Jumps whenever everything else waits.
    async fn jumping<T>(time: &Arc<VirtualTime>, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = tokio::task::yield_now() => assert!(time.jump(), "nobody waits, and nothing happens"),
            }
        }
    }

    #[tokio::test]
    async fn it_goes_from_one_moment_to_the_next_and_skips_what_lies_between() {
        let time = time();
        let waited = async |nanos: u64| {
            time.sleep_until(1000 + nanos).await;
            time.now()
        };
        let all = async { tokio::join!(waited(50), waited(7), waited(50), waited(0)) };
        assert_eq!(jumping(&time, all).await, (1050, 1007, 1050, 1000));
        assert!(!time.jump(), "nobody waits any more");
    }

    #[tokio::test]
    async fn who_stops_waiting_is_no_moment_to_jump_to() {
        let time = time();
        let long = time.sleep_until(9000);
        assert_eq!(within(&time, Duration::from_nanos(0), long).await, None);
        assert!(!time.jump());
        let limit = within(&time, Duration::from_nanos(500), time.sleep_until(5000));
        assert_eq!(jumping(&time, limit).await, None);
        assert_eq!(time.now(), 1500);
        let in_time = within(&time, Duration::from_nanos(500), time.sleep_until(1600));
        assert_eq!(jumping(&time, in_time).await, Some(()));
    }
}
