//! What is simulated.

use std::time::Duration;

/// A scenario.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Units of the PTU.
    pub units: u32,
    /// What its bucket holds.
    pub depth: Duration,
    /// Demand of interactive calls, as a share of what the PTU really takes.
    pub demand: f64,
    /// The shapes of calls; each is as frequent as it is named.
    pub shapes: Vec<usize>,
    /// The most that other callers ask for, as a share of what the PTU really takes.
    pub foreign: f64,
    /// Gateways.
    pub nodes: usize,
    /// Minutes.
    pub minutes: usize,
    /// From which minute on the PTU takes which share of what it took at first.
    pub changes: Vec<(usize, f64)>,
    /// Demand of batch calls while they come, as a share of what the PTU really takes.
    pub batch: f64,
    /// The share of a PTU's cached tokens that a pay-as-you-go deployment has cached, too.
    pub cached_elsewhere: f64,
}

impl Default for Scenario {
    fn default() -> Self {
        Scenario {
            units: 300,
            depth: Duration::from_secs(10),
            demand: 1.3,
            shapes: vec![0, 0, 1, 2],
            foreign: 0.2,
            nodes: 2,
            minutes: 40,
            changes: Vec::new(),
            batch: 0.0,
            cached_elsewhere: 0.5,
        }
    }
}
