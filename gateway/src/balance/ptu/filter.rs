//! A Kalman filter over what can't be seen of a bucket: its level, its drain, and what it holds for calls under way.
//!
//! The PTU reserves for a call, until it ends, more or less than the call is expected to use: nobody knows how much of a
//! completion cap, or what guess. So the level that is observed is `level + held × open`, where `level` counts calls by
//! what they are expected to use, and `open` is what is booked for those under way.

/// How uncertain a new filter is: level (as a share of the depth), drain, held share; as standard deviations.
const AT_FIRST: (f64, f64, f64) = (0.1, 0.2, 0.2);
/// What is added to the variances in a second: level, drain, held share.
const DRIFT: (f64, f64, f64) = (0.05, 1.2e-4, 1e-4);
/// An observation that is so many standard deviations off speaks of a change.
const SURPRISE: f64 = 3.0;
/// The variance of the drain after a change.
const CHANGED: f64 = 0.04;
/// An estimate that is so many standard deviations below the line learns nothing from a call that was accepted: calls come
/// often, and what each of them says is what the one before said.
const FAR: f64 = 2.0;
/// Bounds of the drain.
pub(super) const DRAIN: (f64, f64) = (0.1, 1.5);
/// Bounds of the held share.
const HELD: (f64, f64) = (-0.6, 1.0);

/// Estimates and their covariance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filter {
    /// Seconds above the line; calls under way by what they are expected to use.
    pub level: f64,
    /// Seconds per second.
    pub drain: f64,
    /// What the bucket holds beyond that, as a share of what is booked for calls under way.
    pub held: f64,
    /// Covariances: level-level, level-drain, level-held, drain-drain, drain-held, held-held.
    p: [f64; 6],
}

impl Filter {
    /// A filter of a bucket of this depth.
    pub(super) fn new(level: f64, depth: f64) -> Self {
        let (x, k, h) = AT_FIRST;
        let x = x * depth;
        Filter { level, drain: 1.0, held: 0.15, p: [x * x, 0.0, 0.0, k * k, 0.0, h * h] }
    }

    /// Time passes.
    pub(super) fn pass(&mut self, seconds: f64) {
        let [xx, xk, xh, kk, kh, hh] = self.p;
        let dt = seconds;
        self.level -= self.drain * dt;
        self.p = [
            (xx - 2.0 * dt * xk + dt * dt * kk + DRIFT.0 * dt).min(1e4),
            xk - dt * kk,
            xh - dt * kh,
            (kk + DRIFT.1 * dt).min(0.25),
            kh,
            (hh + DRIFT.2 * dt).min(0.25),
        ];
        self.sound();
    }

    /// The level is known to be this, but not why: what is uncertain of it says nothing of the drain.
    pub(super) fn set_level(&mut self, level: f64, deviation: f64) {
        self.level = level;
        let [_, _, _, kk, kh, hh] = self.p;
        self.p = [deviation * deviation, 0.0, 0.0, kk, kh, hh];
    }

    /// The observed level.
    pub(super) fn observed(&self, open: f64) -> f64 {
        self.level + self.held * open
    }

    /// The standard deviation of the observed level.
    pub(super) fn deviation(&self, open: f64) -> f64 {
        let [xx, _, xh, _, _, hh] = self.p;
        (xx + 2.0 * open * xh + open * open * hh).max(1e-6).sqrt()
    }

    /// The standard deviation of the drain.
    pub(super) fn drain_deviation(&self) -> f64 {
        self.p[3].sqrt()
    }

    /// The observed level is `value`, give or take `deviation`. Returns by how much the estimate of it changed.
    pub(super) fn observe(&mut self, value: f64, open: f64, deviation: f64) -> f64 {
        let before = self.observed(open);
        let error = value - before;
        if error.abs() > SURPRISE * (self.deviation(open).powi(2) + deviation * deviation).sqrt() {
            self.p[3] = self.p[3].max(CHANGED);
        }
        let variance = self.deviation(open).powi(2);
        self.update(error, variance + deviation * deviation, 1.0, open);
        self.observed(open) - before
    }

