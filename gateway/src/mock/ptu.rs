//! The bucket of a provisioned deployment, as Azure's documentation describes it. Pure: `now` is an argument.
//!
//! A call is refused while the level is at its line or above. Otherwise what it is thought to need is added: its prompt
//! less what is cached, and its completion cap (or a guess) by the weight of output tokens. When it ends, the difference to
//! what it used is added or taken off. The level drains all the time. Other callers, if there are some, use it too.

use std::time::Duration;

use crate::clock::Tick;

/// How long a swing of the load of other callers takes, in seconds.
const SWING: f64 = 600.0;
/// How many calls of other callers use the whole rate for a second.
const FOREIGN_CALLS: f64 = 4.0;
/// What is added to the time until the level is below its line.
const ROUNDED_UP: f64 = 0.05;

/// How the load of other callers changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// It swings between its most and nothing, once in ten minutes.
    Swinging,
    /// It is always its most.
    Steady,
}

/// A provisioned deployment. Callers are told nothing of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ptu {
    /// Input tokens per minute that it is said to take.
    pub tokens_per_minute: u64,
    /// How much it takes in a burst, as the time in which that drains.
    pub depth: Duration,
    /// How many input tokens one output token weighs.
    pub output_ratio: f64,
    /// The share of a completion cap's weight that is reserved on arrival.
    pub reserve: f64,
    /// The completion tokens that are reserved for a call without a cap.
    pub guess: u64,
    /// What it really takes, as a share of what it is said to take.
    pub off: f64,
    /// The most that other callers ask for, as a share of what it really takes.
    pub foreign: f64,
    /// How their load changes.
    pub foreign_is: Foreign,
    /// Whether answers tell how full it is. Azure's don't any more.
    pub utilisation_header: bool,
}

impl Ptu {
    /// A deployment that takes so many tokens per minute.
    pub fn new(tokens_per_minute: u64) -> Self {
        Ptu {
            tokens_per_minute,
            depth: Duration::from_secs(10),
            output_ratio: 1.0,
            reserve: 1.0,
            guess: 256,
            off: 1.0,
            foreign: 0.0,
            foreign_is: Foreign::Swinging,
            utilisation_header: false,
        }
    }

    /// Tokens per second that it really takes.
    pub fn per_second(&self) -> f64 {
        self.tokens_per_minute as f64 / 60.0 * self.off
    }

    /// Tokens that it takes in a burst.
    pub fn capacity(&self) -> f64 {
        self.per_second() * self.depth.as_secs_f64()
    }

    /// What other callers ask for, as a share of what it really takes.
    fn foreign_now(&self, now: Tick) -> f64 {
        let phase = now.0 as f64 / 1e9 / SWING * std::f64::consts::TAU;
        match self.foreign_is {
            Foreign::Swinging => self.foreign * (0.5 + 0.5 * phase.sin()),
            Foreign::Steady => self.foreign,
        }
    }

    /// What is reserved for a call, in input tokens.
    pub fn reserved(&self, call: &Arrival) -> f64 {
        let completion = call.cap.map_or(self.guess as f64, |cap| cap as f64 * self.reserve);
        call.input() + self.output_ratio * completion * call.choices.max(1) as f64
    }

    /// What a call used, in input tokens.
    pub fn used(&self, call: &Arrival, output: u64) -> f64 {
        call.input() + self.output_ratio * output as f64
    }
}

/// A call that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Arrival {
    /// Tokens of its prompt.
    pub prompt: u64,
    /// Those of them that are cached.
    pub cached: u64,
    /// The cap of one completion, if it has one.
    pub cap: Option<u64>,
    /// How many completions it asks for.
    pub choices: u64,
}

impl Arrival {
    fn input(&self) -> f64 {
        self.prompt.saturating_sub(self.cached) as f64
    }
}

/// What a bucket has done so far, in input tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Done {
    /// Work that drained.
    pub work: f64,
    /// Work of other callers that was refused.
    pub foreign_refused: f64,
    /// Work of other callers that was accepted.
    pub foreign: f64,
}

/// The level of one bucket, in input tokens.
#[derive(Debug, Clone)]
pub(super) struct PtuBucket {
    level: f64,
    drained_at: Tick,
    /// When other callers call next; `None` before the first.
    foreign_at: Option<Tick>,
    rng: fastrand::Rng,
    done: Done,
}

impl PtuBucket {
    /// An empty bucket; `seed` decides about the calls of others.
    pub(super) fn new(seed: u64) -> Self {
        PtuBucket { level: 0.0, drained_at: Tick(0), foreign_at: None, rng: fastrand::Rng::with_seed(seed), done: Done::default() }
    }

    /// Takes a call, or refuses it for so long.
    pub(super) fn admit(&mut self, ptu: &Ptu, call: &Arrival, now: Tick) -> Result<(), Duration> {
        self.run(ptu, now);
        if let Some(wait) = self.full_for(ptu) {
            return Err(wait);
        }
        self.level += ptu.reserved(call);
        Ok(())
    }

    /// Corrects what was reserved; what has drained before `now` stays drained.
    pub(super) fn settle(&mut self, ptu: &Ptu, reserved: f64, used: f64, now: Tick) {
        self.run(ptu, now);
        let level = self.level - reserved + used;
        // What drained of a reservation that was too large was no work.
        self.done.work += level.min(0.0);
        self.level = level.max(0.0);
    }

    /// How full it is; 1.0 at the line.
    pub(super) fn utilisation(&mut self, ptu: &Ptu, now: Tick) -> f64 {
        self.run(ptu, now);
        self.level / ptu.capacity()
    }

