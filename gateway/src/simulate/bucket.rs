//! What a deployment really takes, as Azure documents it. The gateway sees only its answers.
//!
//! PTU: a call is refused while the level is at its line or above. Otherwise what it may need is added: its prompt less
//! what is cached, and its completion cap (or a guess) by the weight of output tokens. When it ends, the difference to what
//! it used is taken off or added. The level drains all the time. Calls that reach it past the gateway use it, too.

use std::time::Duration;

use fastrand::Rng;

use crate::clock::Tick;

/// Completion tokens that are reserved for a call without a cap.
const GUESS: u64 = 256;
/// What is added to the time until the level is below its line.
const ROUNDED_UP: Duration = Duration::from_millis(50);
/// How many calls of others use the whole rate for a second.
const FOREIGN_CALLS: f64 = 4.0;
/// A minute, in nanoseconds.
const MINUTE: u64 = 60_000_000_000;

/// A deployment behind the gateway.
pub trait Deployment: std::fmt::Debug {
    /// Takes a call, and returns what is reserved for it; or refuses it for so long.
    ///
    /// # Errors
    /// How long there is no room.
    fn admit(&mut self, call: &Arrival, now: Tick) -> Result<f64, Duration>;

    /// A call has ended that used this: corrects what was reserved.
    fn settle(&mut self, reserved: f64, call: &Arrival, output: u64, now: Tick);

    /// The work that it has done until `now`, in input tokens, and what it could have done per second; `None` if it isn't
    /// provisioned.
    fn work(&mut self, now: Tick) -> Option<(f64, f64)>;
}

/// A call that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Arrival {
    /// Tokens of its prompt.
    pub prompt: u64,
    /// Those of them that are cached.
    pub cached: u64,
    /// The most tokens of its completions.
    pub cap: Option<u64>,
}

/// A deployment with provisioned throughput.
#[derive(Debug, Clone)]
pub struct Ptu {
    /// Input tokens per second that it really takes.
    per_second: f64,
    output_ratio: f64,
    /// Input tokens that it takes in a burst.
    depth: f64,
    /// What others send, as a share of what it takes.
    foreign: f64,
    foreign_at: Option<Tick>,
    rng: Rng,
    level: f64,
    drained_at: Option<Tick>,
    work: f64,
}

impl Ptu {
    /// An empty one.
    pub fn new(per_second: f64, output_ratio: f64, depth: Duration, foreign: f64, seed: u64) -> Self {
        Ptu {
            per_second,
            output_ratio,
            depth: per_second * depth.as_secs_f64(),
            foreign,
            foreign_at: None,
            rng: Rng::with_seed(seed),
            level: 0.0,
            drained_at: None,
            work: 0.0,
        }
    }

    fn weight(&self, call: &Arrival, output: u64) -> f64 {
        call.prompt.saturating_sub(call.cached) as f64 + self.output_ratio * output as f64
    }

    /// Drains until `now`, and lets others call.
    fn run(&mut self, now: Tick) {
        while self.foreign > 0.0
            && let Some(at) = Some(self.foreign_at.unwrap_or(now)).filter(|at| *at <= now)
        {
            self.drain(at);
            // The first time only starts the clock.
            if self.foreign_at.is_some() && self.level < self.depth {
                self.level += self.per_second / FOREIGN_CALLS * self.exponential();
            }
            let pause = self.exponential() / (self.foreign * FOREIGN_CALLS);
            self.foreign_at = Some(at + Duration::from_secs_f64(pause.clamp(1e-6, 60.0)));
        }
        self.drain(now);
    }

    fn exponential(&mut self) -> f64 {
        -(1.0 - self.rng.f64()).ln()
    }

    fn drain(&mut self, now: Tick) {
        let since = now.since(self.drained_at.unwrap_or(now));
        let drained = (since.as_secs_f64() * self.per_second).min(self.level);
        self.level -= drained;
        self.work += drained;
        self.drained_at = Some(self.drained_at.map_or(now, |at| at.max(now)));
    }
}

impl Deployment for Ptu {
    fn admit(&mut self, call: &Arrival, now: Tick) -> Result<f64, Duration> {
        self.run(now);
        let over = self.level - self.depth;
        if over >= 0.0 {
            return Err(Duration::try_from_secs_f64(over / self.per_second).unwrap_or(Duration::MAX).saturating_add(ROUNDED_UP));
        }
        let reserved = self.weight(call, call.cap.unwrap_or(GUESS));
        self.level += reserved;
        Ok(reserved)
    }

