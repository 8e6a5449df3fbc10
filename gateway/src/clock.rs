//! Time as the gateway sees it. The only file that reads the system's clocks.

use std::ops::Add;
#[cfg(test)]
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

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

/// Reads the clocks.
#[derive(Debug, Clone)]
pub struct Clock {
    origin: Instant,
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
            #[cfg(test)]
            stands_at: None,
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
        FIRST + Instant::now().saturating_duration_since(self.origin)
    }

    /// Wall-clock now.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn wall(&self) -> DateTime<Utc> {
        #[cfg(test)]
        if self.stands_at.is_some() {
            return STANDING + self.now().since(FIRST);
        }
        Utc::now()
    }
}

/// The first moment of a clock that stands: noon of 10 November 2026.
#[cfg(test)]
const STANDING: DateTime<Utc> = match DateTime::from_timestamp(1_794_312_000, 0) {
    Some(noon) => noon,
    None => DateTime::UNIX_EPOCH,
};
