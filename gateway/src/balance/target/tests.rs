use super::*;
use crate::balance::circuit::{ErrorKind, Threshold};

const SECOND: Duration = Duration::from_secs(1);

fn target(max_concurrent: Option<u32>) -> Arc<Target> {
    Arc::new(Target::new(TargetId { backend: "b".into(), deployment: "d".into() }, max_concurrent))
}

/// A failure that a caller may have caused.
const BROKEN: Outcome = Outcome::Failed { failure: Failure::Error(ErrorKind::Reset), retry_after: None };

fn at(seconds: u64) -> Tick {
    Tick(0) + Duration::from_secs(seconds)
}

fn rules() -> CircuitRules {
    CircuitRules { threshold: Threshold::Failures(2), first_trip: SECOND * 30, ..CircuitRules::default() }
}

const FAILED: Outcome = Outcome::Failed { failure: Failure::Error(ErrorKind::Connect), retry_after: None };

fn success() -> Outcome {
    Outcome::Success { first: SECOND, signal: RateSignal::default() }
}

#[test]
fn a_429_throttles_at_once_and_only_extends() {
    let (target, rules) = (target(None), rules());
    let mut a = target.acquire(RequestKey::default(), at(1)).unwrap();
    let mut b = target.acquire(RequestKey::default(), at(1)).unwrap();
    assert_eq!(
        a.record(Outcome::Throttled { retry_after: Some(SECOND * 20), scope: ThrottleScope::Quota }, &rules, at(1)),
        Change::Throttled(SECOND * 20)
    );
    assert_eq!(b.record(Outcome::Throttled { retry_after: Some(SECOND * 5), scope: ThrottleScope::Quota }, &rules, at(2)), Change::None);
    assert_eq!(target.closed(at(20)), Some(Unavailable::Throttled(at(21))));
    assert!(target.acquire(RequestKey::default(), at(20)).is_none());
    assert!(target.acquire(RequestKey::default(), at(21)).is_some());
}

#[test]
fn an_empty_quota_in_a_success_throttles() {
    let (target, rules) = (target(None), rules());
    let quota = spillway_plugins::retry::Quota { remaining: Some(0), limit: Some(10), reset: Some(SECOND * 7) };
    let signal = RateSignal { requests: quota, ..RateSignal::default() };
    let mut lease = target.acquire(RequestKey::default(), at(1)).unwrap();
    lease.record(Outcome::Success { first: SECOND, signal }, &rules, at(1));
    assert_eq!(target.closed(at(2)), Some(Unavailable::Throttled(at(8))));
}

#[test]
fn half_open_lets_one_probe_through() {
    let (target, rules) = (target(None), rules());
    for _ in 0..2 {
        target.acquire(RequestKey::default(), at(1)).unwrap().record(FAILED, &rules, at(1));
    }
    assert_eq!(target.closed(at(1)), Some(Unavailable::Tripped { until: at(31), limited: false }));
    let mut probe = target.acquire(RequestKey::default(), at(31)).unwrap();
    assert!(probe.is_probe());
    assert!(target.acquire(RequestKey::default(), at(31)).is_none(), "one at a time");
    probe.record(FAILED, &rules, at(32));
    assert_eq!(target.closed(at(32)), Some(Unavailable::Tripped { until: at(62), limited: false }));
    drop(probe);
    let cancelled = target.acquire(RequestKey::default(), at(62)).unwrap();
    drop(cancelled);
    let mut probe = target.acquire(RequestKey::default(), at(62)).unwrap();
    assert_eq!(probe.record(success(), &rules, at(62)), Change::Recovered);
    assert!(target.closed(at(62)).is_none());
    assert!(!target.acquire(RequestKey::default(), at(62)).unwrap().is_probe());
}

#[test]
fn a_throttled_probe_leaves_the_circuit_half_open() {
    let (target, rules) = (target(None), rules());
    for _ in 0..2 {
        target.acquire(RequestKey::default(), at(1)).unwrap().record(FAILED, &rules, at(1));
    }
    let mut probe = target.acquire(RequestKey::default(), at(31)).unwrap();
    probe.record(Outcome::Throttled { retry_after: Some(SECOND * 3), scope: ThrottleScope::Quota }, &rules, at(31));
    drop(probe);
    assert_eq!(target.closed(at(32)), Some(Unavailable::Throttled(at(34))));
    assert!(target.acquire(RequestKey::default(), at(34)).unwrap().is_probe());
}

