//! Shares of a PTU: what a consumer, a group or a class is guaranteed of it. What they don't need is lent to all.
//!
//! Calls of a holder that has used less than its share get the room up to the line. All other calls leave a part of the
//! depth free for them. So a holder finds room as long as it stays within its share, however much the others ask for.

use std::sync::Arc;
use std::time::Duration;

use spillway_plugins::limits::Class;

use super::fading::FadingSum;
use crate::clock::Tick;

/// The share of the depth that calls beyond a share leave free.
const LENT_GUARD: f64 = 0.3;
/// The time over which use is averaged, in seconds.
const OVER: u64 = 20;

/// Who has a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// The consumer with this number.
    Consumer(u64),
    /// The group with this number.
    Group(u64),
    /// All consumers of a class.
    Class(Class),
}

/// A share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Who has it.
    pub holder: Holder,
    /// How much of what the PTU takes, 0 to 1.
    pub part: f64,
}

/// Who sends a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Caller {
    /// The number of its consumer.
    pub consumer: u64,
    /// The number of its group, if it is in one.
    pub group: Option<u64>,
    /// Its class.
    pub class: Class,
}

impl Holder {
    fn is(self, caller: &Caller) -> bool {
        match self {
            Holder::Consumer(number) => number == caller.consumer,
            Holder::Group(number) => Some(number) == caller.group,
            Holder::Class(class) => class == caller.class,
        }
    }

    /// A consumer's own share goes before that of its group, and that before the one of its class.
    fn rank(self) -> u8 {
        match self {
            Holder::Consumer(_) => 0,
            Holder::Group(_) => 1,
            Holder::Class(_) => 2,
        }
    }
}

/// The shares of a PTU, and their use.
#[derive(Debug, Clone, Default)]
pub struct Shares {
    shares: Arc<[Share]>,
    /// In seconds of load.
    used: Vec<FadingSum<OVER>>,
}

impl Shares {
    /// Nothing is used yet.
    pub fn new(shares: Arc<[Share]>) -> Self {
        Shares { used: vec![FadingSum::default(); shares.len()], shares }
    }

    /// The share that a caller's calls use, if it has one.
    pub fn of(&self, caller: &Caller) -> Option<usize> {
        let own = self.shares.iter().enumerate().filter(|(_, share)| share.holder.is(caller));
        own.min_by_key(|(_, share)| share.holder.rank()).map(|(index, _)| index)
    }

    /// The share of the depth that a call must leave free. `drain`: what the PTU takes, in seconds per second.
    pub fn guard(&self, share: Option<usize>, drain: f64, now: Tick) -> f64 {
        if self.shares.is_empty() {
            return 0.0;
        }
        let within = share.is_some_and(|share| self.used[share].per_second(now) < self.shares[share].part * drain);
        if within { 0.0 } else { LENT_GUARD }
    }

    /// Corrects what was counted `ago`, by what a call used more or less. What has faded since can't be taken back.
    pub fn correct(&mut self, share: Option<usize>, more: f64, ago: Duration, now: Tick) {
        self.add(share, more * FadingSum::<OVER>::left_after(ago), now);
    }

