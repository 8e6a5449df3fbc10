//! The PTU as it really is; controllers don't know it.

use spillway::balance::ptu::rates::rate_of;
use spillway::mock::buckets::{Limits, Ptu};

use crate::scenario::Scenario;

/// What is hidden from controllers.
#[derive(Debug, Clone, Copy)]
pub struct Truth {
    /// The PTU.
    pub ptu: Ptu,
}

/// What the config says of a PTU of so many units: input tokens per second, and the weight of an output token.
pub fn configured(units: u32) -> (f64, f64) {
    rate_of("gpt-5.1").map_or((0.0, 1.0), |rate| (rate.per_second(units), rate.output_ratio))
}

impl Truth {
    /// Draws a PTU: 20 % more or less than the config says, another weight of output, another reservation.
    pub fn draw(scenario: &Scenario, seed: u64, rng: &mut fastrand::Rng) -> Self {
        let (per_second, output_ratio) = configured(scenario.units);
        Truth {
            ptu: Ptu {
                depth: scenario.depth,
                output_ratio: output_ratio * (0.85 + 0.3 * rng.f64()),
                reserve: [0.125, 0.5, 1.0][rng.usize(0..3)],
                guess: [256, 600, 1_000][rng.usize(0..3)],
                off: if seed.is_multiple_of(2) { 0.8 } else { 1.2 },
                foreign: scenario.foreign,
                ..Ptu::new((per_second * 60.0) as u64)
            },
        }
    }

    /// Its limits while it takes this share of what it took at first.
    pub fn limits(&self, share: f64) -> Limits {
        Limits { ptu: Some(Ptu { off: self.ptu.off * share, ..self.ptu }), ..Limits::default() }
    }
}
