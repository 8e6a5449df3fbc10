use proptest::prelude::*;
use spillway_plugins::limits::Class;

use super::*;
use crate::balance::ptu::load::Ask;
use crate::balance::ptu::saved::Saved;
use crate::balance::ptu::steer::Prefer;
use crate::balance::ptu::steer::Why;
use crate::balance::target::{RequestKey, Target, TargetId};

const NOW: Tick = Tick(3_600_000_000_000);

/// A thousand tokens a second, ten thousand in a burst.
fn config() -> PtuConfig {
    PtuConfig { per_second: Some(1000.0), output_ratio: 4.0, depth: Duration::from_secs(10), refusals: 0.004, shares: Arc::default() }
}

fn target(config: Option<PtuConfig>) -> Arc<Target> {
    let target = Arc::new(Target::new(TargetId { backend: "b".into(), deployment: "d".into() }, None));
    target.provisioned.configure(config, NOW);
    target
}

/// 1,200 tokens of prompt and at most 200 of completion: two seconds.
fn demand() -> Demand {
    Demand {
        ask: Ask { prompt: 1200, cap: Some(200), choices: 1 },
        caller: Caller { consumer: 1, group: None, class: Class::Interactive },
        elsewhere: None,
        needed_by: None,
        takes: Duration::ZERO,
        waited: Duration::ZERO,
        may_wait: true,
        is_new: true,
    }
}

fn book(target: &Arc<Target>, at: Tick) -> Booking {
    Booking::of(&target.provisioned, &demand(), at).unwrap()
}

fn level(target: &Target, at: Tick) -> f64 {
    target.provisioned.view(at).unwrap().fill.unwrap() * 10.0
}

fn rules() -> Rules {
    Rules { prefer: Prefer::FirstCome, ..Rules::default() }
}

#[test]
fn without_it_everything_goes_there_and_nothing_is_booked() {
    let target = target(None);
    assert_eq!(target.provisioned.decide(&demand(), &rules(), NOW), Decision::Use { probe: false });
    assert!(
        Booking::of(&target.provisioned, &demand(), NOW).is_none()
            && target.provisioned.view(NOW).is_none()
            && target.provisioned.learned(NOW).is_none()
    );
}

#[test]
fn a_request_takes_what_is_booked_until_it_says_what_it_used() {
    let target = target(Some(config()));
    let booking = book(&target, NOW);
    let expected = "its prompt, as nothing is known of its consumer, and a share of its cap";
    assert!((1.4..=1.7).contains(&level(&target, NOW)), "{expected}: {}", level(&target, NOW));
    booking.settle(Some(Used { prompt: 1200, cached: 700, output: 25 }), NOW);
    assert!((level(&target, NOW) - 0.6).abs() < 0.05, "{}", level(&target, NOW));
}

#[test]
fn what_was_not_sent_takes_nothing() {
    let target = target(Some(config()));
    drop(book(&target, NOW));
    assert_eq!(level(&target, NOW), 0.0);
    let mut sent = book(&target, NOW);
    sent.accepted(NOW);
    drop(sent);
    assert!(level(&target, NOW) > 1.0, "what it took is not known: what is usual");
}

#[test]
fn a_full_one_is_left_before_it_refuses() {
    let target = target(Some(config()));
    let mut taken = Vec::new();
    while let Decision::Use { .. } = target.provisioned.decide(&demand(), &rules(), NOW) {
        taken.push(book(&target, NOW));
        assert!(taken.len() < 20);
    }
    assert!((3..=5).contains(&taken.len()), "{} of two seconds each in ten seconds, less the margin", taken.len());
    assert!(target.provisioned.full_until(NOW).is_some_and(|until| until > NOW));
    let decided = target.provisioned.view(NOW).unwrap().decided;
    assert_eq!((decided.fits[0] + decided.probe[0], decided.spill[0][0]), (taken.len() as u64, 1));
    for booking in taken {
        booking.settle(Some(Used { prompt: 0, cached: 0, output: 0 }), NOW);
    }
    assert_eq!(target.provisioned.full_until(NOW), None);
}

#[test]
fn a_cap_without_measure_closes_nothing_for_long() {
    let target = target(Some(config()));
    let huge = Demand { ask: Ask { prompt: 10, cap: Some(u64::MAX), choices: 1 }, ..demand() };
    let _ = target.provisioned.decide(&huge, &rules(), NOW);
    for _ in 0..20 {
        let mut booking = Booking::of(&target.provisioned, &huge, NOW).unwrap();
        booking.answered();
        booking.settle(Some(Used { prompt: 0, cached: 0, output: 0 }), NOW);
    }
    assert!(level(&target, NOW) < 0.1 && target.provisioned.full_until(NOW).is_none());
    assert!(matches!(target.provisioned.decide(&demand(), &rules(), NOW), Decision::Use { probe: false }));
}

