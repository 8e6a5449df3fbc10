//! The load of calls: what is booked for each, and what it is expected to use.

/// The most load and the highest level, in seconds: what is larger is an error of somebody's.
pub(super) const MOST: f64 = 3600.0;

/// The load of a call, or of several together. In seconds of configured capacity, where nothing else is said.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// What is booked: a completion may be as long as its cap.
    pub booked: f64,
    /// What is expected to be used.
    pub expected: f64,
}

impl Load {
    /// A load that is known.
    pub fn exact(seconds: f64) -> Self {
        Load { booked: seconds, expected: seconds }
    }

    /// The same in another unit, that many of which are one of this one.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Load { booked: self.booked * factor, expected: self.expected * factor }
    }

    /// Neither infinite nor NaN nor negative.
    pub(super) fn sound(self) -> Self {
        Load { booked: bounded(self.booked, 0.0, MOST), expected: bounded(self.expected, 0.0, MOST) }
    }
}

/// Calls under way. What is expected of them is in the level.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct UnderWay(Load);

impl UnderWay {
    pub(super) fn booked(&self) -> f64 {
        self.0.booked
    }

    pub(super) fn add(&mut self, load: Load) {
        self.0 = Load { booked: self.0.booked + load.booked, expected: self.0.expected + load.expected }.sound();
    }

    /// Takes a call out. Returns what of it is in the level.
    pub(super) fn take(&mut self, load: Load) -> f64 {
        let in_level = load.expected.min(self.0.expected);
        self.0 = Load { booked: self.0.booked - load.booked, expected: self.0.expected - in_level }.sound();
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
        let (long, short) = (Load { booked: 3.0, expected: 1.0 }, Load::exact(0.5));
        under_way.add(long);
        under_way.add(short);
        assert_eq!((under_way.take(long), under_way.booked()), (1.0, 0.5));
        assert_eq!((under_way.take(short), under_way.booked()), (0.5, 0.0));
        assert_eq!(under_way.take(short), 0.0, "nothing is under way");
    }
}
