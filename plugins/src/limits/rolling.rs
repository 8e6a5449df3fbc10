//! Usage in the last minute, in slots of one second.

/// A minute, and the current second: any sixty seconds are within these slots, wherever in a second they begin.
const SLOTS: u64 = 61;

/// Whether usage in `second` still counts at `now`.
pub(super) fn within_a_minute(second: u64, now: u64) -> bool {
    now.saturating_sub(second) < SLOTS
}

/// Usage in the last minute. Memory is fixed; every step takes time in proportion to the seconds since the last one, at
/// most [`SLOTS`].
#[derive(Debug, Clone)]
pub struct Rolling {
    slots: Box<[u64; SLOTS as usize]>,
    /// The newest second with a slot.
    head: u64,
    total: u64,
}

impl Default for Rolling {
    fn default() -> Self {
        Rolling { slots: Box::new([0; SLOTS as usize]), head: 0, total: 0 }
    }
}

impl Rolling {
    /// Removes what is older than a minute at `second`.
    pub fn advance(&mut self, second: u64) {
        let passed = second.saturating_sub(self.head);
        if passed >= SLOTS {
            self.slots.fill(0);
            self.total = 0;
        } else {
            for newer in self.head + 1..=self.head + passed {
                self.total -= std::mem::take(&mut self.slots[(newer % SLOTS) as usize]);
            }
        }
        self.head = self.head.max(second);
    }

    /// Usage in the last minute, as of the last [`Rolling::advance`].
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Adds usage now. Returns the second that it counts for.
    pub fn add(&mut self, amount: u64) -> u64 {
        let amount = amount.min(u64::MAX - self.total);
        self.slots[(self.head % SLOTS) as usize] += amount;
        self.total += amount;
        self.head
    }

    /// Usage in each second that is still stored, as of the last [`Rolling::advance`].
    pub fn used(&self) -> impl Iterator<Item = (u64, u64)> {
        let seconds = self.head.saturating_sub(SLOTS - 1)..=self.head;
        seconds.map(|second| (second, self.slots[(second % SLOTS) as usize])).filter(|(_, amount)| *amount > 0)
    }

    /// Adds usage in `second`, unless that is removed already. A second in the future counts as now.
    pub fn add_at(&mut self, second: u64, amount: u64) {
        let second = second.min(self.head);
        if self.head - second < SLOTS {
            let amount = amount.min(u64::MAX - self.total);
            self.slots[(second % SLOTS) as usize] += amount;
            self.total += amount;
        }
    }

    /// Subtracts what was added in `second`, unless that is removed already.
    pub fn take_back(&mut self, second: u64, amount: u64) {
        if second > self.head || self.head - second >= SLOTS {
            return;
        }
        let slot = &mut self.slots[(second % SLOTS) as usize];
        let amount = amount.min(*slot);
        *slot -= amount;
        self.total -= amount;
    }

    /// In how many seconds at most `most` will be left, if nothing is added: 0 if that is so now.
    pub fn seconds_until(&self, most: u64) -> u64 {
        if most == 0 && self.total > 0 {
            // Until the newest one is removed, which is most often the current second's.
            let is_used = |age: &u64| self.head.checked_sub(*age).is_some_and(|second| self.slots[(second % SLOTS) as usize] > 0);
            return SLOTS - (0..SLOTS).find(is_used).unwrap_or(0);
        }
        let mut left = self.total;
        for age in (0..SLOTS).rev() {
            if left <= most {
                return SLOTS - 1 - age;
            }
            left -= self.head.checked_sub(age).map_or(0, |second| self.slots[(second % SLOTS) as usize]);
        }
        SLOTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_forgotten_when_it_is_over() {
        let mut rolling = Rolling::default();
        rolling.advance(1000);
        rolling.add(7);
        rolling.advance(1060);
        assert_eq!((rolling.total(), rolling.seconds_until(0), rolling.seconds_until(7)), (7, 1, 0));
        rolling.advance(1061);
        assert_eq!(rolling.total(), 0);
        rolling.add(5);
        rolling.take_back(1000, 7);
        assert_eq!(rolling.total(), 5, "what is forgotten can't be taken back");
        rolling.advance(900);
        assert_eq!(rolling.total(), 5, "time doesn't go back");
        rolling.add(u64::MAX);
        assert_eq!(rolling.total(), u64::MAX);
    }

    proptest::proptest! {
        #[test]
        fn it_knows_what_a_list_of_all_would_know(steps in proptest::collection::vec((0u64..20, 0u64..100, proptest::bool::ANY), 1..200)) {
            let mut rolling = Rolling::default();
            let mut all: Vec<(u64, u64)> = Vec::new();
            let mut second = 5;
            for (pause, amount, back) in steps {
                second += pause;
                rolling.advance(second);
                rolling.add(amount);
                all.push((second, amount));
                if back {
                    let half = all.len() / 2;
                    let (then, amount) = all[half];
                    rolling.take_back(then, amount);
                    if second - then < SLOTS {
                        all[half].1 = 0;
                    }
                }
                let sum = |at: u64| all.iter().filter(|(then, _)| at - then < SLOTS).map(|(_, amount)| amount).sum::<u64>();
                proptest::prop_assert_eq!(rolling.total(), sum(second));
                for most in [0, 50] {
                    let wait = rolling.seconds_until(most);
                    proptest::prop_assert!(sum(second + wait) <= most);
                    proptest::prop_assert!(wait == 0 || sum(second + wait - 1) > most);
                }
            }
        }
    }
}
