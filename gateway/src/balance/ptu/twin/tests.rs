use proptest::prelude::*;

use super::*;

const NOW: Tick = Tick(3_600_000_000_000);
const DEPTH: Duration = Duration::from_secs(10);

fn after(seconds: f64) -> Tick {
    NOW + Duration::from_secs_f64(seconds)
}

#[track_caller]
fn assert_near(got: f64, expected: f64) {
    assert!((got - expected).abs() < 0.01, "{got} is not {expected}");
}

fn twin() -> Twin {
    Twin::new(DEPTH, 0.004, NOW)
}

/// The real bucket in the same unit: drains at `rate`, refuses above the line, and holds what drains in ten seconds.
struct Bucket {
    level: f64,
    rate: f64,
}

impl Bucket {
    /// Refuses for so long, or takes the load.
    fn admit(&mut self, load: f64) -> Option<Duration> {
        if self.level >= 0.0 {
            return Some(Duration::from_secs_f64(self.level / self.rate + 0.05));
        }
        self.level += load;
        None
    }
}

/// Calls of 0.25 s, five in a second, against a bucket. Returns the share of calls that were refused, and the share of the
/// rate that was used.
fn run(twin: &mut Twin, bucket: &mut Bucket, seconds: std::ops::Range<u32>) -> (f64, f64) {
    let (mut refused, mut sent, mut used) = (0, 0, 0.0);
    for step in seconds.start * 5..seconds.end * 5 {
        let now = after(f64::from(step) * 0.2);
        bucket.level = (bucket.level - 0.2 * bucket.rate).max(-10.0 * bucket.rate);
        if twin.fits(now, 0.0, true) == Fit::Full {
            continue;
        }
        let (above, load) = twin.admitted(now, Load::exact(0.25));
        sent += 1;
        match bucket.admit(0.25) {
            None => {
                twin.accepted(now, above);
                twin.settled(now, load, Some(0.25));
                used += 0.25;
            }
            Some(wait) => {
                refused += 1;
                twin.settled(now, load, Some(0.0));
                twin.refused(now, wait);
            }
        }
    }
    (f64::from(refused) / f64::from(sent.max(1)), used / (f64::from(seconds.end - seconds.start) * bucket.rate))
}

#[test]
fn an_empty_bucket_takes_a_burst_up_to_the_margin() {
    let mut twin = twin();
    let mut sent = 0;
    while twin.fits(NOW, 0.0, false) == Fit::Fits {
        twin.admitted(NOW, Load::exact(1.0));
        twin.settled(NOW, Load::exact(1.0), Some(1.0));
        sent += 1;
    }
    assert_eq!(sent, 7);
    assert_near(twin.fill(NOW), 0.7);
    assert_near(twin.fill(after(1.0)), 0.6);
    assert!(twin.room_in(NOW, 0.0).unwrap() < Duration::from_millis(1));
    assert_near(twin.room_in(NOW, 0.3).unwrap().as_secs_f64(), 3.0);
}

#[test]
fn a_refusal_sets_the_level_right() {
    let mut twin = twin();
    let (above, load) = twin.admitted(NOW, Load::exact(0.5));
    assert!(above < 0.0);
    twin.settled(NOW, load, Some(0.0));
    twin.refused(NOW, Duration::from_secs(2));
    assert_near(twin.fill(NOW), 1.2);
    let room = twin.room_in(NOW, 0.0).unwrap().as_secs_f64();
    assert!((4.9..5.1).contains(&room), "{room}");
    assert_eq!(twin.fits(after(1.9), 0.0, true), Fit::Full, "it said when");
    assert_near(twin.drain(), 1.0);
    assert_eq!(twin.real(), 1.0, "a refused call says nothing of what calls use");
}

#[test]
fn a_drain_that_is_off_is_learned_and_the_bucket_stays_full() {
    for rate in [0.4, 0.8, 1.0, 1.2] {
        let mut twin = twin();
        let mut bucket = Bucket { level: -10.0, rate };
        run(&mut twin, &mut bucket, 0..600);
        let (refused, used) = run(&mut twin, &mut bucket, 600..3000);
        // At 0.4 the bucket holds 16 calls: there, one in a hundred.
        assert!(refused < 0.012, "{rate}: {refused} refused");
        assert!(used > 0.96, "{rate}: {used} used");
        assert!((twin.drain() - rate).abs() < 0.1, "{rate}: {}", twin.drain());
    }
}

