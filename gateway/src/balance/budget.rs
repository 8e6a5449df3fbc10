//! The retry budget: retries after failures are at most a share of the requests, so that a failing fleet doesn't get a
//! multiple of its traffic. A minimum per second lets a gateway with little traffic retry.
//!
//! One consumer always leaves a quarter of the budget to others: its requests may be what makes the fleet fail.
//!
//! Moves away from a throttled target are not retries: they cost the target nothing, and the next target has room.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Tick;
use crate::shares::leaves_room;

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

/// Counts of the last ten seconds. Lock-free: threads that race at the start of a second can lose a count.
#[derive(Debug, Default)]
pub struct RetryBudget {
    slots: [Slot; WINDOW as usize],
    /// The retries of each consumer.
    own: Mutex<HashMap<u64, Recent>>,
}

/// Number of consumers above which retries that are too old to count are removed.
const KEPT: usize = 1024;

/// One consumer's retries: the second, and how many.
#[derive(Debug, Default)]
struct Recent([(u64, u32); WINDOW as usize]);

impl Recent {
    fn retries(&self, second: u64) -> usize {
        self.0.iter().filter(|(number, _)| second.wrapping_sub(*number) < WINDOW).map(|(_, retries)| *retries as usize).sum()
    }

    fn add(&mut self, second: u64) {
        let slot = &mut self.0[(second % WINDOW) as usize];
        *slot = (second, if slot.0 == second { slot.1 + 1 } else { 1 });
    }
}

impl RetryBudget {
    /// Counts a request.
    pub fn request(&self, now: Tick) {
        self.add(now, 1, 0);
    }

    /// Takes one retry of a consumer out of the budget, if it has one left; `by` is 0 if consumers are not told apart.
    pub fn try_retry(&self, rules: &BudgetRules, by: u64, now: Tick) -> bool {
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
        if retries >= allowed || (by != 0 && !self.try_own(by, allowed - retries - 1, second)) {
            return false;
        }
        self.add(now, 0, 1);
        true
    }

    /// Counts a consumer's retry, if that leaves room for others.
    fn try_own(&self, by: u64, free: u64, second: u64) -> bool {
        let mut own = self.own.lock();
        if own.len() >= KEPT && !own.contains_key(&by) {
            own.retain(|_, recent| recent.retries(second) > 0);
        }
        let recent = own.entry(by).or_default();
        let held = recent.retries(second);
        let allowed = held == 0 || leaves_room(held + 1, usize::try_from(free).unwrap_or(usize::MAX));
        if allowed {
            recent.add(second);
        }
        allowed
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
        let granted = (0..1000).filter(|_| budget.try_retry(&rules, 0, at(109))).count();
        assert_eq!(granted, 110, "a tenth of 1,000 and one per second");
        assert!(!budget.try_retry(&rules, 0, at(109)));
    }

    #[test]
    fn one_consumer_leaves_a_quarter() {
        let rules = BudgetRules { share: 0.0, floor_per_second: 4 };
        let budget = RetryBudget::default();
        let granted = |by, second| (0..100).filter(|_| budget.try_retry(&rules, by, at(second))).count();
        assert_eq!((granted(1, 100), granted(1, 109)), (30, 0));
        assert_eq!((granted(2, 109), granted(3, 109), granted(1, 110)), (7, 2, 23));
        let own = budget.own.lock().len();
        assert_eq!(own, 3);
    }

    #[test]
    fn old_seconds_are_forgotten() {
        let rules = BudgetRules { share: 0.0, floor_per_second: 1 };
        let budget = RetryBudget::default();
        assert_eq!((0..50).filter(|_| budget.try_retry(&rules, 0, at(100))).count(), 10);
        assert!(!budget.try_retry(&rules, 0, at(109)));
        assert!(budget.try_retry(&rules, 0, at(110)));
    }
}
