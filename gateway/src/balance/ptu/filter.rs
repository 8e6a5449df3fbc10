//! A Kalman filter over what can't be seen of a bucket: its level, its drain, and what it reserves for calls under way.
//!
//! The PTU reserves for a call, until it ends, its prompt and a share of its completion cap, or of a call without a cap a
//! guess: nobody knows which share, or which guess. So the level that is observed is
//! `level + share × caps + guess × calls without a cap`, where `level` counts of calls under way their prompts only.

/// How many numbers are estimated: level, drain, the share of a cap, the guess.
const COUNT: usize = 4;
/// How uncertain a new filter is of them (the level: as a share of the depth), as standard deviations.
const AT_FIRST: [f64; COUNT] = [0.1, 0.2, 0.4, 0.4];
/// What is added to the variances in a second.
const DRIFT: [f64; COUNT] = [0.05, 1.2e-4, 1e-5, 1e-5];
/// Bounds of the variances.
const LEAST: [f64; COUNT] = [1e-4, 1e-6, 1e-6, 1e-6];
const MOST: [f64; COUNT] = [1e4, 0.25, 0.25, 0.25];
/// An observation that is so many standard deviations off speaks of a change.
const SURPRISE: f64 = 3.0;
/// The variance of the drain after a change.
const CHANGED: f64 = 0.04;
/// An estimate that is so many standard deviations below the line learns nothing from a call that was accepted: calls come
/// often, and what each of them says is what the one before said.
const FAR: f64 = 2.0;
/// Bounds of the drain.
pub(super) const DRAIN: (f64, f64) = (0.1, 1.5);
/// What is reserved as long as nothing is known: a share of a cap, and a guess in thousands of tokens.
pub(super) const RESERVES: [f64; 2] = [0.4, 0.4];
/// The most of both.
const MOST_RESERVED: [f64; 2] = [1.2, 1.5];

/// What calls under way ask for, beside their prompts, in seconds: completions as long as their caps, and completions of a
/// thousand tokens for calls without a cap.
pub(super) type Open = [f64; 2];

/// Estimates and their covariance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filter {
    /// Seconds above the line, with the prompts of calls under way and without their completions.
    pub level: f64,
    /// Seconds per second.
    pub drain: f64,
    /// What the bucket holds for completions under way, as shares of [`Open`].
    reserves: [f64; 2],
    /// Covariances, in the order level, drain, reservations.
    p: [[f64; COUNT]; COUNT],
}

impl Filter {
    /// A filter of a bucket of this depth.
    pub(super) fn new(level: f64, depth: f64) -> Self {
        let mut p = [[0.0; COUNT]; COUNT];
        (0..COUNT).for_each(|i| p[i][i] = AT_FIRST[i] * AT_FIRST[i]);
        p[0][0] *= depth * depth;
        Filter { level, drain: 1.0, reserves: RESERVES, p }
    }

    /// What is reserved: the share of a cap, and the guess in thousands of tokens.
    pub(super) fn reserves(&self) -> [f64; 2] {
        self.reserves
    }

    /// Takes over what another filter has learned of that.
    pub(super) fn set_reserves(&mut self, reserves: [f64; 2]) {
        self.reserves = reserves;
        self.sound();
    }

    /// What the bucket holds for completions under way.
    pub(super) fn reserved(&self, open: Open) -> f64 {
        self.reserves[0] * open[0] + self.reserves[1] * open[1]
    }

    /// Time passes.
    pub(super) fn pass(&mut self, seconds: f64) {
        self.level -= self.drain * seconds;
        for i in 0..COUNT {
            self.p[0][i] -= seconds * self.p[1][i];
        }
        for (i, drift) in DRIFT.into_iter().enumerate() {
            self.p[i][0] -= seconds * self.p[i][1];
            self.p[i][i] += drift * seconds;
        }
        self.sound();
    }

    /// The level is known to be this, but not why: what is uncertain of it says nothing of the rest.
    pub(super) fn set_level(&mut self, level: f64, deviation: f64) {
        self.level = level;
        for i in 0..COUNT {
            (self.p[0][i], self.p[i][0]) = (0.0, 0.0);
        }
        self.p[0][0] = deviation * deviation;
    }

    /// The observed level.
    pub(super) fn observed(&self, open: Open) -> f64 {
        self.level + self.reserved(open)
    }

    /// The standard deviation of the observed level.
    pub(super) fn deviation(&self, open: Open) -> f64 {
        let [level, _, cap, guess] = self.covariances(open);
        (level + open[0] * cap + open[1] * guess).max(1e-6).sqrt()
    }

    /// The standard deviation of the drain.
    pub(super) fn drain_deviation(&self) -> f64 {
        self.p[1][1].sqrt()
    }

    /// Which share of an error an observation with this deviation takes out, 0 to 1.
    pub(super) fn trust(&self, open: Open, deviation: f64) -> f64 {
        let variance = self.deviation(open).powi(2);
        variance / (variance + deviation * deviation)
    }

    /// The observed level is `value`, give or take `deviation`. Returns by how much the estimate of it changed.
    pub(super) fn observe(&mut self, value: f64, open: Open, deviation: f64) -> f64 {
        let before = self.observed(open);
        let error = value - before;
        let variance = self.deviation(open).powi(2) + deviation * deviation;
        if error.abs() > SURPRISE * variance.sqrt() {
            self.p[1][1] = self.p[1][1].max(CHANGED);
        }
        self.update(error, variance, 1.0, open);
        self.observed(open) - before
    }

