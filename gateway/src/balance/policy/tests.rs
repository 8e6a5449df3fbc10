//! What every policy must guarantee, and what each one promises.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use spillway_plugins::retry::{Quota, RateSignal, ThrottleScope};

use super::*;
use crate::balance::circuit::CircuitRules;
use crate::balance::route::{HealthFlag, Member, MemberHealth, PickRequest, Route};
use crate::balance::target::Target;
use crate::balance::target::{Outcome, RequestKey, TargetId};
use crate::clock::Tick;

const NOW: Tick = Tick(1_000_000_000_000);

fn target(name: &str) -> Arc<Target> {
    Arc::new(Target::new(TargetId { backend: name.into(), deployment: "m".into() }, None))
}

fn succeed(target: &Arc<Target>, first: Duration, left: Option<u64>) {
    let tokens = Quota { remaining: left, limit: Some(100), reset: None };
    let signal = RateSignal { tokens, ..RateSignal::default() };
    target.acquire(RequestKey::default(), NOW).unwrap().record(Outcome::Success { first, signal }, &CircuitRules::default(), NOW);
}

fn shares(policy: Policy, members: &[(&Arc<Target>, u32)], draws: u32) -> Vec<f64> {
    let candidates: Vec<_> = members.iter().map(|(target, weight)| Candidate { target, weight: *weight }).collect();
    let mut counts = vec![0u32; members.len()];
    let mut rng = fastrand::Rng::with_seed(7);
    for key in 0..draws {
        counts[policy.pick(&candidates, u64::from(key), &mut rng)] += 1;
    }
    counts.iter().map(|n| f64::from(*n) / f64::from(draws)).collect()
}

fn close(share: f64, expected: f64) {
    // Five standard deviations of a binomial of 20,000 draws.
    let bound = 5.0 * (expected * (1.0 - expected) / 20_000.0).sqrt();
    assert!((share - expected).abs() < bound, "{share} is not {expected} ± {bound}");
}

/// So that the suites that go through the names leave none out.
#[test]
fn every_policy_has_its_name_in_the_config() {
    let schema = schemars::schema_for!(Policy).to_value();
    let names: Vec<&str> = schema["oneOf"].as_array().unwrap().iter().map(|variant| variant["const"].as_str().unwrap()).collect();
    assert_eq!(names, Policy::NAMES.map(|(name, _)| name));
    for (name, policy) in Policy::NAMES {
        assert_eq!((serde_json::from_value::<Policy>(name.into()).unwrap(), policy.name()), (policy, name));
    }
}

#[test]
fn weights_hold() {
    let (a, b, c) = (target("a"), target("b"), target("c"));
    for policy in [Policy::Weighted, Policy::Headroom, Policy::Affinity] {
        let got = shares(policy, &[(&a, 70), (&b, 20), (&c, 10)], 20_000);
        for (share, expected) in got.iter().zip([0.7, 0.2, 0.1]) {
            close(*share, expected);
        }
    }
}

#[test]
fn least_requests_evens_out_the_load_by_weight() {
    let targets = [target("a"), target("b"), target("c")];
    let weights = [1, 1, 2];
    let mut rng = fastrand::Rng::with_seed(3);
    let mut leases = Vec::new();
    for _ in 0..400 {
        let candidates: Vec<_> = targets.iter().zip(weights).map(|(target, weight)| Candidate { target, weight }).collect();
        let chosen = Policy::LeastRequests.pick(&candidates, 0, &mut rng);
        leases.push(targets[chosen].acquire(RequestKey::default(), NOW).unwrap());
    }
    let loads = targets.each_ref().map(|t| t.in_flight());
    assert!((90..=110).contains(&loads[0]) && (90..=110).contains(&loads[1]) && (185..=215).contains(&loads[2]), "{loads:?}");
}

#[test]
fn latency_prefers_the_faster() {
    let (fast, slow, fresh) = (target("fast"), target("slow"), target("fresh"));
    succeed(&fast, Duration::from_millis(100), None);
    succeed(&slow, Duration::from_millis(900), None);
    let got = shares(Policy::Latency, &[(&fast, 1), (&slow, 1)], 1000);
    assert_eq!(got, [1.0, 0.0]);
    let got = shares(Policy::Latency, &[(&fast, 1), (&fresh, 1)], 20_000);
    close(got[1], 0.5);
}