    fn settle(&mut self, reserved: f64, call: &Arrival, output: u64, now: Tick) {
        self.run(now);
        let level = self.level - reserved + self.weight(call, output);
        // What drained of a reservation that was too large was no work.
        self.work += level.min(0.0);
        self.level = level.max(0.0);
    }

    fn work(&mut self, now: Tick) -> Option<(f64, f64)> {
        self.run(now);
        Some((self.work, self.per_second))
    }
}

/// A pay-as-you-go deployment: its quota counts estimates by the minute.
#[derive(Debug, Clone, Default)]
pub struct PayAsYouGo {
    /// Tokens per minute; `None` if it takes everything.
    pub limit: Option<u64>,
    minute: u64,
    tokens: u64,
}

impl PayAsYouGo {
    /// One with this quota.
    pub fn new(limit: Option<u64>) -> Self {
        PayAsYouGo { limit, ..PayAsYouGo::default() }
    }
}

impl Deployment for PayAsYouGo {
    fn admit(&mut self, call: &Arrival, now: Tick) -> Result<f64, Duration> {
        let Some(limit) = self.limit else { return Ok(0.0) };
        if now.0 / MINUTE != self.minute {
            (self.minute, self.tokens) = (now.0 / MINUTE, 0);
        }
        let estimate = call.prompt.saturating_add(call.cap.unwrap_or(GUESS));
        if self.tokens.saturating_add(estimate) > limit {
            return Err(Duration::from_nanos(MINUTE - now.0 % MINUTE));
        }
        self.tokens += estimate;
        Ok(0.0)
    }

    fn settle(&mut self, _reserved: f64, _call: &Arrival, _output: u64, _now: Tick) {}

    fn work(&mut self, _now: Tick) -> Option<(f64, f64)> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Tick {
        Tick(1_793_491_200_000_000_000) + Duration::from_secs_f64(seconds)
    }

    fn hundred_a_second(foreign: f64) -> Ptu {
        Ptu::new(100.0, 8.0, Duration::from_secs(10), foreign, 1)
    }

    fn call(prompt: u64, cap: Option<u64>) -> Arrival {
        Arrival { prompt, cached: 0, cap }
    }

    #[test]
    fn a_call_weighs_what_the_documentation_says() {
        let mut ptu = hundred_a_second(0.0);
        assert_eq!(ptu.admit(&Arrival { cached: 90, ..call(100, Some(20)) }, at(0.0)), Ok(170.0));
        assert_eq!(ptu.admit(&call(100, None), at(0.0)), Ok(100.0 + 8.0 * 256.0));
    }

    #[test]
    fn a_full_one_refuses_until_its_level_is_below_the_line() {
        let mut ptu = hundred_a_second(0.0);
        assert_eq!(ptu.admit(&call(1_100, Some(0)), at(0.0)), Ok(1_100.0));
        assert_eq!(ptu.admit(&call(1, Some(0)), at(0.0)), Err(Duration::from_millis(1_050)));
        assert_eq!(ptu.admit(&call(1, Some(0)), at(1.05)), Ok(1.0));
        let (work, per_second) = ptu.work(at(2.0)).unwrap();
        assert!((work - 200.0).abs() < 1e-6 && per_second == 100.0, "{work}");
    }

    #[test]
    fn what_drains_of_a_reservation_is_no_work() {
        let mut ptu = hundred_a_second(0.0);
        let long = call(0, Some(100));
        let reserved = ptu.admit(&long, at(0.0)).unwrap();
        ptu.settle(reserved, &long, 30, at(6.0));
        assert_eq!(ptu.work(at(10.0)), Some((240.0, 100.0)));
    }

    #[test]
    fn others_take_their_share() {
        let mut ptu = hundred_a_second(0.2);
        for second in 0..10_000 {
            ptu.work(at(f64::from(second)));
        }
        let (work, _) = ptu.work(at(10_000.0)).unwrap();
        assert!((work / 1_000_000.0 - 0.2).abs() < 0.02, "{work}");
    }

    #[test]
    fn a_quota_counts_by_the_minute() {
        let mut paid = PayAsYouGo::new(Some(1_000));
        assert!(paid.admit(&call(600, Some(300)), at(0.0)).is_ok());
        assert_eq!(paid.admit(&call(1, Some(100)), at(20.0)), Err(Duration::from_secs(40)));
        assert!(paid.admit(&call(1, Some(100)), at(60.0)).is_ok());
        assert!(PayAsYouGo::new(None).admit(&call(u64::MAX, None), at(0.0)).is_ok());
    }
}