    /// The observed level was below the line when it was thought to be `above`. Returns by how much the estimate changed.
    pub(super) fn below(&mut self, above: f64, open: Open) -> f64 {
        let deviation = self.deviation(open);
        let at = -above / deviation;
        if at > FAR {
            return 0.0;
        }
        // The mean and the variance of a normal distribution that is cut off at the line.
        let tail = hazard(at);
        let share = (at * tail + tail * tail).clamp(0.0, 0.99);
        let before = self.observed(open);
        self.update(-deviation * tail, deviation * deviation, share, open);
        self.observed(open) - before
    }

    /// The covariances of each estimate with the observed level.
    fn covariances(&self, open: Open) -> [f64; COUNT] {
        self.p.map(|row| row[0] + row[2] * open[0] + row[3] * open[1])
    }

    /// Moves the estimates by their share of an error, and takes `share` of what the observation explains off the
    /// covariance.
    fn update(&mut self, error: f64, variance: f64, share: f64, open: Open) {
        let gain = self.covariances(open).map(|covariance| covariance / variance);
        self.level += gain[0] * error;
        self.drain += gain[1] * error;
        self.reserves[0] += gain[2] * error;
        self.reserves[1] += gain[3] * error;
        for (i, one) in gain.into_iter().enumerate() {
            for (j, other) in gain.into_iter().enumerate() {
                self.p[i][j] -= share * variance * one * other;
            }
        }
        self.sound();
    }

    /// Keeps estimates and covariances within bounds, whatever rounding does.
    fn sound(&mut self) {
        self.drain = if self.drain.is_nan() { 1.0 } else { self.drain.clamp(DRAIN.0, DRAIN.1) };
        for (i, reserves) in self.reserves.iter_mut().enumerate() {
            *reserves = if reserves.is_nan() { RESERVES[i] } else { reserves.clamp(0.0, MOST_RESERVED[i]) };
        }
        for (i, (least, most)) in LEAST.into_iter().zip(MOST).enumerate() {
            let variance = self.p[i][i];
            self.p[i][i] = if variance.is_nan() { most } else { variance.clamp(least, most) };
        }
        for i in 0..COUNT {
            for j in 0..i {
                let most = 0.98 * (self.p[i][i] * self.p[j][j]).sqrt();
                let both = (self.p[i][j] + self.p[j][i]) / 2.0;
                let both = if both.is_nan() { 0.0 } else { both.clamp(-most, most) };
                (self.p[i][j], self.p[j][i]) = (both, both);
            }
        }
    }
}

/// Density over distribution of the standard normal distribution: how far the mean moves when it is cut off at `at`.
fn hazard(at: f64) -> f64 {
    let density = (-0.5 * at * at).exp() * 0.398_942_280_401_432_7;
    if at < -5.0 {
        // The distribution vanishes; this is its expansion.
        return -at + 1.0 / -at;
    }
    density / distribution(at).max(1e-12)
}

/// The standard normal distribution (Abramowitz and Stegun 26.2.17).
fn distribution(at: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * at.abs());
    let series = t * (0.319_381_53 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let upper = (-0.5 * at * at).exp() * 0.398_942_280_401_432_7 * series;
    if at >= 0.0 { 1.0 - upper } else { upper }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bucket that drains `rate`, reserves that share of a cap and that guess, and gets 1.0 a second, seen at its line every so
    /// many seconds.
    fn learned(rate: f64, reserves: [f64; 2]) -> Filter {
        let mut filter = Filter::new(0.0, 10.0);
        let mut level = 0.0;
        for step in 0..400 {
            let seconds = f64::from(10 + step % 7 * 10);
            let open = [f64::from(2 + step % 3 * 2), f64::from(1 + step % 5)];
            filter.pass(seconds);
            filter.level += seconds;
            level += (1.0 - rate) * seconds;
            filter.observe(level + reserves[0] * open[0] + reserves[1] * open[1], open, 0.3);
        }
        filter
    }

    #[test]
    fn drain_and_reservations_are_learned_from_readings() {
        for (rate, reserves) in [(0.6, [0.5, 0.9]), (1.0, [0.1, 0.3]), (1.3, [1.0, 0.25])] {
            let filter = learned(rate, reserves);
            assert!((filter.drain - rate).abs() < 0.05, "{rate}: {}", filter.drain);
            for (got, expected) in filter.reserves.into_iter().zip(reserves) {
                assert!((got - expected).abs() < 0.15, "{reserves:?}: {:?}", filter.reserves);
            }
        }
    }

    #[test]
    fn a_call_that_was_accepted_puts_the_level_below_the_line() {
        let mut filter = Filter::new(3.0, 10.0);
        let deviation = filter.deviation([0.0; 2]);
        filter.below(3.0, [0.0; 2]);
        assert!(filter.level < 0.0 && filter.deviation([0.0; 2]) < deviation, "{filter:?}");
        let mut far = Filter::new(-8.0, 10.0);
        assert_eq!(far.below(-8.0, [0.0; 2]), 0.0, "nobody doubted it");
    }

    #[test]
    fn a_cut_normal_distribution_has_the_known_mean() {
        for (at, expected) in [(0.0, 0.797_885), (1.0, 0.287_600), (-2.0, 2.373_22), (-6.0, 6.158)] {
            assert!((hazard(at) - expected).abs() < 0.01, "{at}: {}", hazard(at));
        }
    }

    #[test]
    fn a_surprise_makes_the_drain_doubtful() {
        let mut filter = learned(1.0, [0.2, 0.2]);
        let before = filter.drain_deviation();
        filter.pass(30.0);
        filter.level = 0.0;
        filter.observe(30.0, [0.0; 2], 0.1);
        assert!(filter.drain < 0.9 && before < CHANGED.sqrt(), "{filter:?}");
    }
}
