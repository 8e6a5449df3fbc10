//! The load of calls: what is booked for each, what it is expected to use, and what a PTU may reserve for it.

/// The most load and the highest level, in seconds: what is larger is an error of somebody's.
pub(super) const MOST: f64 = 3600.0;

/// The load of a call, or of several together. In seconds of configured capacity, where nothing else is said.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// What is booked: a completion may be as long as its cap.
    pub booked: f64,
    /// What is expected to be used.
    pub expected: f64,
    /// The part of that which is the prompt, less what is expected to be cached of it.
    pub prompt: f64,
    /// The completion, if it is as long as the cap that the call has. Zero without a cap.
    pub capped: f64,
    /// A completion of [`GUESS_UNIT`] tokens for each choice, if the call has no cap. Zero with one.
    pub uncapped: f64,
}

/// A guess of a completion's length is counted in so many tokens.
pub const GUESS_UNIT: u64 = 1000;

impl Load {
    /// A load that is known when it is sent.
    pub fn exact(seconds: f64) -> Self {
        Load { booked: seconds, expected: seconds, prompt: seconds, capped: 0.0, uncapped: 0.0 }
    }

    /// The same in another unit, that many of which are one of this one.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        self.map(|part| part * factor)
    }

    /// The load of both.
    #[must_use]
    pub fn plus(self, other: Load) -> Self {
        Load {
            booked: self.booked + other.booked,
            expected: self.expected + other.expected,
            prompt: self.prompt + other.prompt,
            capped: self.capped + other.capped,
            uncapped: self.uncapped + other.uncapped,
        }
    }

    fn map(self, each: impl Fn(f64) -> f64) -> Self {
        Load {
            booked: each(self.booked),
            expected: each(self.expected),
            prompt: each(self.prompt),
            capped: each(self.capped),
            uncapped: each(self.uncapped),
        }
    }

    /// Neither infinite nor NaN nor negative.
    pub(super) fn sound(self) -> Self {
        self.map(|part| bounded(part, 0.0, MOST))
    }
}

/// Calls under way. The prompts that are expected of them are in the level.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct UnderWay(Load);

impl UnderWay {
    /// All of them together.
    pub(super) fn load(&self) -> Load {
        self.0
    }

    pub(super) fn add(&mut self, load: Load) {
        self.0 = self.0.plus(load).sound();
    }

    /// Takes a call out. Returns what of it is in the level.
    pub(super) fn take(&mut self, load: Load) -> f64 {
        let in_level = load.prompt.min(self.0.prompt);
        self.0 = self.0.plus(load.times(-1.0)).sound();
        in_level
    }

    pub(super) fn rescale(&mut self, ratio: f64) {
        self.0 = self.0.times(ratio).sound();
    }
}

/// A number that can't do harm: not infinite, not NaN, within bounds.
pub(super) fn bounded(value: f64, least: f64, most: f64) -> f64 {
    if value.is_nan() { least } else { value.clamp(least, most) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_takes_out_what_it_put_in_whatever_others_did() {
        let mut under_way = UnderWay::default();
        let (long, short) = (Load { booked: 3.0, expected: 1.5, prompt: 1.0, capped: 2.0, uncapped: 0.0 }, Load::exact(0.5));
        under_way.add(long);
        under_way.add(short);
        assert_eq!((under_way.take(long), under_way.load()), (1.0, short));
        assert_eq!((under_way.take(short), under_way.load()), (0.5, Load::default()));
        assert_eq!(under_way.take(short), 0.0, "nothing is under way");
    }
}
