//! Time as the gateway sees it. The only file that reads the system's clocks.

use std::future::poll_fn;
use std::ops::Add;
use std::pin::pin;
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Utc};

use crate::virtual_time::{self, VirtualTime};

/// A point in monotonic time: nanoseconds since the process's clock began. Fits an atomic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Tick(pub u64);

impl Tick {
    /// A point that never comes.
    pub const NEVER: Tick = Tick(u64::MAX);

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Tick) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Tick {
    type Output = Tick;

    fn add(self, wait: Duration) -> Tick {
        Tick(self.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A duration in whole microseconds, for logs and headers.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A duration in whole milliseconds.
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Reads the clocks.
#[derive(Debug, Clone)]
pub struct Clock {
    origin: Instant,
    /// The time line that it shows instead of the system's, and when that began.
    virtual_time: Option<(Arc<VirtualTime>, DateTime<Utc>)>,
    /// The time of a clock that stands until a test moves it on.
    #[cfg(test)]
    stands_at: Option<Arc<AtomicU64>>,
}

/// The first tick of a clock: one hour, so that "an hour ago" is a valid tick.
const FIRST: Tick = Tick(3_600_000_000_000);

impl Default for Clock {
    fn default() -> Self {
        Clock::new()
    }
}

impl Clock {
    /// A clock that runs. Its seconds begin when those of the wall clock do, as long as nobody sets that: so limits per
    /// minute move on at the same time on all nodes, and in a replay of a ledger.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn new() -> Self {
        let (now, wall) = (Instant::now(), Utc::now());
        let begun = Duration::from_nanos(u64::from(wall.timestamp_subsec_nanos() % 1_000_000_000));
        Clock {
            origin: now.checked_sub(begun).unwrap_or(now),
            virtual_time: None,
            #[cfg(test)]
            stands_at: None,
        }
    }

    /// A clock of virtual time, which begins now, and its time line.
    pub fn on_virtual_time() -> (Self, Arc<VirtualTime>) {
        let time = Arc::new(VirtualTime::new(FIRST.0));
        let real = Clock::new();
        let began = real.wall();
        (Clock { virtual_time: Some((Arc::clone(&time), began)), ..real }, time)
    }

    /// The time line, if it is a virtual one.
    pub(crate) fn virtual_time(&self) -> Option<&Arc<VirtualTime>> {
        self.virtual_time.as_ref().map(|(time, _)| time)
    }

    /// Waits.
    pub async fn sleep(&self, time: Duration) {
        match self.virtual_time() {
            Some(virtual_time) => virtual_time.sleep_until((self.now() + time).0).await,
            None => tokio::time::sleep(time).await,
        }
    }

    /// Does work within a time limit; `None` if that is over. What needs no waiting sets up no timer; the timer is coarse
    /// (10 ms), which costs little.
    pub async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
            return Some(done);
        }
        match self.virtual_time() {
            Some(virtual_time) => virtual_time::within(virtual_time, limit, work).await,
            None => pingora_timeout::timeout(limit, work).await.ok(),
        }
    }

    /// A clock that stands until it is moved on.
    #[cfg(test)]
    pub fn standing() -> Self {
        Clock { stands_at: Some(Arc::new(AtomicU64::new(FIRST.0))), ..Clock::new() }
    }

    /// Moves a clock that stands on, and all of its copies.
    #[cfg(test)]
    pub fn pass(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.stands_at.as_ref().map(|at| at.fetch_add(nanos, Ordering::Relaxed));
    }

    /// Monotonic now.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn now(&self) -> Tick {
        #[cfg(test)]
        if let Some(at) = &self.stands_at {
            return Tick(at.load(Ordering::Relaxed));
        }
        if let Some(time) = self.virtual_time() {
            return Tick(time.now());
        }
        FIRST + Instant::now().saturating_duration_since(self.origin)
    }

    /// Wall-clock now.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn wall(&self) -> DateTime<Utc> {
        #[cfg(test)]
        if self.stands_at.is_some() {
            return STANDING + self.now().since(FIRST);
        }
        match &self.virtual_time {
            Some((time, began)) => *began + Tick(time.now()).since(FIRST),
            None => Utc::now(),
        }
    }

    /// The same, in milliseconds since 1970.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn wall_millis(&self) -> i64 {
        #[cfg(test)]
        if self.stands_at.is_some() {
            return self.wall().timestamp_millis();
        }
        match &self.virtual_time {
            Some(_) => self.wall().timestamp_millis(),
            // Without a calendar's date, which takes longer than reading the clock.
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
        }
    }
}

/// The first moment of a clock that stands: noon of 10 November 2026.
#[cfg(test)]
const STANDING: DateTime<Utc> = match DateTime::from_timestamp(1_794_312_000, 0) {
    Some(noon) => noon,
    None => DateTime::UNIX_EPOCH,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_within_a_limit_is_tried_first_and_then_waited_for() {
        let clock = Clock::new();
        assert_eq!(clock.within(Duration::ZERO, async { 1 }).await, Some(1), "what is there needs no time");
        assert_eq!(clock.within(Duration::from_secs(60), tokio::task::yield_now()).await, Some(()));
        assert_eq!(clock.within(Duration::from_millis(1), std::future::pending::<()>()).await, None);
        let (clock, time) = Clock::on_virtual_time();
        let mut slow = pin!(clock.within(Duration::from_secs(60), std::future::pending::<()>()));
        assert!(poll_fn(|cx| Poll::Ready(slow.as_mut().poll(cx))).await.is_pending());
        assert!(time.jump(), "it waits by its own clock");
        assert_eq!(slow.await, None);
        assert!(!time.jump());
    }
}
