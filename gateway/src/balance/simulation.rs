//! A seeded simulation: thousands of requests over virtual time against targets that throttle,
//! fail and recover, through the same selector, circuit and budget that the gateway uses.

use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use spillway_plugins::retry::{RateSignal, ThrottleScope};

use super::circuit::{CircuitRules, ErrorKind, Failure, Threshold};
use super::policy::Policy;
use super::route::{Member, PickRequest, Route};
use super::target::{Lease, Outcome, RequestKey, Target, TargetId, Unavailable};
use crate::clock::Tick;

const MILLI: Duration = Duration::from_millis(1);

/// One simulated upstream: its rate limit per second and its times of failure.
struct Upstream {
    capacity_per_second: u32,
    second: u64,
    used: u32,
    failing: Vec<(u64, u64)>,
}

impl Upstream {
    fn answer(&mut self, now: Tick, rng: &mut fastrand::Rng) -> Outcome {
        let second = now.0 / 1_000_000_000;
        if self.failing.iter().any(|(from, to)| (*from..*to).contains(&second)) {
            return Outcome::Failed { failure: Failure::Error(ErrorKind::Connect), retry_after: None };
        }
        if self.second != second {
            (self.second, self.used) = (second, 0);
        }
        if self.used >= self.capacity_per_second {
            let rest = Duration::from_nanos(1_000_000_000 - now.0 % 1_000_000_000);
            return Outcome::Throttled { retry_after: Some(rest + MILLI * rng.u32(0..50)), scope: ThrottleScope::Quota };
        }
        self.used += 1;
        Outcome::Success { first: MILLI * 50, signal: RateSignal::default() }
    }
}

/// A request under way: ends at `at`, and holds a slot of its target until then.
struct Running {
    at: Tick,
    lease: Lease,
    outcome: Outcome,
}

impl PartialEq for Running {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl Eq for Running {}
impl PartialOrd for Running {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Running {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.at.cmp(&self.at)
    }
}

#[derive(Default)]
struct Report {
    served: Vec<u64>,
    visible_429: u64,
    visible_5xx: u64,
    attempts: u64,
    probes: u64,
}

fn simulate(policy: Policy, seed: u64, seconds: u64, rate_per_second: u64) -> Report {
    let mut rng = fastrand::Rng::with_seed(seed);
    let rules = CircuitRules { threshold: Threshold::Failures(3), trip: Duration::from_secs(5), ..CircuitRules::default() };
    let plan: [(&str, u32, u32, u32); 5] = [("ptu", 1, 1, 30), ("se", 2, 7, 25), ("fr", 2, 3, 25), ("us", 3, 1, 20), ("jp", 3, 1, 20)];
    let members: Vec<Member> = plan
        .iter()
        .map(|(name, priority, weight, _)| {
            let id = TargetId { backend: (*name).into(), deployment: "m".into() };
            Member {
                target: Arc::new(Target::new(id, Some(64))),
                priority: *priority,
                weight: *weight,
                location: None,
                backend: 0,
                up: Default::default(),
                serves: Default::default(),
            }
        })
        .collect();
    let mut upstreams: Vec<Upstream> = plan
        .iter()
        .map(|(_, _, _, capacity)| {
            let failing = (0..2)
                .map(|_| {
                    let from = rng.u64(3610..3600 + seconds);
                    (from, from + rng.u64(1..20))
                })
                .collect();
            Upstream { capacity_per_second: *capacity, second: 0, used: 0, failing }
        })
        .collect();
    let route = Route::new(members, policy);
    let mut running: BinaryHeap<Running> = BinaryHeap::new();
    let mut report = Report { served: vec![0; plan.len()], ..Report::default() };
    let mut now = Tick(3_600_000_000_000);
    let end = now + Duration::from_secs(seconds);
    while now < end {
        now = now + Duration::from_nanos(rng.u64(0..2_000_000_000 / rate_per_second));
        while running.peek().is_some_and(|next| next.at <= now) {
            let Some(mut done) = running.pop() else { break };
            done.lease.record(done.outcome, &rules, done.at);
        }
        run_request(&route, &rules, &mut upstreams, &mut running, &mut report, now, &mut rng);
    }
    report
}

/// One request's attempts: refusals and failures end at once, successes take a while.
fn run_request(
    route: &Route,
    rules: &CircuitRules,
    upstreams: &mut [Upstream],
    running: &mut BinaryHeap<Running>,
    report: &mut Report,
    now: Tick,
    rng: &mut fastrand::Rng,
) {
    let mut tried: Vec<usize> = Vec::new();
    let mut failed = false;
    loop {
        let before: Vec<Option<Unavailable>> = route.members().iter().map(|m| m.target.closed(now)).collect();
        let request = PickRequest {
            excluded: &[],
            throttled: &[],
            tried: &tried,
            fence: None,
            affinity_key: rng.u64(0..40),
            key: RequestKey::default(),
            demand: None,
            class: Default::default(),
            is_late: false,
        };
        let picked = route.pick(&request, now, rng);
        let Ok(mut pick) = picked else {
            if failed {
                report.visible_5xx += 1
            } else {
                report.visible_429 += 1
            }
            for (index, closed) in before.iter().enumerate() {
                assert!(closed.is_some() || tried.contains(&index), "refused while {index} was usable");
            }
            return;
        };
        assert_eq!(before[pick.index], None, "attempt at a closed target");
        report.attempts += 1;
        if pick.lease.is_probe() {
            report.probes += 1;
            assert!(route.members()[pick.index].target.acquire(RequestKey::default(), now).is_none(), "a second probe beside the first");
        }
        tried.push(pick.index);
        match upstreams[pick.index].answer(now, rng) {
            outcome @ Outcome::Success { .. } => {
                report.served[pick.index] += 1;
                // One in twenty callers leaves: the lease is dropped without an outcome.
                if rng.u32(0..20) > 0 {
                    running.push(Running { at: now + MILLI * rng.u32(20..400), lease: pick.lease, outcome });
                }
                return;
            }
            outcome => {
                failed |= matches!(outcome, Outcome::Failed { .. });
                pick.lease.record(outcome, rules, now);
            }
        }
    }
}

#[test]
fn never_a_closed_target_never_a_needless_429() {
    for (name, policy) in Policy::NAMES {
        for seed in 0..6 {
            let report = simulate(policy, seed, 120, 80);
            let served: u64 = report.served.iter().sum();
            assert!(served > 8_000, "{name}/{seed}: {served} served");
            assert!(report.probes > 0, "{name}/{seed}: nothing was ever probed");
            // Capacity is 120 a second for a load of 80: only overlapping failures exhaust it.
            assert!(report.visible_429 + report.visible_5xx < served / 10, "{name}/{seed}: {} refused", report.visible_429);
            assert!(report.served.iter().all(|n| *n > 0), "{name}/{seed}: starved {:?}", report.served);
            assert!(report.served[0] > served / 5, "{name}/{seed}: the first tier fills first {:?}", report.served);
        }
    }
}

#[test]
fn overload_refuses_only_what_nobody_could_take() {
    for seed in 0..4 {
        let report = simulate(Policy::Weighted, seed, 60, 300);
        assert!(report.visible_429 > 1000, "{seed}: {} refused", report.visible_429);
        assert!(report.attempts < 60 * 300, "{seed}: {} attempts for 120 a second of room", report.attempts);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let runs = [0, 0].map(|seed| {
        let report = simulate(Policy::Affinity, seed, 30, 100);
        (report.served, report.attempts, report.visible_429)
    });
    assert_eq!(runs[0], runs[1]);
}
