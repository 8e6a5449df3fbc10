//! Whether the refusals of an hour were above their budget: then a bucket is too small for its calls.

use std::time::Duration;

use crate::clock::Tick;

const HOUR: Duration = Duration::from_secs(3600);
/// How many times their budget refusals must be to be above it, and how many there must be.
const OVER: (f64, u32) = (1.5, 10);

/// The refusals of one hour.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hour {
    since: Tick,
    attempts: u32,
    refusals: u32,
    /// Whether the hour before was above the budget.
    over: bool,
}

impl Hour {
    /// One that begins now.
    pub(super) fn new(now: Tick) -> Self {
        Hour { since: now, attempts: 0, refusals: 0, over: false }
    }

    /// Counts attempts and refusals. `budget`: the share of the attempts that may be refused.
    pub(super) fn count(&mut self, now: Tick, attempts: u32, refusals: u32, budget: f64) {
        if now.since(self.since) >= HOUR {
            let over = self.refusals > OVER.1 && f64::from(self.refusals) > OVER.0 * budget * f64::from(self.attempts);
            *self = Hour { over, ..Hour::new(now) };
        }
        self.attempts = self.attempts.saturating_add(attempts);
        self.refusals = self.refusals.saturating_add(refusals);
    }

    /// Whether the refusals of the hour before were above the budget.
    pub(super) fn was_over(&self, now: Tick) -> bool {
        self.over && now.since(self.since) < 2 * HOUR
    }
}