    /// Counts a call's load for its share; a correction may be negative.
    pub fn add(&mut self, share: Option<usize>, load: f64, now: Tick) {
        if let Some(used) = share.and_then(|share| self.used.get_mut(share)).filter(|_| load.is_finite()) {
            used.add(load, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::ptu::twin::{Fit, Twin};
    use crate::balance::ptu::under_way::Load;

    const NOW: Tick = Tick(3_600_000_000_000);
    const TEN: Caller = Caller { consumer: 10, group: Some(1), class: Class::Standard };

    fn shares(list: &[(Holder, f64)]) -> Shares {
        Shares::new(list.iter().map(|(holder, part)| Share { holder: *holder, part: *part }).collect())
    }

    #[test]
    fn the_closest_share_counts() {
        let all = shares(&[(Holder::Class(Class::Standard), 0.1), (Holder::Group(1), 0.2), (Holder::Consumer(10), 0.3)]);
        assert_eq!(all.of(&TEN), Some(2));
        assert_eq!(all.of(&Caller { consumer: 11, ..TEN }), Some(1));
        assert_eq!(all.of(&Caller { consumer: 11, group: None, ..TEN }), Some(0));
        assert_eq!(all.of(&Caller { consumer: 11, group: None, class: Class::Batch }), None);
    }

    #[test]
    fn without_shares_nobody_leaves_anything_free() {
        assert_eq!(Shares::default().guard(None, 1.0, NOW), 0.0);
    }

    #[test]
    fn a_holder_beyond_its_share_is_as_others() {
        let mut all = shares(&[(Holder::Consumer(10), 0.25)]);
        let own = all.of(&TEN);
        assert_eq!((all.guard(own, 1.0, NOW), all.guard(None, 1.0, NOW)), (0.0, LENT_GUARD));
        all.add(own, 5.1, NOW);
        assert_eq!(all.guard(own, 1.0, NOW), LENT_GUARD, "a quarter of twenty seconds is used");
        assert_eq!(all.guard(own, 1.0, NOW + Duration::from_secs(10)), 0.0);
        all.add(own, -3.0, NOW);
        assert_eq!(all.guard(own, 1.0, NOW), 0.0, "it used less than was booked");
    }

    #[test]
    fn a_correction_takes_back_no_more_than_is_left() {
        let mut all = shares(&[(Holder::Consumer(10), 0.25)]);
        let own = all.of(&TEN);
        let later = NOW + Duration::from_secs(20);
        all.add(own, 10.0, NOW);
        all.add(own, 8.0, NOW);
        all.correct(own, -10.0, Duration::from_secs(20), later);
        assert!((all.used[0].get(later) - 8.0 * (-1.0_f64).exp()).abs() < 1e-9, "the other call's use stays: {:?}", all.used);
    }

    /// Serves two callers that each ask for `asks` of what the PTU takes; returns what each got of it.
    fn serve(all: &mut Shares, asks: [f64; 2], seconds: u64) -> [f64; 2] {
        let (mut twin, mut got, mut rng) = (Twin::new(Duration::from_secs(10), 0.0, NOW), [0.0; 2], fastrand::Rng::with_seed(7));
        let callers = [TEN, Caller { consumer: 11, group: None, ..TEN }];
        let load = 0.2;
        for step in 0..seconds * 100 {
            let now = NOW + Duration::from_millis(10 * step);
            for (who, caller) in callers.iter().enumerate() {
                if rng.f64() >= asks[who] * 0.01 / load {
                    continue;
                }
                let share = all.of(caller);
                let guard = all.guard(share, twin.drain(), now);
                if twin.fits(now, guard, false) == Fit::Fits {
                    let (_, sent) = twin.admitted(now, Load::exact(load));
                    twin.settled(now, sent, Some(load));
                    all.add(share, load, now);
                    got[who] += load / seconds as f64;
                }
            }
        }
        got
    }

    #[test]
    fn a_holder_gets_its_share_whatever_others_ask_for() {
        let held = || shares(&[(Holder::Consumer(10), 0.4)]);
        let [own, other] = serve(&mut held(), [0.35, 5.0], 600);
        assert!(own > 0.33 && other > 0.55, "all that it asked for: {own} {other}");
        let [own, other] = serve(&mut held(), [3.0, 5.0], 600);
        assert!(own > 0.38 && own + other > 0.95, "its share at least: {own} {other}");
        let [own, other] = serve(&mut held(), [0.05, 5.0], 600);
        assert!(own > 0.045 && other > 0.9, "what it doesn't need is lent: {own} {other}");
        let [own, _] = serve(&mut Shares::default(), [0.35, 5.0], 600);
        assert!(own < 0.2, "without a share it gets what is left: {own}");
    }
}