#[test]
fn outages_are_probed_less_and_less_often() {
    let (target, rules) = (target(None), rules());
    let (mut now, mut waits) = (at(1), Vec::new());
    for _ in 0..7 {
        let mut lease = target.acquire(RequestKey::default(), now).unwrap();
        lease.record(Outcome::Out(OutageReason::OutOfQuota), &rules, now);
        let Some(Unavailable::Out(OutageReason::OutOfQuota, until)) = target.closed(now) else { panic!() };
        waits.push(until.since(now).as_secs());
        now = until;
    }
    assert_eq!(waits, [30, 60, 120, 240, 480, 600, 600]);
    let mut lease = target.acquire(RequestKey::default(), now).unwrap();
    assert_eq!(lease.record(success(), &rules, now), Change::Recovered);
    assert!(target.closed(now).is_none());
}

#[test]
fn slots_come_back_when_leases_are_dropped() {
    let target = target(Some(2));
    let a = target.acquire(RequestKey::default(), at(1)).unwrap();
    let _b = target.acquire(RequestKey::default(), at(1)).unwrap();
    assert!(target.acquire(RequestKey::default(), at(1)).is_none());
    assert_eq!(target.closed(at(1)), Some(Unavailable::Busy));
    drop(a);
    assert!(target.acquire(RequestKey::default(), at(1)).is_some());
    target.set_drained(true);
    assert!(target.acquire(RequestKey::default(), at(1)).is_none());
}

#[test]
fn a_panic_gives_slot_and_probe_back() {
    let (target, rules) = (target(Some(1)), rules());
    for _ in 0..2 {
        target.acquire(RequestKey::default(), at(1)).unwrap().record(FAILED, &rules, at(1));
    }
    let holder = Arc::clone(&target);
    let panicked = std::thread::spawn(move || {
        let probe = holder.acquire(RequestKey::default(), at(31)).unwrap();
        assert!(!probe.is_probe(), "this panics on purpose");
    });
    assert!(panicked.join().is_err());
    assert_eq!(target.in_flight(), 0);
    assert!(target.acquire(RequestKey::default(), at(31)).unwrap().is_probe());
}

#[test]
fn a_probe_that_takes_long_keeps_nobody_out_for_ever() {
    let (target, rules) = (target(None), rules());
    for _ in 0..2 {
        target.acquire(RequestKey::default(), at(1)).unwrap().record(FAILED, &rules, at(1));
    }
    let slow = target.acquire(RequestKey::default(), at(31)).unwrap();
    assert!(target.acquire(RequestKey::default(), at(60)).is_none());
    assert_eq!(target.closed(at(60)), Some(Unavailable::Tripped { until: Tick::NEVER, limited: false }));
    let mut second = target.acquire(RequestKey::default(), at(61)).unwrap();
    assert!(second.is_probe() && target.acquire(RequestKey::default(), at(62)).is_none());
    assert_eq!(second.record(success(), &rules, at(62)), Change::Recovered);
    drop(slow);
    assert!(target.closed(at(62)).is_none());
}

#[test]
fn stragglers_neither_close_nor_extend() {
    let (target, rules) = (target(None), rules());
    let mut late_success = target.acquire(RequestKey::default(), at(1)).unwrap();
    let mut late_failure = target.acquire(RequestKey::default(), at(1)).unwrap();
    for _ in 0..2 {
        target.acquire(RequestKey::default(), at(1)).unwrap().record(FAILED, &rules, at(1));
    }
    late_success.record(success(), &rules, at(2));
    late_failure.record(FAILED, &rules, at(20));
    assert_eq!(target.closed(at(20)), Some(Unavailable::Tripped { until: at(31), limited: false }));
}

const A: RequestKey = RequestKey { by: 1, api: Api::Chat, whole: true };
const B: RequestKey = RequestKey { by: 2, api: Api::Chat, whole: true };

fn meets(target: &Arc<Target>, key: RequestKey, outcome: Outcome, rules: &CircuitRules, now: Tick) -> Option<Change> {
    Some(target.acquire(key, now)?.record(outcome, rules, now))
}

#[test]
fn what_one_consumer_met_is_believed_for_it_alone() {
    let (target, rules) = (target(None), rules());
    for _ in 0..5 {
        meets(&target, A, BROKEN, &rules, at(1));
    }
    assert!(target.acquire(A, at(2)).is_none(), "its own circuit is open");
    assert!(target.acquire(B, at(2)).is_some());
    meets(&target, B, BROKEN, &rules, at(2));
    assert!(target.acquire(RequestKey { by: 3, ..B }, at(3)).is_none(), "two met it: believed for everybody");
}