#[test]
fn a_twin_that_is_wrong_recovers() {
    for (level, drain) in [(3600.0, 0.1), (-10.0, 1.5), (0.0, 0.1)] {
        let mut twin = twin();
        twin.restore(&Saved { level: Some(level), drain, reserves: [1.0; 2], used: 0.01, size: 0.0, spare: -3.0 }, NOW);
        let mut bucket = Bucket { level: -10.0, rate: 0.9 };
        run(&mut twin, &mut bucket, 0..3600);
        let (refused, used) = run(&mut twin, &mut bucket, 3600..5400);
        assert!(refused < 0.02 && used > 0.9, "{level}/{drain}: {refused} refused, {used} used, drain {}", twin.drain());
    }
}

#[test]
fn a_probe_is_sent_only_while_a_refusal_may_be_spent() {
    let mut twin = twin();
    let full = |twin: &mut Twin| {
        let mut saved = twin.saved(NOW);
        saved.level = Some(-1.0);
        twin.restore(&saved, NOW);
    };
    full(&mut twin);
    assert!((0..100).any(|_| twin.fits(NOW, 0.0, true) == Fit::Probe));
    for _ in 0..20 {
        twin.refused(NOW, Duration::ZERO);
    }
    full(&mut twin);
    assert!((0..100).all(|_| twin.fits(NOW, 0.0, true) == Fit::Full), "refusals are owed");
    full(&mut twin);
    assert!((0..100).all(|_| twin.fits(NOW, 0.0, false) == Fit::Full));
}

#[test]
fn what_other_nodes_send_counts() {
    let (mut here, mut there) = (twin(), twin());
    there.admitted(NOW, Load::exact(4.0));
    here.peer_admitted(NOW, Load::exact(4.0));
    assert_eq!(here.fill(NOW), there.fill(NOW));
    here.peer_settled(NOW, Load::exact(4.0), Some(1.0));
    there.settled(NOW, Load::exact(4.0), Some(1.0));
    assert_eq!(here.fill(NOW), there.fill(NOW));
    here.peer_refused(NOW, Duration::from_secs(1), Duration::ZERO, 0.5);
    assert!((1.0..1.15).contains(&here.fill(NOW)), "{}", here.fill(NOW));
    assert_eq!(here.drain(), 0.5);
    here.peers_lost(NOW, 2);
    assert_eq!(here.drain(), 0.25);
}

#[test]
fn a_changed_capacity_rescales_what_is_known() {
    let mut twin = twin();
    twin.admitted(NOW, Load::exact(4.0));
    twin.settled(NOW, Load::exact(4.0), Some(4.0));
    twin.rescale(0.5);
    assert_eq!(twin.saved(NOW).level, Some(-8.0), "half of the load, in the same depth");
}

#[test]
fn a_restart_meets_the_bucket_with_a_probe() {
    let mut old = twin();
    old.refused(NOW, Duration::from_secs(1));
    let saved = old.saved(NOW);
    let mut heir = twin();
    heir.restore(&saved, NOW);
    assert_eq!(heir.saved(NOW), saved);
    let text = serde_json::to_string(&saved.without_level()).unwrap();
    let mut restarted = twin();
    restarted.restore(&serde_json::from_str(&text).unwrap(), NOW);
    assert_near(restarted.fill(NOW), 0.7);
    assert_eq!(restarted.fits(NOW, 0.0, false), Fit::Full);
}

#[test]
fn warnings_say_what_is_wrong() {
    let mut twin = twin();
    assert!(!twin.is_implausible(NOW) && !twin.is_too_coarse(NOW));
    twin.peer_refused(NOW, Duration::ZERO, Duration::ZERO, 0.0);
    assert!(!twin.is_implausible(after(599.0)) && twin.is_implausible(after(600.0)));
    twin.peer_refused(after(600.0), Duration::ZERO, Duration::ZERO, 0.5);
    assert!(!twin.is_implausible(after(1300.0)));
    for _ in 0..200 {
        twin.admitted(after(600.0), Load::exact(5.0));
        twin.settled(after(600.0), Load::exact(5.0), Some(5.0));
    }
    assert!(twin.is_too_coarse(after(600.0)), "the bucket holds two calls");
}

#[test]
fn an_hour_above_the_budget_is_too_coarse() {
    let mut twin = twin();
    for second in 0..3700 {
        let now = after(f64::from(second));
        twin.admitted(now, Load::exact(0.1));
        twin.settled(now, Load::exact(0.1), Some(0.1));
        if second % 50 == 0 {
            twin.refused(now, Duration::from_millis(100));
        }
    }
    assert!(twin.is_too_coarse(after(3700.0)));
}

