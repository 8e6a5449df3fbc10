//! Peak EWMA of the time to the first token: a rise counts at once, a fall slowly.

use std::time::Duration;

use crate::clock::Tick;

/// Time in which a sample loses about two thirds of its weight.
const DECAY: Duration = Duration::from_secs(10);

/// The average; `None` inside until the first sample.
#[derive(Debug, Clone, Copy, Default)]
pub struct PeakEwma(Option<(f64, Tick)>);

impl PeakEwma {
    /// Adds a sample. A sample above the average replaces it.
    pub fn add(&mut self, sample: Duration, now: Tick) {
        let sample = sample.as_secs_f64();
        let next = match self.0 {
            Some((average, at)) if sample < average => {
                let weight = (-now.since(at).as_secs_f64() / DECAY.as_secs_f64()).exp();
                average * weight + sample * (1.0 - weight)
            }
            _ => sample,
        };
        self.0 = Some((next, now));
    }

    /// The average in seconds, if there was any sample.
    pub fn get(&self) -> Option<f64> {
        self.0.map(|(average, _)| average)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_at_once_and_falls_slowly() {
        let mut ewma = PeakEwma::default();
        assert_eq!(ewma.get(), None);
        ewma.add(Duration::from_millis(100), Tick(0));
        ewma.add(Duration::from_secs(2), Tick(0));
        assert_eq!(ewma.get(), Some(2.0));
        ewma.add(Duration::from_millis(100), Tick(0) + DECAY);
        let fallen = ewma.get().unwrap();
        assert!((0.7..0.9).contains(&fallen), "{fallen}");
    }
}
