use std::time::Duration;

use super::*;
use spillway_plugins::api::Api;
use spillway_plugins::retry::{StatusSet, ThrottleScope};

use crate::balance::circuit::{CircuitRules, Threshold};
use crate::balance::provisioned::PtuConfig;
use crate::balance::ptu::load::Ask;
use crate::balance::ptu::shares::Caller;
use crate::balance::target::{OutageReason, Outcome, Target, TargetId};

const NOW: Tick = Tick(1_000_000_000_000);

/// A request that any member may serve.
const ANY: PickRequest<'_> = PickRequest {
    excluded: &[],
    tried: &[],
    throttled: &[],
    fence: None,
    affinity_key: 0,
    key: RequestKey { by: 0, api: Api::Chat, whole: true },
    demand: None,
    class: Class::Standard,
    is_late: false,
};

fn member(name: &str, priority: u32, location: &str) -> Member {
    let id = TargetId { backend: name.into(), deployment: "m".into() };
    Member {
        target: Arc::new(Target::new(id, Some(2))),
        priority,
        weight: 1,
        location: Some(location.into()),
        backend: 0,
        up: Default::default(),
        serves: Serves::default(),
    }
}

fn route() -> Route {
    Route::new(vec![member("ptu", 1, "se"), member("payg-se", 2, "se"), member("payg-fr", 2, "fr")], Policy::Weighted)
}

fn pick(route: &Route, tried: &[usize], fence: Option<&[Arc<str>]>) -> Result<Pick, NoneReady> {
    route.pick(&PickRequest { tried, fence, ..ANY }, NOW, &mut fastrand::Rng::with_seed(1))
}

fn throttle(route: &Route, index: usize, seconds: u64) {
    let retry_after = Some(Duration::from_secs(seconds));
    let mut lease = route.members()[index].target.acquire(RequestKey::default(), NOW).unwrap();
    lease.record(Outcome::Throttled { retry_after, scope: ThrottleScope::Quota }, &CircuitRules::default(), NOW);
}

#[test]
fn the_lower_tier_serves_as_soon_as_the_higher_cannot() {
    let route = route();
    assert_eq!(pick(&route, &[], None).unwrap().index, 0);
    let _slots = [pick(&route, &[], None).unwrap(), pick(&route, &[], None).unwrap()];
    assert_ne!(pick(&route, &[], None).unwrap().index, 0, "both slots of the first tier are taken");
}

#[test]
fn the_fence_holds_in_every_tier() {
    let route = route();
    let france: [Arc<str>; 1] = ["fr".into()];
    assert_eq!(pick(&route, &[], Some(&france)).unwrap().index, 2);
    let nowhere: [Arc<str>; 1] = ["us".into()];
    assert!(pick(&route, &[], Some(&nowhere)).unwrap_err().fenced_off);
}

#[test]
fn none_ready_tells_the_soonest_reopening() {
    let route = route();
    for (index, seconds) in [(0, 30), (1, 20), (2, 25)] {
        throttle(&route, index, seconds);
    }
    let none = pick(&route, &[], None).unwrap_err();
    assert!(none.all_throttled && !none.fenced_off);
    assert_eq!(none.soonest, Some(NOW + Duration::from_secs(20)));
}

#[test]
fn a_circuit_that_a_429_opened_is_a_throttle() {
    let route = route();
    let rules = CircuitRules {
        threshold: Threshold::Failures(1),
        statuses: StatusSet::new(["429".parse().unwrap()]),
        first_trip: Duration::from_secs(30),
        ..CircuitRules::default()
    };
    for member in route.members() {
        member.target.acquire(RequestKey::default(), NOW).unwrap().record(
            Outcome::Throttled { retry_after: None, scope: ThrottleScope::Quota },
            &rules,
            NOW,
        );
    }
    let later = NOW + Duration::from_secs(20);
    let request = ANY;
    let none = route.pick(&request, later, &mut fastrand::Rng::with_seed(1)).unwrap_err();
    assert_eq!((none.all_throttled, none.soonest), (true, Some(NOW + rules.trip)));
}

#[test]
fn members_that_cannot_serve_it_are_no_hope_and_no_hindrance() {
    let route = route();
    throttle(&route, 1, 30);
    throttle(&route, 2, 30);
    let request = PickRequest { excluded: &[0], ..ANY };
    let none = route.pick(&request, NOW, &mut fastrand::Rng::with_seed(1)).unwrap_err();
    assert!(none.all_throttled);
    let nobody = PickRequest { excluded: &[0, 1, 2], ..request };
    let none = route.pick(&nobody, NOW, &mut fastrand::Rng::with_seed(1)).unwrap_err();
    assert!(!none.all_throttled && !none.fenced_off);
}

#[test]
fn an_outage_is_no_throttle() {
    let route = route();
    throttle(&route, 0, 30);
    throttle(&route, 1, 30);
    route.members()[2].target.acquire(RequestKey::default(), NOW).unwrap().record(
        Outcome::Out(OutageReason::OutOfQuota),
        &CircuitRules::default(),
        NOW,
    );
    assert!(!pick(&route, &[], None).unwrap_err().all_throttled);
}

#[test]
fn drained_and_unhealthy_members_are_no_hope() {
    let route = route();
    for member in route.members() {
        member.target.set_drained(true);
    }
    let none = pick(&route, &[], None).unwrap_err();
    assert_eq!((none.soonest, none.all_throttled), (None, false));
}

