//! The circuit of the content safety service: while it fails, nobody waits for it.

use parking_lot::Mutex;

use crate::balance::circuit::{Circuit, CircuitRules, ErrorKind, Failure, Phase, Threshold};
use crate::clock::Tick;

/// The circuit, and whether its probe is under way.
#[derive(Debug)]
pub(super) struct Gate {
    rules: CircuitRules,
    state: Mutex<(Circuit, bool)>,
}

/// Leave to ask. Dropped without an end, nothing was learnt.
pub(super) struct Pass<'g> {
    gate: &'g Gate,
    probe: bool,
}

impl Gate {
    pub(super) fn new() -> Self {
        let threshold = Threshold::Percent { percent: 50, min_calls: 10 };
        let trip = std::time::Duration::from_secs(10);
        Gate { rules: CircuitRules { threshold, trip, ..CircuitRules::default() }, state: Mutex::default() }
    }

    /// Leave to ask at `now`, if the service answers or may be probed.
    pub(super) fn enter(&self, now: Tick) -> Option<Pass<'_>> {
        let mut state = self.state.lock();
        let probe = match state.0.phase() {
            Phase::Closed => false,
            Phase::Open { until, .. } if until <= now && !state.1 => true,
            Phase::Open { .. } => return None,
        };
        state.1 |= probe;
        Some(Pass { gate: self, probe })
    }
}

impl Pass<'_> {
    /// How it went; whether that opened or closed the circuit.
    pub(super) fn end(self, good: bool, now: Tick) -> bool {
        let mut state = self.gate.state.lock();
        if good {
            state.0.succeeded(0, self.probe, &self.gate.rules, now)
        } else {
            state.0.failed(Failure::Error(ErrorKind::Timeout), 0, self.probe, None, &self.gate.rules, now)
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.gate.state.lock().1 = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_closes_after_failures_and_lets_one_probe_through() {
        let gate = Gate::new();
        let at = |seconds| Tick::default() + Duration::from_secs(seconds);
        let opened = (0..10).map(|_| gate.enter(at(0)).unwrap().end(false, at(0))).filter(|opened| *opened).count();
        assert_eq!(opened, 1);
        assert!(gate.enter(at(5)).is_none());
        let probe = gate.enter(at(11)).unwrap();
        assert!(gate.enter(at(11)).is_none(), "one at a time");
        drop(probe);
        assert!(gate.enter(at(11)).unwrap().end(true, at(11)));
        assert!(gate.enter(at(11)).is_some() && gate.enter(at(11)).is_some());
    }
}