    /// What it has done until `now`.
    pub(super) fn done(&mut self, ptu: &Ptu, now: Tick) -> Done {
        self.run(ptu, now);
        self.done
    }

    fn full_for(&self, ptu: &Ptu) -> Option<Duration> {
        let over = self.level - ptu.capacity();
        (over >= 0.0).then(|| Duration::try_from_secs_f64(over / ptu.per_second() + ROUNDED_UP).unwrap_or(Duration::MAX))
    }

    /// Drains until `now`, and lets other callers call.
    fn run(&mut self, ptu: &Ptu, now: Tick) {
        if ptu.foreign > 0.0 {
            while let Some(at) = Some(self.foreign_at.unwrap_or(now)).filter(|at| *at <= now) {
                self.drain(ptu, at);
                // The first call only starts the clock: an idle bucket has nothing to catch up with.
                if self.foreign_at.is_some() {
                    self.foreign_call(ptu);
                }
                let share = ptu.foreign_now(at).max(0.001);
                let pause = -(1.0 - self.rng.f64()).ln() / (share * FOREIGN_CALLS);
                self.foreign_at = Some(at + Duration::from_secs_f64(pause.min(60.0)));
            }
        }
        self.drain(ptu, now);
    }

    fn foreign_call(&mut self, ptu: &Ptu) {
        let work = ptu.per_second() / FOREIGN_CALLS * -(1.0 - self.rng.f64()).ln();
        if self.full_for(ptu).is_some() {
            self.done.foreign_refused += work;
        } else {
            self.done.foreign += work;
            self.level += work;
        }
    }

    fn drain(&mut self, ptu: &Ptu, now: Tick) {
        let drained = (now.since(self.drained_at).as_secs_f64() * ptu.per_second()).min(self.level);
        self.level -= drained;
        self.done.work += drained;
        self.drained_at = self.drained_at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Tick {
        Tick(3_600_000_000_000) + Duration::from_secs_f64(seconds)
    }

    fn hundred_a_second() -> Ptu {
        Ptu { output_ratio: 8.0, ..Ptu::new(6000) }
    }

    fn call(prompt: u64, cap: Option<u64>) -> Arrival {
        Arrival { prompt, cached: 0, cap, choices: 1 }
    }

    #[test]
    fn output_weighs_more_and_cached_tokens_nothing() {
        let ptu = Ptu { reserve: 0.5, guess: 10, ..hundred_a_second() };
        assert_eq!(ptu.reserved(&call(100, Some(50))), 100.0 + 8.0 * 25.0);
        assert_eq!(ptu.reserved(&call(100, None)), 180.0);
        assert_eq!(ptu.reserved(&Arrival { cached: 90, choices: 2, ..call(100, None) }), 170.0);
        assert_eq!(ptu.used(&Arrival { cached: 90, ..call(100, None) }, 20), 170.0);
    }

    #[test]
    fn what_leaked_before_an_answer_ended_is_not_taken_back_twice() {
        let ptu = hundred_a_second();
        let mut bucket = PtuBucket::new(1);
        bucket.admit(&ptu, &call(800, Some(0)), at(0.0)).unwrap();
        // 500 have leaked; the answer used as much as was thought.
        bucket.settle(&ptu, 800.0, 800.0, at(5.0));
        assert_eq!(bucket.utilisation(&ptu, at(5.0)), 0.3);
        bucket.settle(&ptu, 0.0, 400.0, at(20.0));
        assert_eq!(bucket.utilisation(&ptu, at(20.0)), 0.4, "used now, and none of it has leaked yet");
    }

    #[test]
    fn a_full_bucket_refuses_until_it_is_below_its_line() {
        let ptu = hundred_a_second();
        let mut bucket = PtuBucket::new(1);
        bucket.admit(&ptu, &call(1100, Some(0)), at(0.0)).unwrap();
        let wait = bucket.admit(&ptu, &call(1, None), at(0.0)).unwrap_err();
        assert_eq!(wait, Duration::from_millis(1050));
        bucket.admit(&ptu, &call(1, Some(0)), at(1.05)).unwrap();
        bucket.settle(&ptu, 1100.0, 100.0, at(1.05));
        assert!(bucket.utilisation(&ptu, at(1.05)) < 0.1);
        let half = Ptu { off: 0.5, ..ptu };
        bucket.admit(&half, &call(600, Some(0)), at(1.05)).unwrap();
        assert_eq!(bucket.utilisation(&half, at(1.05)), 1.2);
    }

    #[test]
    fn what_drains_of_a_reservation_is_no_work() {
        let ptu = hundred_a_second();
        let mut bucket = PtuBucket::new(1);
        bucket.admit(&ptu, &call(0, Some(100)), at(0.0)).unwrap();
        bucket.settle(&ptu, 800.0, 300.0, at(6.0));
        assert_eq!(bucket.done(&ptu, at(10.0)).work, 300.0);
    }

    #[test]
    fn other_callers_take_their_share_and_are_refused_too() {
        let ptu = Ptu { foreign: 0.2, ..hundred_a_second() };
        let mut bucket = PtuBucket::new(7);
        for second in 0..6000 {
            bucket.utilisation(&ptu, at(f64::from(second)));
        }
        let free = bucket.done(&ptu, at(6000.0));
        assert!((free.work / 600_000.0 - 0.1).abs() < 0.02 && free.foreign_refused == 0.0, "{free:?}");
        for second in 6000..7000 {
            let _ = bucket.admit(&ptu, &call(200, Some(0)), at(f64::from(second)));
        }
        let full = bucket.done(&ptu, at(7000.0));
        assert!(full.foreign_refused > 0.0 && full.work - free.work > 95_000.0, "{full:?}");
    }
}
