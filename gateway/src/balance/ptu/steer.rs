//! Who may use a PTU's room: by class, by what the call costs elsewhere, and by its deadline.

use std::time::Duration;

use spillway_plugins::limits::Class;

use super::fading::FadingSum;
use super::twin::{Fit, Twin};
use crate::clock::Tick;

/// How fast the mean price follows.
const FOLLOWS: f64 = 0.02;
/// The time over which arrivals are averaged, in seconds.
const ARRIVALS: u64 = 20;
/// How long before its latest start a batch call goes elsewhere.
const SLACK: Duration = Duration::from_secs(60);
/// The longest wait before the next decision.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The shortest.
const SOON: Duration = Duration::from_millis(5);

/// Which calls get the room first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Prefer {
    /// Those that come first.
    #[default]
    FirstCome,
    /// Those that are dear elsewhere: cheap ones leave some of the depth free for them.
    Savings,
}

/// The rules of one pool.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Which calls get the room first.
    pub prefer: Prefer,
    /// The share of the depth that cheap calls leave free.
    pub cheap_guard: f64,
    /// The share of the depth that batch calls leave free, beside what the level may be above its estimate.
    pub batch_guard: f64,
    /// The drain that the other classes must leave for batch calls, as a share of the configured rate.
    pub batch_drain: f64,
    /// How long a call of each class waits for room, by [`Class`].
    pub patience: [Duration; 3],
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            prefer: Prefer::FirstCome,
            cheap_guard: 0.2,
            batch_guard: 0.6,
            batch_drain: 0.2,
            patience: [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(300)],
        }
    }
}

/// A call that asks for room.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Call {
    /// Its class.
    pub class: Class,
    /// The load that it is expected to be, in seconds of configured capacity.
    pub expected: f64,
    /// What it costs elsewhere, per second of the load that it is expected to be; in any money.
    pub price: f64,
    /// When its answer must be complete.
    pub deadline: Option<Tick>,
    /// How long its answer may take (a 95th percentile).
    pub takes: Duration,
    /// How long it has waited.
    pub waited: Duration,
    /// It asks for the first time: it counts as an arrival.
    pub is_new: bool,
    /// The share of the depth that it must leave free for those who have a share of the PTU.
    pub reserved: f64,
    /// The load that waits before it; `None` if there is no place for it to wait.
    pub queued: Option<f64>,
}

/// Why a call goes elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// There is no room.
    Full,
    /// There is room, but it is kept for calls that cost more elsewhere.
    Cheap,
    /// There is room, but it is kept for those who have a share of the PTU.
    Reserved,
    /// It can't wait: its deadline is near.
    Deadline,
}

impl Why {
    /// All of them, in their order.
    pub const ALL: [Why; 4] = [Why::Full, Why::Cheap, Why::Reserved, Why::Deadline];

    /// Its name in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Why::Full => "full",
            Why::Cheap => "cheap",
            Why::Reserved => "reserved",
            Why::Deadline => "deadline",
        }
    }
}

/// What to do with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Send it to the PTU; `probe`: to find out whether there is room.
    Use {
        /// Whether a refusal is expected.
        probe: bool,
    },
    /// Ask again after this time.
    Wait(Duration),
    /// Send it elsewhere.
    Spill(Why),
}

/// What decisions are based on, beside the twin: mean price and arrivals.
#[derive(Debug, Clone, Copy, Default)]
pub struct Steering {
    /// The mean price of a second of load elsewhere.
    mean_price: Option<f64>,
    /// The load of interactive and standard calls.
    arrivals: FadingSum<ARRIVALS>,
}

impl Steering {
    /// The load of interactive and standard calls that arrives, in seconds per second.
    fn arrivals(&self, now: Tick) -> f64 {
        self.arrivals.per_second(now)
    }

    /// Decides about a call. If it is used, the caller books it with [`Twin::admitted`].
    pub fn decide(&mut self, twin: &mut Twin, rules: &Rules, call: &Call, now: Tick) -> Decision {
        if call.is_new {
            self.note(twin, call, now);
        }
        let batch = call.class == Class::Batch;
        let cheap = rules.prefer == Prefer::Savings && self.mean_price.is_some_and(|mean| call.price < mean);
        let guard = match () {
            () if batch => rules.batch_guard + twin.doubt(),
            () if cheap => rules.cheap_guard,
            () => 0.0,
        };
        let guard = guard.max(call.reserved);
        let open = !batch || twin.drain() - self.arrivals(now) >= rules.batch_drain;
        if open {
            match twin.fits(now, guard, !batch && !cheap) {
                Fit::Fits => return Decision::Use { probe: false },
                Fit::Probe => return Decision::Use { probe: true },
                Fit::Full => {}
            }
        }
        self.wait_or_spill(twin, rules, call, guard, open, now)
    }