    /// The observed level was below the line when it was thought to be `above`. Returns by how much the estimate changed.
    pub(super) fn below(&mut self, above: f64, open: f64) -> f64 {
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

    /// Moves the estimates by their share of an error, and takes `share` of what the observation explains off the
    /// covariance.
    fn update(&mut self, error: f64, variance: f64, share: f64, open: f64) {
        let [xx, xk, xh, kk, kh, hh] = self.p;
        let gain = [(xx + open * xh) / variance, (xk + open * kh) / variance, (xh + open * hh) / variance];
        self.level += gain[0] * error;
        self.drain += gain[1] * error;
        self.held += gain[2] * error;
        let off = share * variance;
        self.p = [
            xx - off * gain[0] * gain[0],
            xk - off * gain[0] * gain[1],
            xh - off * gain[0] * gain[2],
            kk - off * gain[1] * gain[1],
            kh - off * gain[1] * gain[2],
            hh - off * gain[2] * gain[2],
        ];
        self.sound();
    }

    /// Keeps estimates and covariances within bounds, whatever rounding does.
    fn sound(&mut self) {
        self.drain = if self.drain.is_nan() { 1.0 } else { self.drain.clamp(DRAIN.0, DRAIN.1) };
        self.held = if self.held.is_nan() { 0.15 } else { self.held.clamp(HELD.0, HELD.1) };
        let [xx, xk, xh, kk, kh, hh] = self.p;
        let (xx, kk, hh) = (xx.clamp(1e-4, 1e4), kk.clamp(1e-6, 0.25), hh.clamp(1e-6, 0.25));
        let within = |covariance: f64, a: f64, b: f64| {
            let most = 0.98 * (a * b).sqrt();
            if covariance.is_nan() { 0.0 } else { covariance.clamp(-most, most) }
        };
        self.p = [xx, within(xk, xx, kk), within(xh, xx, hh), kk, within(kh, kk, hh), hh];
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

    /// A bucket that drains `rate` and gets 1.0 a second, seen at its line every so many seconds.
    fn learned(rate: f64, held: f64) -> Filter {
        let mut filter = Filter::new(0.0, 10.0);
        let mut level = 0.0;
        for step in 0..400 {
            let seconds = f64::from(10 + step % 7 * 10);
            let open = f64::from(2 + step % 3 * 4);
            filter.pass(seconds);
            filter.level += seconds;
            level += (1.0 - rate) * seconds;
            filter.observe(level + held * open, open, 0.3);
        }
        filter
    }

    #[test]
    fn drain_and_held_share_are_learned_from_readings() {
        for (rate, held) in [(0.6, 0.5), (1.0, 0.0), (1.3, -0.3)] {
            let filter = learned(rate, held);
            assert!((filter.drain - rate).abs() < 0.05, "{rate}: {}", filter.drain);
            assert!((filter.held - held).abs() < 0.15, "{held}: {}", filter.held);
        }
    }

    #[test]
    fn a_call_that_was_accepted_puts_the_level_below_the_line() {
        let mut filter = Filter::new(3.0, 10.0);
        let deviation = filter.deviation(0.0);
        filter.below(3.0, 0.0);
        assert!(filter.level < 0.0 && filter.deviation(0.0) < deviation, "{filter:?}");
        let mut far = Filter::new(-8.0, 10.0);
        assert_eq!(far.below(-8.0, 0.0), 0.0, "nobody doubted it");
    }

    #[test]
    fn a_cut_normal_distribution_has_the_known_mean() {
        for (at, expected) in [(0.0, 0.797_885), (1.0, 0.287_600), (-2.0, 2.373_22), (-6.0, 6.158)] {
            assert!((hazard(at) - expected).abs() < 0.01, "{at}: {}", hazard(at));
        }
    }

    #[test]
    fn a_surprise_makes_the_drain_doubtful() {
        let mut filter = learned(1.0, 0.0);
        let before = filter.p[3];
        filter.pass(30.0);
        filter.level = 0.0;
        filter.observe(30.0, 0.0, 0.1);
        assert!(filter.drain < 0.9 && before < CHANGED, "{filter:?}");
    }
}