#[test]
fn headroom_follows_what_is_left() {
    let (full, low) = (target("full"), target("low"));
    succeed(&full, Duration::from_millis(1), Some(75));
    succeed(&low, Duration::from_millis(1), Some(25));
    let got = shares(Policy::Headroom, &[(&full, 1), (&low, 1)], 20_000);
    close(got[0], 0.75);
}

#[test]
fn affinity_keeps_keys_and_moves_only_those_of_a_lost_member() {
    let targets = ["a", "b", "c", "d"].map(target);
    let all: Vec<_> = targets.iter().map(|target| Candidate { target, weight: 1 }).collect();
    let mut rng = fastrand::Rng::with_seed(1);
    let before: Vec<_> = (0..1000).map(|key| Policy::Affinity.pick(&all, key, &mut rng)).collect();
    let after: Vec<_> = (0..1000).map(|key| Policy::Affinity.pick(&all[..3], key, &mut rng)).collect();
    for (was, is) in before.iter().zip(&after) {
        assert!(was == is || *was == 3);
    }
}

#[test]
fn affinity_passes_an_overloaded_member() {
    let targets = ["a", "b"].map(target);
    let candidates: Vec<_> = targets.iter().map(|target| Candidate { target, weight: 1 }).collect();
    let mut rng = fastrand::Rng::with_seed(1);
    let favourite = Policy::Affinity.pick(&candidates, 42, &mut rng);
    let leases: Vec<_> = (0..10).map(|_| targets[favourite].acquire(RequestKey::default(), NOW).unwrap()).collect();
    assert_ne!(Policy::Affinity.pick(&candidates, 42, &mut rng), favourite);
    drop(leases);
    assert_eq!(Policy::Affinity.pick(&candidates, 42, &mut rng), favourite);
}

#[derive(Debug, Clone)]
struct Setup {
    priority: u32,
    weight: u32,
    throttled: bool,
    drained: bool,
    down: bool,
    tried: bool,
}

fn setups() -> impl Strategy<Value = Vec<Setup>> {
    let one = (1u32..4, 0u32..5, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>())
        .prop_map(|(priority, weight, throttled, drained, down, tried)| Setup { priority, weight, throttled, drained, down, tried });
    proptest::collection::vec(one, 1..12)
}

proptest! {
    /// On every policy: only a usable, untried member of the lowest tier that has one is picked,
    /// and one is picked whenever there is any.
    #[test]
    fn every_policy_picks_a_usable_member_of_the_lowest_tier(setups in setups(), seed in any::<u64>()) {
        let rules = CircuitRules::default();
        let members: Vec<Member> = setups.iter().enumerate().map(|(i, setup)| {
            let target = target(&format!("t{i}"));
            if setup.throttled {
                target.acquire(RequestKey::default(), NOW).unwrap().record(Outcome::Throttled { retry_after: Some(Duration::from_secs(9)), scope: ThrottleScope::Quota }, &rules, NOW);
            }
            target.set_drained(setup.drained);
            let up = HealthFlag::default();
            up.set(!setup.down);
            Member { target, priority: setup.priority, weight: setup.weight, location: None, backend: i, up: MemberHealth { healthy: Arc::new(up), ..MemberHealth::default() }, serves: Default::default() }
        }).collect();
        let tried: smallvec::SmallVec<[usize; 8]> = setups.iter().enumerate().filter(|(_, s)| s.tried).map(|(i, _)| i).collect();
        let usable = |i: &usize| { let s = &setups[*i]; s.weight > 0 && !s.throttled && !s.drained && !s.down && !s.tried };
        let best = (0..setups.len()).filter(usable).map(|i| setups[i].priority).min();
        for (name, policy) in Policy::NAMES {
            let route = Route::new(members.clone(), policy);
            let request = PickRequest { excluded: &[], throttled: &[], tried: &tried, fence: None, affinity_key: seed, key: RequestKey::default(), demand: None, class: Default::default(), is_late: false };
            let picked = route.pick(&request, NOW, &mut fastrand::Rng::with_seed(seed));
            match (picked, best) {
                (Ok(pick), Some(priority)) => {
                    prop_assert!(usable(&pick.index), "{name} picked {}", pick.index);
                    prop_assert_eq!(setups[pick.index].priority, priority, "{}", name);
                }
                (Err(_), None) => {}
                (picked, best) => prop_assert!(false, "{name}: {picked:?} with best tier {best:?}"),
            }
        }
    }
}