#[test]
fn a_throttle_that_one_consumer_met_is_everybodys_once_a_second_met_it() {
    let (target, rules) = (target(None), rules());
    let full = Outcome::Throttled { retry_after: Some(SECOND * 20), scope: ThrottleScope::Quota };
    assert_eq!(meets(&target, A, full, &rules, at(1)), Some(Change::Throttled(SECOND * 20)), "the only one that asks");
    assert_eq!((target.closed(at(2)), target.throttled_until(at(2))), (Some(Unavailable::Throttled(at(21))), None));
    assert_eq!((target.closed_for(A, at(2)), target.closed_for(B, at(2))), (Some(Unavailable::Throttled(at(21))), None));
    meets(&target, B, success(), &rules, at(2));
    assert_eq!(target.closed(at(2)), None, "others are served");
    assert_eq!(meets(&target, B, full, &rules, at(3)), Some(Change::Throttled(SECOND * 20)), "a second one");
    assert_eq!(target.closed_for(RequestKey { by: 3, ..A }, at(4)), Some(Unavailable::Throttled(at(23))));
    assert_eq!(meets(&target, A, full, &rules, at(24)), Some(Change::ThrottledForOne));
    assert!(target.is_usable(B, at(25)), "the earlier ones are over");
    assert_eq!(meets(&target, B, full, &rules, at(50)), Some(Change::ThrottledForOne), "the first one's is over");
}

#[test]
fn a_refusal_is_the_operations_and_needs_agreement() {
    let (target, rules) = (target(None), rules());
    let out = Outcome::Out(OutageReason::Misconfigured);
    let responses = |by| RequestKey { by, api: Api::Responses, whole: true };
    meets(&target, B, success(), &rules, at(1));
    assert_eq!(meets(&target, A, out, &rules, at(2)), Some(Change::None), "chat was served before: this request's own");
    assert_eq!(meets(&target, A, out, &rules, at(3)), Some(Change::OutForOne(OutageReason::Misconfigured)));
    assert_eq!(meets(&target, A, success(), &rules, at(4)), None);
    assert!(target.is_usable(B, at(4)) && target.is_usable(responses(1), at(4)));
    assert_eq!(meets(&target, B, out, &rules, at(5)), Some(Change::Out(OutageReason::Misconfigured)), "the second says so");
    assert!(!target.is_usable(RequestKey { by: 3, ..A }, at(6)) && target.is_usable(responses(3), at(6)));
    assert_eq!(target.outage(), Some(OutageReason::Misconfigured));
    let told = target.snapshot(at(6));
    let successor = self::target(None);
    successor.restore(&told, at(6));
    assert!(!successor.is_usable(A, at(7)) && successor.is_usable(responses(1), at(7)));
}

#[test]
fn an_operation_that_was_never_served_is_out_at_once_for_who_was_refused() {
    let (target, rules) = (target(None), rules());
    let out = Outcome::Out(OutageReason::Misconfigured);
    assert_eq!(meets(&target, A, out, &rules, at(1)), Some(Change::OutForOne(OutageReason::Misconfigured)));
    assert!(!target.is_usable(A, at(2)) && target.is_usable(B, at(2)));
    assert_eq!(target.outage(), Some(OutageReason::Misconfigured), "the only consumer there is: an operator sees it");
}

#[test]
fn a_probe_that_one_consumer_lost_is_the_next_ones() {
    let (target, rules) = (target(None), rules());
    for _ in 0..2 {
        meets(&target, RequestKey::default(), FAILED, &rules, at(1));
    }
    meets(&target, A, BROKEN, &rules, at(31));
    assert!(target.acquire(A, at(32)).is_none(), "it waits again");
    assert_eq!(meets(&target, B, success(), &rules, at(32)), Some(Change::Recovered));
}

#[test]
fn an_upload_is_no_probe_while_whole_requests_may_come() {
    let (target, rules) = (target(None), rules());
    for _ in 0..2 {
        meets(&target, RequestKey::default(), FAILED, &rules, at(1));
    }
    let upload = RequestKey { whole: false, ..A };
    assert!(target.acquire(upload, at(31)).is_none());
    assert!(target.acquire(upload, at(61)).is_some_and(|lease| lease.is_probe()), "nobody else came");
}

#[test]
fn an_upload_that_probes_keeps_no_whole_request_from_probing() {
    let (target, rules) = (target(None), rules());
    for _ in 0..2 {
        meets(&target, RequestKey::default(), FAILED, &rules, at(1));
    }
    let upload = RequestKey { whole: false, ..A };
    let mut dripping = target.acquire(upload, at(61)).unwrap();
    assert!(target.acquire(upload, at(61)).is_none(), "one at a time");
    assert_eq!(target.closed_for(B, at(61)), None);
    let whole = target.acquire(B, at(61)).unwrap();
    assert!(whole.is_probe() && target.acquire(A, at(61)).is_none());
    assert_eq!(dripping.record(success(), &rules, at(62)), Change::Recovered);
    assert!(target.acquire(A, at(62)).is_some(), "it answered: nobody waits for the other probe");
    drop(whole);
    assert!(!target.acquire(B, at(62)).unwrap().is_probe());
}

