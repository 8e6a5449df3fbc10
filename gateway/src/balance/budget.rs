//! The retry budget: retries after failures are a share of the requests, so that a failing fleet
//! isn't hit with a multiple of its traffic. A floor per second keeps a quiet gateway retrying.
//!
//! Moves away from a throttled target are not retries: they cost the target nothing, and the next
//! one has room.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Tick;

/// Seconds that the budget looks back on.
const WINDOW: u64 = 10;
const SECOND: u64 = 1_000_000_000;

/// One second's counts, packed: the second's number in 32 bits, requests in 20, retries in 12.
#[derive(Debug, Default)]
struct Slot(AtomicU64);

fn pack(second: u64, requests: u64, retries: u64) -> u64 {
    ((second & 0xffff_ffff) << 32) | (requests.min(0xf_ffff) << 12) | retries.min(0xfff)
}

fn unpack(slot: u64) -> (u64, u64, u64) {
    (slot >> 32, (slot >> 12) & 0xf_ffff, slot & 0xfff)
}

/// How many retries are allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetRules {
    /// Retries per request, 0 to 1.
    pub share: f64,
    /// Retries per second that are always allowed.
    pub floor_per_second: u32,
}

impl Default for BudgetRules {
    fn default() -> Self {
        BudgetRules { share: 0.2, floor_per_second: 10 }
    }
}

/// Counts of the last ten seconds. Lock-free; a race over a second's turn can lose a count.
#[derive(Debug, Default)]
pub struct RetryBudget {
    slots: [Slot; WINDOW as usize],
}

impl RetryBudget {
    /// Counts a request.
    pub fn request(&self, now: Tick) {
        self.add(now, 1, 0);
    }

    /// Takes a retry out of the budget, if there is one left.
    pub fn try_retry(&self, rules: &BudgetRules, now: Tick) -> bool {
        let second = (now.0 / SECOND) & 0xffff_ffff;
        let (mut requests, mut retries) = (0, 0);
        for slot in &self.slots {
            let (number, slot_requests, slot_retries) = unpack(slot.0.load(Ordering::Relaxed));
            if second.wrapping_sub(number) < WINDOW {
                requests += slot_requests;
                retries += slot_retries;
            }
        }
        let floor = u64::from(rules.floor_per_second) * WINDOW;
        let allowed = floor.saturating_add((requests as f64 * rules.share) as u64);
        if retries >= allowed {
            return false;
        }
        self.add(now, 0, 1);
        true
    }

    fn add(&self, now: Tick, requests: u64, retries: u64) {
        let second = (now.0 / SECOND) & 0xffff_ffff;
        let slot = &self.slots[(second % WINDOW) as usize].0;
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |packed| {
            let (number, had_requests, had_retries) = unpack(packed);
            Some(if number == second {
                pack(second, had_requests + requests, had_retries + retries)
            } else {
                pack(second, requests, retries)
            })
        });
    }

    /// The time that the budget looks back on.
    pub const WINDOW: Duration = Duration::from_secs(WINDOW);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Tick {
        Tick(seconds * SECOND)
    }

    #[test]
    fn a_share_of_the_requests_and_a_floor() {
        let rules = BudgetRules { share: 0.1, floor_per_second: 1 };
        let budget = RetryBudget::default();
        for i in 0..1000 {
            budget.request(at(100 + i / 100));
        }
        let granted = (0..1000).filter(|_| budget.try_retry(&rules, at(109))).count();
        assert_eq!(granted, 110, "a tenth of 1,000 and one per second");
        assert!(!budget.try_retry(&rules, at(109)));
    }

    #[test]
    fn old_seconds_are_forgotten() {
        let rules = BudgetRules { share: 0.0, floor_per_second: 1 };
        let budget = RetryBudget::default();
        assert_eq!((0..50).filter(|_| budget.try_retry(&rules, at(100))).count(), 10);
        assert!(!budget.try_retry(&rules, at(109)));
        assert!(budget.try_retry(&rules, at(110)));
    }
}
