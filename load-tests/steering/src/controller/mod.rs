//! Ways to decide which calls go to the PTU.

use std::time::Duration;

use spillway::clock::Tick;

use crate::call::Call;

mod ceiling;
mod gateways;
mod native;

pub use ceiling::Ceiling;
pub use gateways::Gateways;
pub use native::{Clairvoyant, Native};

/// Where a call goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Way {
    /// To the PTU.
    Ptu,
    /// To a pay-as-you-go deployment.
    Elsewhere,
    /// It asks again after this time.
    Wait(Duration),
}

/// What the world lets a controller know when a call asks.
#[derive(Debug, Clone, Copy)]
pub struct Asking {
    /// Now.
    pub now: Tick,
    /// How long the call has waited.
    pub waited: Duration,
    /// Whether the PTU would refuse it. Only a clairvoyant looks.
    pub full: bool,
}

/// A way to decide.
pub trait Controller {
    /// Where the call goes.
    fn ask(&mut self, id: usize, call: &Call, asking: &Asking) -> Way;
    /// The PTU refused it; `wait` is what is left of the time that the refusal names.
    fn refused(&mut self, _id: usize, _call: &Call, _wait: Duration, _now: Tick) {}
    /// The head of the PTU's answer.
    fn head(&mut self, _id: usize, _call: &Call, _now: Tick) {}
    /// The end of the PTU's answer.
    fn ended(&mut self, _id: usize, _call: &Call, _now: Tick) {}
    /// Five times a second, gateways exchange what they know.
    fn exchange(&mut self, _now: Tick) {}
    /// How full each gateway thinks that the PTU is.
    fn utilisations(&self, _now: Tick) -> Vec<f64> {
        Vec::new()
    }
}

/// The controllers of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Today's reaction to 429.
    Today,
    /// Azure's own spillover.
    Native,
    /// A ceiling of tokens per minute, and 30 s of leave after a refusal.
    Ceiling,
    /// Knows what nobody can know.
    Clairvoyant,
    /// The twin, first come, first served.
    Twin,
    /// The twin; the cheap ones go elsewhere.
    Savings,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] = [Kind::Clairvoyant, Kind::Today, Kind::Native, Kind::Ceiling, Kind::Twin, Kind::Savings];

    /// Its name in tables.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Today => "reaction to 429 (`on-429`)",
            Kind::Native => "Azure's own spillover",
            Kind::Ceiling => "a ceiling by hand, 30 s of leave",
            Kind::Clairvoyant => "a clairvoyant",
            Kind::Twin => "the twin, first come",
            Kind::Savings => "the twin, `savings`",
        }
    }
}