/// The first member has provisioned throughput: a thousand tokens a second, ten thousand in a burst.
fn provisioned(rules: Rules) -> Route {
    let route = route();
    let config =
        PtuConfig { per_second: Some(1000.0), output_ratio: 4.0, depth: Duration::from_secs(10), refusals: 0.0, shares: Arc::default() };
    route.members()[0].target.provisioned.configure(Some(config), NOW);
    // Its slots are not what runs out.
    route.members()[0].target.set_max_concurrent(None);
    route.provisioned(Some(rules))
}

/// Two seconds.
fn demand(class: Class) -> Demand {
    Demand {
        ask: Ask { prompt: 2000, cap: Some(0), choices: 1 },
        caller: Caller { consumer: 1, group: None, class },
        elsewhere: None,
        needed_by: None,
        takes: Duration::ZERO,
        waited: Duration::ZERO,
        may_wait: true,
        is_new: true,
    }
}

fn pick_steered(route: &Route, tried: &[usize], demand: &Demand) -> Result<Pick, NoneReady> {
    let request = PickRequest { tried, demand: Some(demand), class: demand.caller.class, ..ANY };
    route.pick(&request, NOW, &mut fastrand::Rng::with_seed(1))
}

#[test]
fn a_full_deployment_is_left_and_found_again() {
    let route = provisioned(Rules { patience: [Duration::ZERO; 3], ..Rules::default() });
    let mut taken = Vec::new();
    for _ in 0..6 {
        taken.push(pick_steered(&route, &[], &demand(Class::Standard)).unwrap());
    }
    let at_first = taken.iter().filter(|pick| pick.index == 0).count();
    assert!((3..=5).contains(&at_first) && taken[0].index == 0 && taken[5].index != 0, "{at_first}");
    let request = demand(Class::Standard);
    let all = PickRequest { demand: Some(&request), ..ANY };
    let skipped = route.skipped(&all, Some(1), NOW);
    assert_eq!((skipped[0].state, skipped[0].reopens_in_ms.is_some()), ("ptu-full", true));
    assert_eq!(pick_steered(&route, &[1, 2], &request).unwrap().index, 0, "nobody else: better one that may be full");
    drop(taken);
    assert_eq!(pick_steered(&route, &[], &request).unwrap().index, 0, "what was not used is given back");
}

#[test]
fn a_patient_request_is_told_when_there_is_room() {
    let route = provisioned(Rules { patience: [Duration::ZERO, Duration::from_secs(5), Duration::ZERO], ..Rules::default() });
    let mut taken = Vec::new();
    let until = loop {
        match pick_steered(&route, &[], &demand(Class::Standard)) {
            Ok(pick) => taken.push(pick),
            Err(none) => break none.room_at.unwrap(),
        }
    };
    assert!(until > NOW && until < NOW + Duration::from_secs(3) && taken.iter().all(|pick| pick.index == 0));
    let hurried = Demand { may_wait: false, ..demand(Class::Standard) };
    assert_ne!(pick_steered(&route, &[], &hurried).unwrap().index, 0);
    assert_ne!(pick_steered(&route, &[], &demand(Class::Interactive)).unwrap().index, 0, "its class doesn't wait");
}

#[test]
fn members_may_be_for_some_classes_and_for_late_requests() {
    let mut members = vec![member("flex", 1, "se"), member("fast", 2, "se"), member("usual", 3, "se")];
    members[0].serves.classes = [false, false, true];
    members[1].serves.late_only = true;
    let route = Route::new(members, Policy::Weighted);
    let all = PickRequest { class: Class::Interactive, ..ANY };
    let pick = |request: PickRequest<'_>| route.pick(&request, NOW, &mut fastrand::Rng::with_seed(1)).map(|pick| pick.index);
    assert_eq!(pick(all), Ok(2));
    assert_eq!(pick(PickRequest { class: Class::Batch, ..all }), Ok(0));
    assert_eq!(pick(PickRequest { is_late: true, ..all }), Ok(1));
    assert_eq!(route.skipped(&all, Some(2), NOW).iter().map(|skipped| skipped.state).collect::<Vec<_>>(), ["not-for-this-class"; 2]);
    throttle(&route, 2, 30);
    assert_eq!(pick(all).unwrap_err().soonest, Some(NOW + Duration::from_secs(30)), "the others are no hope");
}

#[test]
fn a_patient_request_waits_for_the_end_of_a_throttle() {
    let route = provisioned(Rules { patience: [Duration::ZERO, Duration::from_secs(30), Duration::ZERO], ..Rules::default() });
    let mut first = pick_steered(&route, &[], &demand(Class::Standard)).unwrap();
    first.booking.as_mut().unwrap().refused(Some(Duration::from_secs(4)), NOW);
    let outcome = Outcome::Throttled { retry_after: Some(Duration::from_secs(4)), scope: ThrottleScope::Deployment };
    first.lease.record(outcome, &CircuitRules::default(), NOW);
    assert!(pick_steered(&route, &[], &demand(Class::Standard)).unwrap_err().room_at.is_some_and(|until| until > NOW));
    assert_ne!(pick_steered(&route, &[], &demand(Class::Interactive)).unwrap().index, 0, "its class doesn't wait");
    assert_ne!(pick_steered(&route, &[0], &demand(Class::Standard)).unwrap().index, 0, "the one that was refused goes on");
}
