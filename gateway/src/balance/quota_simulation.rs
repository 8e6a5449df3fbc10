//! A seeded simulation of quotas that deployments share: minutes of requests of different sizes at 30 members in five
//! quota pools, beside a clairvoyant that knows what is left of each quota.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use spillway_plugins::retry::{Quota, RateSignal, ThrottleScope};

use super::circuit::CircuitRules;
use super::policy::Policy;
use super::quota_pool::QuotaPool;
use super::route::{Member, PickRequest, Route};
use super::target::{Outcome, RequestKey, Target, TargetId};
use crate::clock::Tick;

const MINUTE: u64 = 60_000_000_000;
const MEMBERS: usize = 30;

/// Which numbers the members' headers have.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Headers {
    None,
    /// What is left of the quota.
    OfTheQuota,
    /// What a deployment counts by itself: always much.
    OfTheDeployment,
}

#[derive(Debug, Clone)]
struct Plan {
    /// The quota of each member, and how many tokens each quota has in a minute.
    quota_of: [usize; MEMBERS],
    quotas: Vec<u64>,
    /// The label of each member in the config.
    labels: [Option<usize>; MEMBERS],
    headers: Headers,
    consumers: u64,
    minutes: u64,
    /// Tokens that are asked for in a minute, on average.
    demand: u64,
    sizes: std::ops::Range<u64>,
}

impl Plan {
    /// Five pools of six members; the first one has a fifth of what its share of the demand needs.
    fn one_throttled() -> Self {
        let pool_of = std::array::from_fn(|member| member / 6);
        Plan {
            quota_of: pool_of,
            quotas: vec![10_000, 100_000, 100_000, 100_000, 100_000],
            labels: pool_of.map(Some),
            headers: Headers::None,
            consumers: 0,
            minutes: 12,
            demand: 200_000,
            sizes: 50..500,
        }
    }
}

#[derive(Debug, Default)]
struct Report {
    served_tokens: u64,
    clairvoyant_tokens: u64,
    /// Refused attempts by quota and minute.
    refused: BTreeMap<(usize, u64), u32>,
}

impl Report {
    fn most_refused(&self) -> u32 {
        self.refused.values().copied().max().unwrap_or(0)
    }

    fn total_refused(&self) -> u32 {
        self.refused.values().sum()
    }

    fn goodput(&self) -> f64 {
        self.served_tokens as f64 / self.clairvoyant_tokens as f64
    }
}

/// Tokens left of each quota in the current minute.
struct Left {
    minute: u64,
    left: Vec<u64>,
}

impl Left {
    fn at(&mut self, now: Tick, plan: &Plan) -> &mut Vec<u64> {
        if self.minute != now.0 / MINUTE {
            (self.minute, self.left) = (now.0 / MINUTE, plan.quotas.clone());
        }
        &mut self.left
    }
}

fn simulate(plan: &Plan, seed: u64) -> Report {
    let mut rng = fastrand::Rng::with_seed(seed);
    let pools: Vec<Arc<QuotaPool>> = (0..MEMBERS).map(|number| Arc::new(QuotaPool::new(number.to_string().into()))).collect();
    let members = (0..MEMBERS)
        .map(|number| {
            let target = Target::new(TargetId { backend: number.to_string().into(), deployment: "m".into() }, None);
            target.set_quota(plan.labels[number].map(|label| Arc::clone(&pools[label])));
            Member {
                target: Arc::new(target),
                priority: 1,
                weight: 1,
                location: None,
                backend: 0,
                up: Default::default(),
                serves: Default::default(),
            }
        })
        .collect();
    let route = Route::new(members, Policy::Weighted);
    let (mut left, mut ideal) = (Left { minute: 0, left: Vec::new() }, Left { minute: 0, left: Vec::new() });
    let mut report = Report::default();
    let mut now = Tick(MINUTE * 60);
    let end = Tick(MINUTE * (60 + plan.minutes));
    let mean = (plan.sizes.start + plan.sizes.end) / 2;
    let gap = MINUTE * mean / plan.demand;
    while now < end {
        now = now + Duration::from_nanos(rng.u64(0..gap * 2));
        let size = rng.u64(plan.sizes.clone());
        let by = if plan.consumers == 0 { 0 } else { rng.u64(1..=plan.consumers) };
        run_request(plan, &route, &mut left, &mut report, (size, by, now), &mut rng);
        if let Some(room) = ideal.at(now, plan).iter_mut().max().filter(|room| **room >= size) {
            *room -= size;
            report.clairvoyant_tokens += size;
        }
    }
    report
}

