//! A sum whose parts fade with time: what happened in the last while.

use std::time::Duration;

use crate::clock::Tick;

/// The sum. After `SECONDS`, about a third of a part is left.
#[derive(Debug, Clone, Copy, Default)]
pub struct FadingSum<const SECONDS: u64> {
    sum: f64,
    at: Tick,
}

impl<const SECONDS: u64> FadingSum<SECONDS> {
    /// What of a part is left after this time, 0 to 1.
    pub fn left_after(passed: Duration) -> f64 {
        (-passed.as_secs_f64() / SECONDS as f64).exp()
    }

    /// The sum at `now`.
    pub fn get(&self, now: Tick) -> f64 {
        self.sum * Self::left_after(now.since(self.at))
    }

    /// The sum per second at `now`: the rate at which parts were added.
    pub fn per_second(&self, now: Tick) -> f64 {
        self.get(now) / SECONDS as f64
    }

    /// Adds a part, which may be negative; the sum never is.
    pub fn add(&mut self, part: f64, now: Tick) {
        self.sum = (self.get(now) + part).max(0.0);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_its_rate() {
        let (mut sum, mut now) = (FadingSum::<20>::default(), Tick(0));
        for _ in 0..2000 {
            now = now + Duration::from_millis(100);
            sum.add(0.3, now);
        }
        assert!((sum.per_second(now) - 3.0).abs() < 0.1, "{sum:?}");
        assert!((sum.get(now + Duration::from_secs(20)) / sum.get(now) - (-1.0_f64).exp()).abs() < 1e-9);
        sum.add(-1e9, now);
        assert_eq!(sum.get(now), 0.0);
    }
}
