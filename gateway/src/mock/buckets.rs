//! Azure's rate limits as its documentation describes them. Pure: `now` is an argument.

use std::time::Duration;

use super::ptu::PtuBucket;
pub use super::ptu::{Arrival, Done, Foreign, Ptu};
use crate::clock::Tick;

/// The limits of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// Tokens per minute (pay-as-you-go).
    pub tokens_per_minute: Option<u64>,
    /// Requests per minute (pay-as-you-go).
    pub requests_per_minute: Option<u64>,
    /// Provisioned throughput.
    pub ptu: Option<Ptu>,
}

/// What is left after a request, and whether it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Standing {
    /// Tokens left in this minute, and the limit.
    pub tokens: Option<(u64, u64)>,
    /// Requests left in this minute, and the limit.
    pub requests: Option<(u64, u64)>,
    /// Time until the minute's counters start again.
    pub reset: Duration,
    /// Utilisation of the provisioned throughput, 1.0 for all of it.
    pub utilisation: Option<f64>,
    /// If the request is refused: for how long.
    pub refused_for: Option<Duration>,
}

const MINUTE: u64 = 60_000_000_000;
/// The completion tokens that Azure assumes for a pay-as-you-go call without a cap.
const ASSUMED_COMPLETION: u64 = 256;

/// The counters of one deployment.
#[derive(Debug)]
pub struct Buckets {
    minute: u64,
    tokens: u64,
    requests: u64,
    slice: u64,
    slice_requests: u64,
    ptu: PtuBucket,
}

impl Default for Buckets {
    fn default() -> Self {
        Buckets::new(0)
    }
}

impl Buckets {
    /// Empty ones; `seed` decides when other callers call.
    pub fn new(seed: u64) -> Self {
        Buckets { minute: 0, tokens: 0, requests: 0, slice: 0, slice_requests: 0, ptu: PtuBucket::new(seed) }
    }

    /// Counts a call, or refuses it.
    ///
    /// Pay-as-you-go: its estimate (prompt plus completion cap) is added to a per-minute counter on arrival; requests are
    /// checked in slices of one second (or ten, below 60 a minute), refused ones included.
    /// PTU: a leaky bucket that drains at its rate; full means 429 until it is below 100 % again.
    pub fn admit(&mut self, limits: &Limits, call: &Arrival, now: Tick) -> Standing {
        let estimate = call.prompt.saturating_add(call.cap.unwrap_or(ASSUMED_COMPLETION).saturating_mul(call.choices.max(1)));
        let minute = now.0 / MINUTE;
        if minute != self.minute {
            (self.minute, self.tokens, self.requests) = (minute, 0, 0);
        }
        let mut standing = Standing { reset: Duration::from_nanos(MINUTE - now.0 % MINUTE), ..Standing::default() };
        let mut refused = None;
        if let Some(limit) = limits.requests_per_minute {
            refused = refused.max(self.count_request(limit, now));
        }
        if let Some(limit) = limits.tokens_per_minute.filter(|_| refused.is_none()) {
            if self.tokens.saturating_add(estimate) > limit {
                refused = Some(standing.reset);
            } else {
                self.tokens += estimate;
            }
        }
        if let Some(ptu) = limits.ptu.filter(|_| refused.is_none()) {
            refused = self.ptu.admit(&ptu, call, now).err();
            standing.utilisation = Some(self.ptu.utilisation(&ptu, now));
        }
        standing.tokens = limits.tokens_per_minute.map(|limit| (limit.saturating_sub(self.tokens), limit));
        standing.requests = limits.requests_per_minute.map(|limit| (limit.saturating_sub(self.requests), limit));
        standing.refused_for = refused;
        standing
    }

    /// Corrects what a PTU reserved for a call, once its usage is known; what has drained before `now` stays drained.
    pub fn settle(&mut self, limits: &Limits, reserved: f64, used: f64, now: Tick) {
        if let Some(ptu) = &limits.ptu {
            self.ptu.settle(ptu, reserved, used, now);
        }
    }

    /// How full the PTU is; 1.0 at the line.
    pub fn utilisation(&mut self, limits: &Limits, now: Tick) -> Option<f64> {
        limits.ptu.as_ref().map(|ptu| self.ptu.utilisation(ptu, now))
    }

    /// What the PTU has done so far.
    pub fn done(&mut self, limits: &Limits, now: Tick) -> Option<Done> {
        limits.ptu.as_ref().map(|ptu| self.ptu.done(ptu, now))
    }

    fn count_request(&mut self, limit: u64, now: Tick) -> Option<Duration> {
        let (width, per_slice) = if limit >= 60 { (1_000_000_000, limit / 60) } else { (10_000_000_000, limit.div_ceil(6)) };
        let slice = now.0 / width;
        if slice != self.slice {
            (self.slice, self.slice_requests) = (slice, 0);
        }
        self.slice_requests += 1;
        self.requests += 1;
        (self.slice_requests > per_slice).then(|| Duration::from_nanos(width - now.0 % width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Tick {
        Tick(MINUTE * 100 + millis * 1_000_000)
    }

    fn tokens(prompt: u64) -> Arrival {
        Arrival { prompt, cached: 0, cap: Some(0), choices: 1 }
    }

    #[test]
    fn tokens_count_by_the_minute() {
        let limits = Limits { tokens_per_minute: Some(100), ..Limits::default() };
        let mut buckets = Buckets::default();
        assert_eq!(buckets.admit(&limits, &tokens(60), at(0)).tokens, Some((40, 100)));
        assert_eq!(buckets.admit(&limits, &tokens(60), at(20_000)).refused_for, Some(Duration::from_secs(40)));
        assert_eq!(buckets.admit(&limits, &tokens(40), at(30_000)).refused_for, None);
        assert_eq!(buckets.admit(&limits, &tokens(60), at(60_000)).refused_for, None);
    }

    #[test]
    fn requests_are_checked_in_slices() {
        let limits = Limits { requests_per_minute: Some(600), ..Limits::default() };
        let mut buckets = Buckets::default();
        let admitted = (0..50).filter(|_| buckets.admit(&limits, &tokens(1), at(100)).refused_for.is_none()).count();
        assert_eq!(admitted, 10, "600 a minute are ten in any second");
        assert_eq!(buckets.admit(&limits, &tokens(1), at(1000)).refused_for, None);
    }

    #[test]
    fn a_ptu_refuses_when_it_is_full() {
        let limits = Limits { ptu: Some(Ptu::new(6000)), ..Limits::default() };
        let mut buckets = Buckets::default();
        assert_eq!(buckets.admit(&limits, &tokens(1100), at(0)).refused_for, None);
        let refused = buckets.admit(&limits, &tokens(1), at(0));
        assert!(refused.utilisation.unwrap() > 1.0 && refused.refused_for.unwrap() > Duration::from_secs(1), "{refused:?}");
        buckets.settle(&limits, 1100.0, 100.0, at(1100));
        assert_eq!(buckets.utilisation(&limits, at(1100)), Some(0.0));
    }
}