    fn wait_or_spill(&self, twin: &Twin, rules: &Rules, call: &Call, guard: f64, open: bool, now: Tick) -> Decision {
        let batch = call.class == Class::Batch;
        let full = if guard > 0.0 && twin.room_in(now, 0.0) == Some(Duration::ZERO) {
            if guard > call.reserved { Why::Cheap } else { Why::Reserved }
        } else {
            Why::Full
        };
        let Some(queued) = call.queued.filter(|queued| *queued >= 0.0) else { return Decision::Spill(full) };
        let mut patience = rules.patience[call.class as usize];
        // To wait pays in proportion to what the call costs elsewhere.
        if let Some(mean) = self.mean_price.filter(|mean| !batch && *mean > 0.0) {
            let share = call.price / mean;
            patience = if share < 1.0 { patience.mul_f64(share.max(0.0)) } else { patience };
        }
        let left = patience.saturating_sub(call.waited);
        if left.is_zero() {
            return Decision::Spill(full);
        }
        let slack = if batch { SLACK } else { Duration::ZERO };
        let latest = call.deadline.map(|deadline| deadline.since(now).saturating_sub(call.takes.saturating_add(slack)));
        if latest == Some(Duration::ZERO) {
            return Decision::Spill(Why::Deadline);
        }
        let room = twin.room_in(now, guard).filter(|_| open);
        let room = room.map(|room| room.saturating_add(Duration::try_from_secs_f64(queued / twin.drain()).unwrap_or(Duration::MAX)));
        match room {
            // Batch calls wait for a valley, foreseeable or not.
            None if !batch => Decision::Spill(full),
            Some(room) if !batch && room > left => Decision::Spill(full),
            Some(room) if !batch && latest.is_some_and(|latest| room > latest) => Decision::Spill(Why::Deadline),
            room => {
                let until = room.unwrap_or(LOOK_AGAIN).clamp(SOON, LOOK_AGAIN);
                Decision::Wait(until.min(left).min(latest.unwrap_or(LOOK_AGAIN)))
            }
        }
    }