#[derive(Debug, Clone)]
enum Input {
    Fits(f64, bool),
    Admitted(Load),
    Accepted(f64),
    Settled(Load, Option<f64>),
    Refused(u64),
    PeerAdmitted(Load),
    PeerSettled(Load, Option<f64>),
    PeerRefused(u64, f64),
    PeersLost(u32),
    Told(u64, f64),
    Rescale(f64),
    Restore(Option<f64>, [f64; 6]),
}

fn any_load([booked, expected, prompt, capped, uncapped]: [f64; 5]) -> Load {
    Load { booked, expected, prompt, capped, uncapped }
}

fn input() -> impl Strategy<Value = Input> {
    let any = proptest::num::f64::ANY;
    let some = || proptest::option::of(any);
    let load = || proptest::array::uniform5(any).prop_map(any_load);
    let usual = || proptest::array::uniform5(0.0..2.0).prop_map(any_load);
    prop_oneof![
        (any, proptest::bool::ANY).prop_map(|(guard, probe)| Input::Fits(guard, probe)),
        load().prop_map(Input::Admitted),
        usual().prop_map(Input::Admitted),
        any.prop_map(Input::Accepted),
        (load(), some()).prop_map(|(load, used)| Input::Settled(load, used)),
        (usual(), proptest::option::of(0.0..2.0)).prop_map(|(load, used)| Input::Settled(load, used)),
        (0u64..).prop_map(Input::Refused),
        (0u64..5_000).prop_map(Input::Refused),
        load().prop_map(Input::PeerAdmitted),
        (load(), some()).prop_map(|(load, used)| Input::PeerSettled(load, used)),
        (0u64.., any).prop_map(|(wait, drain)| Input::PeerRefused(wait, drain)),
        (0u32..9).prop_map(Input::PeersLost),
        (0u64.., any).prop_map(|(at, more)| Input::Told(at, more)),
        any.prop_map(Input::Rescale),
        (some(), proptest::array::uniform6(any)).prop_map(|(level, rest)| Input::Restore(level, rest)),
    ]
}

proptest! {
    #[test]
    fn no_input_and_no_clock_breaks_it(inputs in proptest::collection::vec((input(), proptest::option::of(0u64..)), 1..200)) {
        let mut twin = twin();
        let mut now = NOW;
        for (input, jump) in inputs {
            // A second later, or at any time, also an earlier one.
            now = jump.map_or(now + Duration::from_secs(1), Tick);
            match input {
                Input::Fits(guard, probe) => { twin.fits(now, guard, probe); }
                Input::Admitted(load) => { twin.admitted(now, load); }
                Input::Accepted(above) => twin.accepted(now, above),
                Input::Settled(load, used) => twin.settled(now, load, used),
                Input::Refused(wait) => twin.refused(now, Duration::from_millis(wait)),
                Input::PeerAdmitted(load) => { twin.peer_admitted(now, load); twin.peer_accepted(now, load.booked); }
                Input::PeerSettled(load, used) => twin.peer_settled(now, load, used),
                Input::PeerRefused(wait, drain) => twin.peer_refused(now, Duration::from_millis(wait), Duration::from_millis(wait / 2), drain),
                Input::PeersLost(nodes) => twin.peers_lost(now, nodes),
                Input::Rescale(ratio) => twin.rescale(ratio),
                Input::Restore(level, [drain, cap, guess, used, size, spare]) => twin.restore(&Saved { level, drain, reserves: [cap, guess], used, size, spare }, now),
                Input::Told(at, more) => { let told = twin.told(Tick(at), more); twin.take_off(now, told); }
            }
            let saved = twin.saved(now);
            let level = saved.level.unwrap();
            prop_assert!((-HOLDS.1 * twin.depth()..=MOST).contains(&level), "level {}", level);
            prop_assert!((DRAIN.0..=DRAIN.1).contains(&twin.drain()), "drain {}", twin.drain());
            prop_assert!((REAL.0..=REAL.1).contains(&twin.real()) && twin.doubt() >= 0.0 && twin.doubt().is_finite() && saved.size.is_finite() && saved.spare.is_finite());
            prop_assert!(twin.fill(now).is_finite() && twin.fill(now) >= 0.0);
            prop_assert!(twin.room_in(now, 0.5).is_none_or(|room| room <= Duration::from_secs(600)));
        }
    }
}

