//! What a deployment really takes, as Azure documents it: the buckets of `spillway mock`. The gateway sees only their answers.

use std::fmt;
use std::time::Duration;

use crate::clock::Tick;
pub use crate::mock::buckets::Arrival;
use crate::mock::buckets::{Buckets, Foreign, Limits, Ptu};

/// A deployment behind the gateway.
pub trait Deployment: fmt::Debug {
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

/// A deployment as the mock imitates it.
#[derive(Debug)]
pub struct Mocked {
    limits: Limits,
    buckets: Buckets,
}

impl Mocked {
    /// An empty PTU that takes `per_second` input tokens. `foreign`: what others send, as a share of that. `seed` decides when.
    pub fn ptu(per_second: f64, output_ratio: f64, depth: Duration, foreign: f64, seed: u64) -> Self {
        let said = Ptu::new((per_second * 60.0).ceil() as u64);
        let off = per_second / said.per_second();
        let ptu = Ptu { output_ratio, depth, off, foreign, foreign_is: Foreign::Steady, ..said };
        Mocked { limits: Limits { ptu: Some(ptu), ..Limits::default() }, buckets: Buckets::new(seed) }
    }

    /// A pay-as-you-go deployment with a quota of tokens per minute; without one it takes everything.
    pub fn pay_as_you_go(tokens_per_minute: Option<u64>) -> Self {
        Mocked { limits: Limits { tokens_per_minute, ..Limits::default() }, buckets: Buckets::default() }
    }
}

impl Deployment for Mocked {
    fn admit(&mut self, call: &Arrival, now: Tick) -> Result<f64, Duration> {
        match self.buckets.admit(&self.limits, call, now).refused_for {
            Some(wait) => Err(wait),
            None => Ok(self.limits.ptu.map_or(0.0, |ptu| ptu.reserved(call))),
        }
    }

    fn settle(&mut self, reserved: f64, call: &Arrival, output: u64, now: Tick) {
        let used = self.limits.ptu.map_or(0.0, |ptu| ptu.used(call, output));
        self.buckets.settle(&self.limits, reserved, used, now);
    }

    fn work(&mut self, now: Tick) -> Option<(f64, f64)> {
        let ptu = self.limits.ptu?;
        Some((self.buckets.done(&self.limits, now)?.work, ptu.per_second()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Tick {
        Tick(1_793_491_200_000_000_000) + Duration::from_secs_f64(seconds)
    }

    fn hundred_a_second(foreign: f64) -> Mocked {
        Mocked::ptu(100.0, 8.0, Duration::from_secs(10), foreign, 1)
    }

    fn call(prompt: u64, cap: Option<u64>) -> Arrival {
        Arrival { prompt, cached: 0, cap, choices: 1 }
    }

    #[test]
    fn it_takes_what_was_asked_for_to_the_token() {
        let rate = 23_750.7 * 1.15;
        let (_, per_second) = Mocked::ptu(rate, 8.0, Duration::from_secs(10), 0.0, 1).work(at(0.0)).unwrap();
        assert!((per_second - rate).abs() < 1e-9, "{per_second}");
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
        let mut paid = Mocked::pay_as_you_go(Some(1_000));
        assert!(paid.admit(&call(600, Some(300)), at(0.0)).is_ok());
        assert_eq!(paid.admit(&call(1, Some(100)), at(20.0)), Err(Duration::from_secs(40)));
        assert!(paid.admit(&call(1, Some(100)), at(60.0)).is_ok());
        assert!(Mocked::pay_as_you_go(None).admit(&call(u64::MAX, None), at(0.0)).is_ok());
    }
}