    fn note(&mut self, twin: &Twin, call: &Call, now: Tick) {
        if call.price.is_finite() && call.price >= 0.0 {
            let mean = self.mean_price.get_or_insert(call.price);
            *mean += FOLLOWS * (call.price - *mean);
        }
        if call.class != Class::Batch && call.expected.is_finite() && call.expected >= 0.0 {
            self.arrivals.add(call.expected * twin.real(), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Tick = Tick(3_600_000_000_000);

    fn call(class: Class, price: f64) -> Call {
        let (takes, waited) = (Duration::from_secs(5), Duration::ZERO);
        Call { class, expected: 0.3, price, deadline: None, takes, waited, is_new: true, reserved: 0.0, queued: Some(0.0) }
    }

    /// A twin with this much in its bucket of ten seconds, without a probe to spend.
    fn filled(load: f64) -> Twin {
        let mut twin = Twin::new(Duration::from_secs(10), 0.0, NOW);
        let mut saved = twin.saved(NOW);
        (saved.level, saved.spare) = (Some(load - 10.0), 0.0);
        twin.restore(&saved, NOW);
        twin
    }

    fn savings() -> Rules {
        Rules { prefer: Prefer::Savings, ..Rules::default() }
    }

    /// A steering that has seen calls at a mean price of about 1.
    fn at_mean_one() -> Steering {
        Steering { mean_price: Some(1.0), ..Steering::default() }
    }

    #[test]
    fn near_the_line_the_cheap_go_elsewhere() {
        let decide =
            |rules: &Rules, price: f64, load: f64| at_mean_one().decide(&mut filled(load), rules, &call(Class::Interactive, price), NOW);
        assert_eq!(decide(&savings(), 0.5, 2.0), Decision::Use { probe: false });
        assert_eq!(decide(&savings(), 0.5, 5.5), Decision::Spill(Why::Cheap));
        assert_eq!(decide(&savings(), 2.0, 5.5), Decision::Use { probe: false });
        assert_eq!(decide(&savings(), 2.0, 7.5), Decision::Spill(Why::Full));
        assert_eq!(decide(&Rules::default(), 0.5, 5.5), Decision::Use { probe: false }, "first come, first served");
    }

    #[test]
    fn batch_uses_only_what_is_left_over() {
        let decide =
            |steering: &mut Steering, load: f64| steering.decide(&mut filled(load), &Rules::default(), &call(Class::Batch, 1.0), NOW);
        assert_eq!(decide(&mut Steering::default(), 0.2), Decision::Use { probe: false });
        assert!(matches!(decide(&mut Steering::default(), 2.0), Decision::Wait(_)));
        let mut busy = Steering::default();
        busy.arrivals.add(0.9 * ARRIVALS as f64, NOW);
        assert!(matches!(decide(&mut busy, 0.2), Decision::Wait(_)), "the others need the drain");
    }

    #[test]
    fn a_call_waits_as_long_as_its_class_and_its_price_allow() {
        // Its line is at 7 of 10, so 7.5 means half a second.
        let wait =
            |class: Class, price: f64, load: f64| at_mean_one().decide(&mut filled(load), &Rules::default(), &call(class, price), NOW);
        assert_eq!(wait(Class::Interactive, 1.0, 7.5), Decision::Spill(Why::Full));
        assert_eq!(wait(Class::Standard, 1.0, 7.5), Decision::Wait(Duration::from_millis(500)));
        assert_eq!(wait(Class::Standard, 0.3, 7.5), Decision::Spill(Why::Full));
        assert_eq!(wait(Class::Standard, 1.0, 9.0), Decision::Spill(Why::Full));
    }

    #[test]
    fn a_call_that_asks_again_is_no_arrival() {
        let mut steering = Steering::default();
        let first = call(Class::Standard, 1.0);
        steering.decide(&mut filled(5.0), &Rules::default(), &first, NOW);
        let (arrivals, price) = (steering.arrivals(NOW), steering.mean_price);
        assert!(arrivals > 0.0);
        steering.decide(&mut filled(5.0), &Rules::default(), &Call { is_new: false, price: 9.0, ..first }, NOW);
        assert_eq!((steering.arrivals(NOW), steering.mean_price), (arrivals, price));
    }

    #[test]
    fn a_deadline_is_kept() {
        let decide = |class: Class, seconds: u64| {
            let call = Call { deadline: Some(NOW + Duration::from_secs(seconds)), ..call(class, 1.0) };
            at_mean_one().decide(&mut filled(7.5), &Rules::default(), &call, NOW)
        };
        assert_eq!(decide(Class::Standard, 5), Decision::Spill(Why::Deadline));
        assert_eq!(decide(Class::Standard, 6), Decision::Wait(Duration::from_millis(500)));
        assert_eq!(decide(Class::Batch, 64), Decision::Spill(Why::Deadline));
        assert!(matches!(decide(Class::Batch, 66), Decision::Wait(_)));
    }

    #[test]
    fn a_call_without_a_place_in_the_queue_goes_at_once() {
        let call = Call { queued: None, ..call(Class::Batch, 1.0) };
        assert_eq!(Steering::default().decide(&mut filled(9.0), &Rules::default(), &call, NOW), Decision::Spill(Why::Full));
    }

    proptest! {
        #[test]
        fn any_call_gets_a_decision_and_no_wait_is_for_ever(
            class in 0usize..3, expected: f64, price: f64, queued: Option<f64>, waited in 0u64..400, deadline: Option<u64>, load in 0.0..10.0,
        ) {
            let waited = Duration::from_secs(waited);
            let takes = Duration::from_secs(5);
            let call = Call { class: Class::ALL[class], expected, price, deadline: deadline.map(Tick), takes, waited, is_new: waited.is_zero(), reserved: 0.0, queued };
            let mut steering = at_mean_one();
            let rules = savings();
            if let Decision::Wait(time) = steering.decide(&mut filled(load), &rules, &call, NOW) {
                prop_assert!(!time.is_zero() && time <= LOOK_AGAIN && waited + time <= rules.patience[class]);
            }
            prop_assert!(steering.arrivals(NOW).is_finite() && steering.mean_price.is_none_or(f64::is_finite));
        }
    }
}
