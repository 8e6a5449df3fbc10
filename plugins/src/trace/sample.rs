//! Which requests are sampled.
//!
//! A caller that samples its own span asks for this one to be sampled, too; but any caller can send that header, so it
//! is followed only up to a rate. Above it, and without the header, the trace's id decides, so that all systems that
//! decide in this way decide alike.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::context::{Parent, TraceId};

/// The bits of an id that decide: the last 56, which are random if any are.
const BITS: u32 = 56;
const SECOND: u64 = 1_000_000_000;

/// Decides which requests are sampled.
#[derive(Debug)]
pub struct Sampler {
    /// Ids whose last bits are below it are sampled.
    below: u64,
    callers: Bound,
}

impl Sampler {
    /// Samples `share` (0 to 1) of requests without the caller's header, and up to `per_second` of those with it.
    pub fn new(share: f64, per_second: u32) -> Self {
        let whole = 1u64 << BITS;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "within 0 and 2^56")]
        let below = (share.clamp(0.0, 1.0) * whole as f64) as u64;
        Sampler { below, callers: Bound::new(per_second) }
    }

    /// Whether a request is sampled. `random` are bits that its caller did not choose.
    pub fn decide(&self, parent: Option<&Parent>, trace: TraceId, random: u64, now: Duration) -> bool {
        match parent {
            None => self.chance(trace.bits() as u64),
            Some(parent) if !parent.sampled => false,
            // A caller chooses its trace's id: above the rate, that id must not decide.
            Some(_) => self.callers.take(now) || self.chance(random),
        }
    }

    fn chance(&self, bits: u64) -> bool {
        bits & ((1 << BITS) - 1) < self.below
    }
}

/// A rate limiter: so many per second, and as many at once.
#[derive(Debug)]
struct Bound {
    /// Nanoseconds for each.
    each: u64,
    /// The time at which what was taken so far is paid for.
    paid: AtomicU64,
}

impl Bound {
    fn new(per_second: u32) -> Self {
        Bound { each: SECOND.checked_div(u64::from(per_second)).unwrap_or(u64::MAX), paid: AtomicU64::new(0) }
    }

    fn take(&self, now: Duration) -> bool {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let next = |paid: u64| Some(paid.max(now).saturating_add(self.each)).filter(|next| *next <= now.saturating_add(SECOND));
        self.each != u64::MAX && self.paid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::context::SpanId;
    use super::*;

    fn parent(sampled: bool) -> Parent {
        Parent { trace: TraceId::new(1), span: SpanId::new(1), sampled, random: false, state: None }
    }

    /// How many of 10,000 are sampled, with ids that are spread evenly.
    fn told(sampler: &Sampler, parent: Option<&Parent>) -> usize {
        let step = (1u128 << BITS) / 10_000;
        let ids = (0..10_000).map(|number| (number << 100) + number * step + step / 2);
        ids.filter(|id| sampler.decide(parent, TraceId::new(*id), *id as u64, Duration::from_secs(9))).count()
    }

    #[test]
    fn a_share_is_a_share() {
        assert_eq!([0.0, 0.25, 1.0].map(|share| told(&Sampler::new(share, 0), None)), [0, 2500, 10_000]);
        assert_eq!(told(&Sampler::new(1.0, 0), Some(&parent(false))), 0, "a caller that isn't told of");
    }

    #[test]
    fn callers_get_their_wish_up_to_a_rate() {
        assert_eq!(told(&Sampler::new(0.0, 100), Some(&parent(true))), 100);
        assert_eq!(told(&Sampler::new(0.0, 0), Some(&parent(true))), 0);
        let more = told(&Sampler::new(0.25, 100), Some(&parent(true)));
        assert!((2500..=2600).contains(&more), "{more}: past it as anybody");
    }

    proptest! {
        #[test]
        fn no_second_has_more_than_two_seconds_worth(rate in 1u32..500, steps in proptest::collection::vec(0u64..50_000_000, 1..2000)) {
            let bound = Bound::new(rate);
            let (mut now, mut taken) = (Duration::from_secs(5), Vec::new());
            for step in steps {
                now += Duration::from_nanos(step);
                if bound.take(now) {
                    taken.push(now);
                }
            }
            for (at, begin) in taken.iter().enumerate() {
                let within = taken[at..].iter().take_while(|time| **time < *begin + Duration::from_secs(1)).count();
                prop_assert!(within <= 2 * rate as usize, "{within} at {rate}/s");
            }
            prop_assert!(!taken.is_empty());
        }
    }
}
