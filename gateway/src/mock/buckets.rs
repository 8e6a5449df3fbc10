//! Azure's rate limits as its documentation describes them. Pure: `now` is an argument.

use std::time::Duration;

use crate::clock::Tick;

/// The limits of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// Tokens per minute (pay-as-you-go).
    pub tokens_per_minute: Option<u64>,
    /// Requests per minute (pay-as-you-go).
    pub requests_per_minute: Option<u64>,
    /// Tokens per minute of provisioned throughput (PTU).
    pub provisioned_tokens_per_minute: Option<u64>,
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
/// Seconds' worth of tokens that a PTU accepts in a burst before it is full.
const BURST_SECONDS: f64 = 10.0;

/// The counters of one deployment.
#[derive(Debug, Default)]
pub struct Buckets {
    minute: u64,
    tokens: u64,
    requests: u64,
    slice: u64,
    slice_requests: u64,
    level: f64,
    drained_at: Tick,
}

impl Buckets {
    /// Counts a request of `estimate` tokens (prompt plus completion cap), or refuses it.
    ///
    /// Pay-as-you-go: the estimate is added to a per-minute counter on arrival; requests are
    /// checked in slices of one second (or ten, below 60 a minute), refused ones included.
    /// PTU: a leaky bucket that drains at its rate; full means 429 until it is below 100 % again.
    pub fn admit(&mut self, limits: &Limits, estimate: u64, now: Tick) -> Standing {
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
            if self.tokens + estimate > limit {
                refused = Some(standing.reset);
            } else {
                self.tokens += estimate;
            }
        }
        if let Some(rate) = limits.provisioned_tokens_per_minute.filter(|_| refused.is_none()) {
            let per_second = rate as f64 / 60.0;
            let capacity = per_second * BURST_SECONDS;
            self.drain(per_second, now);
            if self.level >= capacity {
                refused = Some(Duration::from_secs_f64((self.level - capacity) / per_second + 0.05));
            } else {
                self.level += estimate as f64;
            }
            standing.utilisation = Some(self.level / capacity);
        }
        standing.tokens = limits.tokens_per_minute.map(|limit| (limit.saturating_sub(self.tokens), limit));
        standing.requests = limits.requests_per_minute.map(|limit| (limit.saturating_sub(self.requests), limit));
        standing.refused_for = refused;
        standing
    }

    /// Corrects a PTU's estimate once the usage is known; what has leaked before `now` stays leaked.
    pub fn settle(&mut self, limits: &Limits, estimate: u64, used: u64, now: Tick) {
        let Some(rate) = limits.provisioned_tokens_per_minute else { return };
        self.drain(rate as f64 / 60.0, now);
        self.level = (self.level - estimate as f64 + used as f64).max(0.0);
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

    fn drain(&mut self, per_second: f64, now: Tick) {
        self.level = (self.level - now.since(self.drained_at).as_secs_f64() * per_second).max(0.0);
        self.drained_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Tick {
        Tick(MINUTE * 100 + millis * 1_000_000)
    }

    #[test]
    fn tokens_count_by_the_minute() {
        let limits = Limits { tokens_per_minute: Some(100), ..Limits::default() };
        let mut buckets = Buckets::default();
        assert_eq!(buckets.admit(&limits, 60, at(0)).tokens, Some((40, 100)));
        assert_eq!(buckets.admit(&limits, 60, at(20_000)).refused_for, Some(Duration::from_secs(40)));
        assert_eq!(buckets.admit(&limits, 40, at(30_000)).refused_for, None);
        assert_eq!(buckets.admit(&limits, 60, at(60_000)).refused_for, None);
    }

    #[test]
    fn requests_are_checked_in_slices() {
        let limits = Limits { requests_per_minute: Some(600), ..Limits::default() };
        let mut buckets = Buckets::default();
        let admitted = (0..50).filter(|_| buckets.admit(&limits, 1, at(100)).refused_for.is_none()).count();
        assert_eq!(admitted, 10, "600 a minute are ten in any second");
        assert_eq!(buckets.admit(&limits, 1, at(1000)).refused_for, None);
    }

    #[test]
    fn what_leaked_before_an_answer_ended_is_not_taken_back_twice() {
        let limits = Limits { provisioned_tokens_per_minute: Some(6000), ..Limits::default() };
        let mut buckets = Buckets::default();
        let _ = buckets.admit(&limits, 800, at(0));
        // 500 have leaked; the answer used as much as was thought.
        buckets.settle(&limits, 800, 800, at(5000));
        assert_eq!(buckets.admit(&limits, 0, at(5000)).utilisation, Some(0.3));
        buckets.settle(&limits, 0, 400, at(20_000));
        assert_eq!(buckets.admit(&limits, 0, at(20_000)).utilisation, Some(0.4), "used now, and none of it has leaked yet");
    }

    #[test]
    fn a_ptu_leaks() {
        let limits = Limits { provisioned_tokens_per_minute: Some(6000), ..Limits::default() };
        let mut buckets = Buckets::default();
        assert_eq!(buckets.admit(&limits, 1100, at(0)).refused_for, None);
        let refused = buckets.admit(&limits, 1, at(0));
        assert!(refused.utilisation.unwrap() > 1.0 && refused.refused_for.unwrap() > Duration::from_secs(1), "{refused:?}");
        assert_eq!(buckets.admit(&limits, 1, at(1100)).refused_for, None, "100 tokens a second have leaked");
        buckets.settle(&limits, 1100, 100, at(1100));
        assert!(buckets.admit(&limits, 1, at(1100)).utilisation.unwrap() < 0.1);
    }
}
