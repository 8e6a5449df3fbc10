//! Time as the gateway sees it. The only file that reads the system's clocks.

use std::ops::Add;
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
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new()
    }
}

impl Clock {
    /// A clock whose first tick is one hour, so that "an hour ago" is a valid tick.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn new() -> Self {
        Clock { origin: Instant::now() }
    }

    /// Monotonic now.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn now(&self) -> Tick {
        Tick(3_600_000_000_000) + Instant::now().saturating_duration_since(self.origin)
    }

    /// Wall-clock now.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn wall(&self) -> DateTime<Utc> {
        Utc::now()
    }
}