#[test]
fn what_was_refused_as_faulty_says_nothing_of_the_size_of_calls() {
    let mut twin = twin();
    let size = twin.saved(NOW).size;
    for _ in 0..1000 {
        twin.admitted(NOW, Load::exact(10.0));
        twin.settled(NOW, Load::exact(10.0), Some(0.0));
    }
    assert_eq!(twin.saved(NOW).size, size);
    assert!(!twin.is_too_coarse(NOW));
    for used in [Some(0.1), None] {
        let before = twin.saved(NOW).size;
        twin.admitted(NOW, Load::exact(0.1));
        twin.settled(NOW, Load::exact(0.1), used);
        assert!(twin.saved(NOW).size < before);
    }
}

#[test]
fn a_ptu_that_takes_less_is_thought_to_hold_less() {
    let mut twin = twin();
    run(&mut twin, &mut Bucket { level: -5.0, rate: 0.5 }, 0..3600);
    let now = after(3600.0);
    assert!((4.0..6.0).contains(&twin.holds()), "ten seconds at half of the rate: {}", twin.holds());
    let saved = twin.saved(now);
    let mut heir = self::twin();
    heir.restore(&saved, now);
    assert!((4.0..6.0).contains(&heir.holds()), "the process that takes over knows it at once: {}", heir.holds());
}

#[test]
fn utilisation_is_the_share_of_a_minute_in_which_it_works() {
    let mut twin = twin();
    for second in 0..600 {
        let now = after(f64::from(second));
        twin.admitted(now, Load::exact(0.4));
        twin.settled(now, Load::exact(0.4), Some(0.4));
    }
    let shown = twin.utilisation(after(600.0));
    assert!((0.35..0.45).contains(&shown), "{shown}");
    assert!(twin.utilisation(after(720.0)) < 0.02);
}

#[test]
fn what_is_expected_of_a_call_is_its_own_and_not_the_mean_of_all() {
    let mut twin = twin();
    let (long, short) = (Load { booked: 3.0, ..Load::exact(0.5) }, Load::exact(0.5));
    let (_, long) = twin.admitted(NOW, long);
    let before = twin.fill(NOW);
    let (_, short) = twin.admitted(NOW, short);
    twin.settled(NOW, short, Some(0.5));
    assert_near(twin.fill(NOW), before + 0.05);
    twin.settled(NOW, long, Some(0.5));
    assert_near(twin.real(), 1.0);
    assert_near(twin.fill(NOW), 0.1);
}

#[test]
fn doubt_grows_while_nothing_shows_the_level_and_ends_when_the_bucket_must_be_empty() {
    let mut twin = twin();
    let send = |twin: &mut Twin, at: f64, seconds: f64| {
        let (above, load) = twin.admitted(after(at), Load::exact(seconds));
        twin.accepted(after(at), above);
        twin.settled(after(at), load, Some(seconds));
    };
    // As much as it takes, below the line: neither a refusal nor an empty bucket says whether that is so.
    send(&mut twin, 0.0, 4.0);
    (0..300).for_each(|second| send(&mut twin, f64::from(second), 1.0));
    let doubt = twin.doubt();
    assert!(doubt > 0.2, "{doubt}");
    let mut refused = twin.clone();
    refused.refused(after(300.0), Duration::from_secs(1));
    assert_eq!(refused.doubt(), 0.0, "a refusal says where the level is");
    // Nothing more is sent: it is empty by its estimate, and a little later by any drain that is likely.
    let empty = 300.0 + twin.fill(after(300.0)) * twin.holds() / twin.drain() + 0.2;
    twin.fits(after(empty), 0.0, false);
    assert!(twin.fill(after(empty)) < 0.01 && twin.doubt() > 0.1, "{} {}", twin.fill(after(empty)), twin.doubt());
    twin.fits(after(empty + 30.0), 0.0, false);
    assert_eq!(twin.doubt(), 0.0);
}

#[test]
fn what_a_refusal_has_told_of_a_call_is_not_added_again_when_it_ends() {
    let mut twin = twin();
    let (_, load) = twin.admitted(NOW, Load::exact(0.5));
    // It holds a second more than was expected, and so does the bucket that refuses.
    twin.refused(after(1.0), Duration::from_secs(1));
    let end = |mut twin: Twin, sent: Tick| {
        let before = twin.fill(after(2.0)) * twin.holds();
        let told = twin.told(sent, 1.0);
        twin.settled(after(2.0), load, Some(1.5));
        twin.take_off(after(2.0), told);
        twin.fill(after(2.0)) * twin.holds() - before
    };
    let known = end(twin.clone(), NOW);
    assert!(known < 0.3, "nearly all of it was in the level that the refusal told: {known}");
    assert_near(end(twin, after(1.5)), 1.0);
}
