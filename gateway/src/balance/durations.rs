//! How long the answers of a model take.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Follows the mean and the mean deviation, as TCP does for round trips. Two threads that add at once may lose one
/// value.
#[derive(Debug, Default)]
pub struct Durations {
    /// In microseconds.
    mean: AtomicU64,
    deviation: AtomicU64,
}

/// One in so many of a new value's difference is taken over.
const SLOWNESS: u64 = 16;

impl Durations {
    /// An answer took this long.
    pub fn add(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX / 4).clamp(1, u64::MAX / 4);
        let mean = self.mean.load(Ordering::Relaxed);
        if mean == 0 {
            self.mean.store(took, Ordering::Relaxed);
            return self.deviation.store(took / 2, Ordering::Relaxed);
        }
        let follow = |from: u64, to: u64| from - from / SLOWNESS + to / SLOWNESS;
        let deviation = follow(self.deviation.load(Ordering::Relaxed), mean.abs_diff(took));
        self.deviation.store(deviation, Ordering::Relaxed);
        self.mean.store(follow(mean, took).max(1), Ordering::Relaxed);
    }

    /// How long nearly all take: the mean and three mean deviations. Zero while nothing is known.
    pub fn most(&self) -> Duration {
        let (mean, deviation) = (self.mean.load(Ordering::Relaxed), self.deviation.load(Ordering::Relaxed));
        Duration::from_micros(mean.saturating_add(deviation.saturating_mul(3)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearly_all_are_shorter() {
        let (durations, mut rng) = (Durations::default(), fastrand::Rng::with_seed(1));
        assert_eq!(durations.most(), Duration::ZERO);
        let mut over = 0;
        for round in 0..5000 {
            let took = Duration::from_secs_f64(-(1.0 - rng.f64()).ln());
            over += usize::from(round >= 1000 && took > durations.most());
            durations.add(took);
        }
        assert!((40..300).contains(&over), "{over} of 4000 took longer");
        durations.add(Duration::MAX);
        assert!(durations.most() > Duration::from_secs(1));
    }
}
