//! How fast codes may be exchanged: a client that makes up codes must not flood the issuer through the gateway.

use std::time::Duration;

use crate::clock::Tick;

/// Exchanges that may happen at once after a quiet time.
const BURST: u32 = 40;
/// Time after which another one may happen: five a second.
const EACH: Duration = Duration::from_millis(200);

/// The pace of exchanges.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When all room is free again.
    free_at: Tick,
}

impl Pace {
    /// Whether another exchange may begin now; if so, it counts.
    pub(super) fn admits(&mut self, now: Tick) -> bool {
        let next = self.free_at.max(now) + EACH;
        let admitted = next.since(now) <= EACH * BURST;
        if admitted {
            self.free_at = next;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_admitted_and_then_five_a_second() {
        let (mut pace, start) = (Pace::default(), Tick(3_600_000_000_000));
        let burst = (0..1000).filter(|_| pace.admits(start)).count();
        assert_eq!(burst, BURST as usize);
        let later = (1..=1000).filter(|step| pace.admits(start + Duration::from_millis(10 * step))).count();
        assert_eq!(later, 50, "in ten seconds");
    }
}