#[test]
fn nodes_that_are_lost_and_heard_again_change_nothing() {
    let target = target(Some(config()));
    target.provisioned.peers_lost(4, NOW);
    assert_eq!(target.provisioned.view(NOW).unwrap().drain, 0.25);
    target.provisioned.peers_back(4, NOW);
    assert_eq!(target.provisioned.view(NOW).unwrap().drain, 1.0);
}

#[test]
fn a_refusal_sets_it_right() {
    let target = target(Some(config()));
    book(&target, NOW).refused(Some(Duration::from_secs(3)), NOW);
    let view = target.provisioned.view(NOW).unwrap();
    assert_eq!((view.refused, view.decided.refusals), (Some(NOW), [0, 1]));
    assert!((view.fill.unwrap() - 1.3).abs() < 0.05, "three seconds above the line: {view:?}");
    assert!(view.room_in.is_some_and(|room| room > Duration::from_secs(3)));
    assert!(matches!(target.provisioned.decide(&demand(), &rules(), NOW), Decision::Spill(Why::Full)));
}

#[test]
fn an_unknown_rate_is_learned_from_refusals() {
    // The truth is 2,000 tokens a second.
    let target = target(Some(PtuConfig { per_second: None, ..config() }));
    let (mut bucket, mut now, mut refused) = (-20_000.0_f64, NOW, 0);
    for _ in 0..20_000 {
        now = now + Duration::from_millis(100);
        bucket = (bucket - 200.0).max(-20_000.0);
        // 3,000 tokens a second ask.
        let ask = Demand { ask: Ask { prompt: 300, cap: Some(0), choices: 1 }, ..demand() };
        if !matches!(target.provisioned.decide(&ask, &rules(), now), Decision::Use { .. }) {
            continue;
        }
        let mut booking = Booking::of(&target.provisioned, &ask, now).unwrap();
        if bucket >= 0.0 {
            refused += 1;
            booking.refused(Some(Duration::from_secs_f64(bucket / 2000.0)), now);
        } else {
            bucket += 300.0;
            booking.accepted(now);
            booking.settle(Some(Used { prompt: 300, cached: 0, output: 0 }), now);
        }
    }
    let view = target.provisioned.view(now).unwrap();
    let rate = view.per_second.unwrap() * view.drain;
    assert!((1600.0..2400.0).contains(&rate), "{rate}: {view:?}");
    assert!((1..400).contains(&refused), "{refused} refusals");
}

#[test]
fn it_survives_a_changed_config_and_another_process() {
    let target = target(Some(config()));
    let booking = book(&target, NOW);
    target.provisioned.configure(Some(PtuConfig { per_second: Some(2000.0), ..config() }), NOW);
    let half = target.provisioned.view(NOW).unwrap();
    assert!(half.fill.unwrap() > 0.0 && half.per_second == Some(2000.0), "{half:?}");
    booking.settle(Some(Used { prompt: 1200, cached: 0, output: 200 }), NOW);
    let (heir, learned) = (self::target(Some(config())), target.provisioned.learned(NOW).unwrap());
    heir.provisioned.restore(&serde_json::from_str(&serde_json::to_string(&learned).unwrap()).unwrap(), NOW);
    assert!(heir.provisioned.view(NOW).unwrap().fill.unwrap() > 0.0);
    target.provisioned.configure(None, NOW);
    assert!(target.provisioned.view(NOW).is_none() && !target.provisioned.is_on());
}

#[test]
fn bookings_of_many_threads_add_up() {
    let target = target(Some(config()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    let lease = target.acquire(RequestKey::default(), NOW);
                    let booking = book(&target, NOW);
                    booking.settle(Some(Used { prompt: 0, cached: 0, output: 0 }), NOW);
                    drop(lease);
                }
            });
        }
    });
    assert!(level(&target, NOW) < 1e-6);
}

proptest! {
    #[test]
    fn whatever_is_restored_gives_numbers(
        level: Option<f64>, drain: f64, used: f64, size: f64, spare: f64, cap: f64, guess: f64, per_second: f64, known: bool, prompt: u64, wait: u32,
    ) {
        let target = target(Some(PtuConfig { per_second: known.then_some(1000.0), ..config() }));
        target.provisioned.restore(&Learned { twin: Saved { level, drain, used, size, spare, reserves: [cap, guess] }, per_second }, NOW);
        let demand = Demand { ask: Ask { prompt, cap: None, choices: 1 }, ..demand() };
        let _ = target.provisioned.decide(&demand, &rules(), NOW);
        let mut booking = Booking::of(&target.provisioned, &demand, NOW).unwrap();
        booking.refused(Some(Duration::from_millis(wait.into())), NOW);
        let view = target.provisioned.view(NOW + Duration::from_secs(1)).unwrap();
        prop_assert!(view.drain.is_finite() && view.fill.is_none_or(f64::is_finite) && view.per_second.is_none_or(|rate| rate.is_finite() && rate > 0.0));
    }
}
