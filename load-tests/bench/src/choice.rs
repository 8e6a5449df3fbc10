//! What choosing a target costs, without any I/O around it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use spillway::balance::policy::Policy;
use spillway::balance::provisioned::{Demand, Elsewhere, PtuConfig};
use spillway::balance::ptu::load::Ask;
use spillway::balance::ptu::shares::Caller;
use spillway::balance::ptu::steer::Rules;
use spillway::balance::route::{Member, PickRequest, Route};
use spillway::balance::target::{Target, TargetId};
use spillway::clock::Tick;
use spillway_plugins::limits::Class;

/// Nanoseconds for one choice among 100 usable targets of one tier, its slot taken and given back. `steered`: each has
/// provisioned throughput, and the choice asks for its room and books it.
pub fn nanos(policy: Policy, steered: bool) -> f64 {
    let members: Vec<Member> = (0..100)
        .map(|number| {
            let id = TargetId { backend: format!("backend-{number}").into(), deployment: "m".into() };
            Member {
                target: Arc::new(Target::new(id, Some(1000))),
                priority: 1,
                weight: 1 + number % 7,
                location: None,
                backend: 0,
                up: Default::default(),
                serves: Default::default(),
            }
        })
        .collect();
    let mut route = Route::new(members, policy);
    if steered {
        for member in route.members() {
            member.target.provisioned.configure(Some(ptu()), Tick(1));
        }
        route = route.provisioned(Some(Rules::default()));
    }
    let demand = steered.then(demand);
    let mut rng = fastrand::Rng::with_seed(1);
    const ROUNDS: u32 = 200_000;
    let began = Instant::now();
    for round in 0..ROUNDS {
        let request = PickRequest {
            excluded: &[],
            throttled: &[],
            tried: &[],
            fence: None,
            affinity_key: u64::from(round),
            key: Default::default(),
            demand: demand.as_ref(),
            class: Class::Standard,
            is_late: false,
        };
        let pick = route.pick(&request, Tick(1), &mut rng);
        std::hint::black_box(&pick);
    }
    began.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
}

fn ptu() -> PtuConfig {
    let depth = Duration::from_secs(10);
    PtuConfig { per_second: Some(23_750.0), output_ratio: 8.0, depth, refusals: 0.004, shares: Arc::default() }
}

fn demand() -> Demand {
    Demand {
        ask: Ask { prompt: 1500, cap: Some(300), choices: 1 },
        caller: Caller { consumer: 1, group: None, class: Class::Standard },
        elsewhere: Some(Elsewhere { input: 1e-6, cached: 1e-7, output: 1e-5 }),
        needed_by: None,
        takes: Duration::ZERO,
        waited: Duration::ZERO,
        may_wait: true,
    }
}
