//! Sums by hour.

use std::collections::BTreeMap;
use std::time::Duration;

use spillway_plugins::prices::Money;

use crate::clock::Tick;

/// An hour, in nanoseconds.
pub(super) const HOUR: u64 = 3_600_000_000_000;
/// How much longer a wait is than that of the next shorter bucket.
const STEP: f64 = 1.02;
/// The shortest wait that is told apart from none, in seconds.
const SHORTEST: f64 = 0.001;
/// Buckets of waits: up to a day.
const BUCKETS: usize = 924;

/// What one tier has done.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct TierSums {
    pub(super) requests: u64,
    pub(super) tokens: u64,
    /// What was paid by use.
    pub(super) paid: Money,
    /// Requests whose price is not known.
    pub(super) unpriced: u64,
}

/// The sums of an hour, or of all.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sums {
    /// Requests that arrived.
    pub(super) requests: u64,
    /// Those that no deployment could take.
    pub(super) refused: u64,
    pub(super) tiers: BTreeMap<u32, TierSums>,
    /// Requests of models with a PTU that another deployment served, and their tokens.
    pub(super) spilled: u64,
    pub(super) spilled_tokens: u64,
    /// 429s of PTU deployments, of others.
    pub(super) throttled: [u64; 2],
    pub(super) waits: Waits,
    /// Requests with a deadline, and those that missed it.
    pub(super) deadlines: u64,
    pub(super) missed: u64,
    /// What all would have cost by pay-as-you-go alone, and how many of them have no such price.
    pub(super) alone: Money,
    pub(super) alone_unpriced: u64,
    /// The work of PTU deployments, as seconds of all they could do, by deployment.
    pub(super) busy: BTreeMap<usize, f64>,
}

impl Sums {
    pub(super) fn add(&mut self, other: &Sums) {
        self.requests += other.requests;
        self.refused += other.refused;
        for (tier, sums) in &other.tiers {
            let into = self.tiers.entry(*tier).or_default();
            into.requests += sums.requests;
            into.tokens = into.tokens.saturating_add(sums.tokens);
            into.paid += sums.paid;
            into.unpriced += sums.unpriced;
        }
        self.spilled += other.spilled;
        self.spilled_tokens = self.spilled_tokens.saturating_add(other.spilled_tokens);
        (0..2).for_each(|at| self.throttled[at] += other.throttled[at]);
        self.waits.add(&other.waits);
        self.deadlines += other.deadlines;
        self.missed += other.missed;
        self.alone += other.alone;
        self.alone_unpriced += other.alone_unpriced;
        for (deployment, seconds) in &other.busy {
            *self.busy.entry(*deployment).or_default() += seconds;
        }
    }
}

/// How long requests waited before they were sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Waits {
    none: u64,
    /// By length; empty as long as none has waited.
    by_length: Vec<u32>,
}

impl Waits {
    pub(super) fn note(&mut self, wait: Duration) {
        let seconds = wait.as_secs_f64();
        if seconds < SHORTEST {
            self.none += 1;
            return;
        }
        let bucket = ((seconds / SHORTEST).ln() / STEP.ln()) as usize;
        if self.by_length.is_empty() {
            self.by_length = vec![0; BUCKETS];
        }
        self.by_length[bucket.min(BUCKETS - 1)] += 1;
    }

    /// How many waited.
    pub(super) fn count(&self) -> u64 {
        self.by_length.iter().map(|count| u64::from(*count)).sum()
    }

    /// The wait that this share of requests does not exceed, in seconds; exact to 1 %.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let all = self.none + self.count();
        let mut below = self.none;
        let wanted = (all as f64 * share).ceil() as u64;
        if below >= wanted {
            return 0.0;
        }
        for (bucket, count) in self.by_length.iter().enumerate() {
            below += u64::from(*count);
            if below >= wanted {
                return SHORTEST * STEP.powf(bucket as f64 + 0.5);
            }
        }
        0.0
    }

    fn add(&mut self, other: &Waits) {
        self.none += other.none;
        if self.by_length.is_empty() {
            self.by_length.clone_from(&other.by_length);
        } else {
            self.by_length.iter_mut().zip(&other.by_length).for_each(|(into, more)| *into = into.saturating_add(*more));
        }
    }
}

/// The sums of all hours in which something happened, by the number of the hour since 1970.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) hours: BTreeMap<u64, Sums>,
}

impl Tally {
    /// The sums of the hour of this time.
    pub(super) fn at(&mut self, at: Tick) -> &mut Sums {
        self.hours.entry(at.0 / HOUR).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near() {
        let mut waits = Waits::default();
        for millis in 1..=1000 {
            waits.note(Duration::from_millis(millis));
        }
        let p95 = waits.quantile(0.95);
        assert!((0.94..0.96).contains(&p95), "{p95}");
        let mut all = Waits::default();
        (0..19_000).for_each(|_| all.note(Duration::ZERO));
        all.add(&waits);
        assert_eq!((all.count(), all.quantile(0.95)), (1000, 0.0));
        assert!(all.quantile(0.96) > 0.1);
        waits.note(Duration::MAX);
        assert!(waits.quantile(1.0) > 80_000.0);
        assert_eq!(Waits::default().quantile(0.95), 0.0);
    }
}