fn run_request(plan: &Plan, route: &Route, left: &mut Left, report: &mut Report, request: (u64, u64, Tick), rng: &mut fastrand::Rng) {
    let (size, by, now) = request;
    let (rules, key) = (CircuitRules::default(), RequestKey { by, ..RequestKey::default() });
    let mut tried = Vec::new();
    loop {
        let asked = PickRequest {
            excluded: &[],
            throttled: &[],
            tried: &tried,
            fence: None,
            affinity_key: 0,
            key,
            demand: None,
            class: Default::default(),
            is_late: false,
        };
        let Ok(mut pick) = route.pick(&asked, now, rng) else { return };
        tried.push(pick.index);
        let quota = plan.quota_of[pick.index];
        let room = &mut left.at(now, plan)[quota];
        if *room < size {
            *report.refused.entry((quota, now.0 / MINUTE)).or_default() += 1;
            let retry_after = Some(Duration::from_nanos(MINUTE - now.0 % MINUTE));
            pick.lease.record(Outcome::Throttled { retry_after, scope: ThrottleScope::Quota }, &rules, now);
            continue;
        }
        *room -= size;
        report.served_tokens += size;
        let tokens = match plan.headers {
            Headers::None => Quota::default(),
            Headers::OfTheQuota => Quota { remaining: Some(*room), limit: Some(plan.quotas[quota]), reset: None },
            Headers::OfTheDeployment => Quota { remaining: Some(900), limit: Some(1_000), reset: None },
        };
        let signal = RateSignal { tokens, ..RateSignal::default() };
        pick.lease.record(Outcome::Success { first: Duration::from_millis(50), signal }, &rules, now);
        return;
    }
}

#[test]
fn one_wasted_attempt_for_each_pool_and_window() {
    for headers in [Headers::None, Headers::OfTheQuota] {
        for seed in 0..3 {
            let plan = Plan { headers, ..Plan::one_throttled() };
            let report = simulate(&plan, seed);
            assert_eq!(report.most_refused(), 1, "{headers:?}/{seed}");
            assert!(report.refused.len() >= 12, "{headers:?}/{seed}: throttled in every minute");
            assert!(report.goodput() >= 0.99, "{headers:?}/{seed}: {}", report.goodput());
            let unlabelled = simulate(&Plan { labels: [None; MEMBERS], ..plan }, seed);
            assert!(unlabelled.total_refused() > 5 * report.total_refused(), "{headers:?}/{seed}: labels save attempts");
        }
    }
}

#[test]
fn each_consumer_learns_it_and_the_second_one_for_all() {
    for seed in 0..3 {
        let report = simulate(&Plan { consumers: 40, ..Plan::one_throttled() }, seed);
        assert_eq!(report.most_refused(), 2, "{seed}: one consumer's, and the one that confirms it");
        assert!(report.goodput() >= 0.99, "{seed}: {}", report.goodput());
    }
}

#[test]
fn headers_of_the_deployments_cost_one_more_attempt_in_two_minutes() {
    for seed in 0..3 {
        let report = simulate(&Plan { headers: Headers::OfTheDeployment, ..Plan::one_throttled() }, seed);
        let twice = report.refused.values().filter(|count| **count == 2).count();
        assert!(report.most_refused() == 2 && twice <= 6, "{seed}: {:?}", report.refused);
        assert!(report.goodput() >= 0.99, "{seed}: {}", report.goodput());
    }
}

#[test]
fn with_more_demand_than_all_quotas_have_nothing_is_left_over() {
    for seed in 0..3 {
        let plan = Plan { headers: Headers::OfTheQuota, demand: 600_000, sizes: 50..200, ..Plan::one_throttled() };
        let report = simulate(&plan, seed);
        assert!(report.goodput() >= 0.99 && report.goodput() <= 1.0, "{seed}: {}", report.goodput());
        assert_eq!(report.most_refused(), 1, "{seed}");
    }
}

/// The config says that members share a quota, but each has its own: one of them is small.
#[test]
fn a_wrong_label_is_found_out() {
    for seed in 0..3 {
        let own: [usize; MEMBERS] = std::array::from_fn(|member| member);
        let mut quotas = vec![12_000; MEMBERS];
        (0..5).for_each(|pool| quotas[pool * 6] = 1_000);
        // Nearly all that there is, so that a member that is closed without need is missed.
        let demand = quotas.iter().sum::<u64>() * 9 / 10;
        let plan =
            Plan { quota_of: own, quotas, headers: Headers::OfTheQuota, demand, minutes: 15, sizes: 100..300, ..Plan::one_throttled() };
        let report = simulate(&plan, seed);
        let believed = simulate(&Plan { headers: Headers::None, ..plan }, seed);
        assert!(report.goodput() >= 0.97, "{seed}: {}", report.goodput());
        assert!(believed.goodput() < 0.5, "{seed}: {} without headers that contradict the label", believed.goodput());
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let runs = [7, 7].map(|seed| {
        let report = simulate(&Plan { consumers: 9, minutes: 5, ..Plan::one_throttled() }, seed);
        (report.served_tokens, report.refused)
    });
    assert_eq!(runs[0], runs[1]);
}