fn any_outcome(what: u8) -> Outcome {
    let failed = |failure| Outcome::Failed { failure, retry_after: Some(SECOND * 100) };
    match what {
        0 => success(),
        1 => Outcome::CallerFault,
        2 => Outcome::Out(OutageReason::Misconfigured),
        3 => Outcome::Out(OutageReason::OutOfQuota),
        4 => failed(Failure::Status(http::StatusCode::INTERNAL_SERVER_ERROR)),
        5 => failed(Failure::Error(ErrorKind::Reset)),
        6 => failed(Failure::Error(ErrorKind::FirstToken)),
        7 => failed(Failure::Error(ErrorKind::Idle)),
        8 => failed(Failure::Error(ErrorKind::Timeout)),
        9 => Outcome::Throttled { retry_after: Some(SECOND * 30), scope: ThrottleScope::Quota },
        _ => FAILED,
    }
}

proptest::proptest! {
    /// The process that takes over believes the same of a target, for each consumer, at any time.
    #[test]
    fn who_takes_over_believes_the_same(
        steps in proptest::collection::vec((0u8..11, 0u64..20, 1u64..4, proptest::prelude::any::<bool>()), 0..80),
        count in 1u32..4,
    ) {
        let rules = CircuitRules { threshold: Threshold::Failures(count), ..rules() };
        let (target, successor) = (target(None), self::target(None));
        let mut now = at(1);
        for (what, later, by, responses) in steps {
            now = now + SECOND * u32::try_from(later).unwrap();
            let api = if responses { Api::Responses } else { Api::Chat };
            meets(&target, RequestKey { by, api, whole: true }, any_outcome(what), &rules, now);
        }
        let told = serde_json::to_string(&target.snapshot(now)).unwrap();
        successor.restore(&serde_json::from_str(&told).unwrap(), now);
        for by in 0..5 {
            for api in [Api::Chat, Api::Responses] {
                for later in [0, 7, 29, 31, 61, 130, 700] {
                    let (key, then) = (RequestKey { by, api, whole: true }, now + SECOND * later);
                    proptest::prop_assert_eq!(target.is_usable(key, then), successor.is_usable(key, then));
                    proptest::prop_assert_eq!(target.closed_for(key, then), successor.closed_for(key, then));
                    proptest::prop_assert_eq!(target.closed(then), successor.closed(then));
                }
            }
        }
    }

    /// Whatever one consumer meets, in whatever order and over whatever time: a consumer that was served well is still
    /// served.
    #[test]
    fn one_consumer_takes_nothing_from_another(
        steps in proptest::collection::vec((0u8..10, 0u64..20, proptest::prelude::any::<bool>()), 1..200),
        percent in proptest::prelude::any::<bool>(),
        count in 1u32..6,
    ) {
        let threshold = if percent { Threshold::Percent { percent: 50, min_calls: count } } else { Threshold::Failures(count) };
        let rules = CircuitRules { threshold, errors: ErrorKind::NAMES.map(|(_, kind)| kind).to_vec(), ..rules() };
        let target = target(None);
        let mut now = at(1);
        let mut held = Vec::new();
        meets(&target, B, success(), &rules, now);
        for (what, later, keep) in steps {
            now = now + SECOND * u32::try_from(later).unwrap();
            let outcome = any_outcome(what);
            if let Some(mut lease) = target.acquire(A, now) {
                lease.record(outcome, &rules, now);
                if keep {
                    held.push(lease);
                }
            }
            proptest::prop_assert!(target.is_usable(B, now));
            proptest::prop_assert!(target.closed_for(B, now).is_none());
            if keep {
                proptest::prop_assert!(meets(&target, B, success(), &rules, now).is_some());
            }
        }
    }

    /// A target that fails all requests is soon out for all consumers, however many there are.
    #[test]
    fn what_fails_everybody_is_out_for_everybody(count in 1u32..6, askers in proptest::collection::vec(1u64..20, 200)) {
        let rules = CircuitRules { threshold: Threshold::Failures(count), ..rules() };
        let target = target(None);
        let (mut runs, mut last) = (0, 0);
        for by in askers {
            if meets(&target, RequestKey { by, ..A }, BROKEN, &rules, at(1)).is_some() {
                runs += u32::from(by != last);
                last = by;
            }
        }
        let open = !target.is_usable(RequestKey { by: 99, ..A }, at(2));
        proptest::prop_assert_eq!(open, runs >= count.max(2));
    }
}
