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

/// Choices in a slice, and slices.
const CHOICES: u32 = 2_000;
const SLICES: usize = 101;
/// Time from one choice to the next.
const PAUSE: Duration = Duration::from_micros(100);

/// Nanoseconds for one choice among 100 usable targets of one tier, its slot taken and given back.
pub fn nanos(policy: Policy) -> f64 {
    let mut choices = Choices::new(policy, false);
    median((0..SLICES).map(|_| choices.slice()).collect())
}

/// Nanoseconds that a choice takes longer if each of the targets has provisioned throughput, so that the chosen one is asked
/// for room, and what the request needs is booked and given back. In slices that alternate: what the machine does to one, it
/// does to the other.
pub fn steered_nanos_more(policy: Policy) -> f64 {
    let (mut off, mut on) = (Choices::new(policy, false), Choices::new(policy, true));
    median((0..SLICES).map(|_| on.slice() - off.slice()).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A route of 100 targets, and the time there.
struct Choices {
    route: Route,
    demand: Option<Demand>,
    rng: fastrand::Rng,
    now: Tick,
}

impl Choices {
    fn new(policy: Policy, steered: bool) -> Self {
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
        let now = Tick(3_600_000_000_000);
        let mut route = Route::new(members, policy);
        if steered {
            for member in route.members() {
                member.target.provisioned.configure(Some(ptu()), now);
            }
            route = route.provisioned(Some(Rules::default()));
        }
        Choices { route, demand: steered.then(demand), rng: fastrand::Rng::with_seed(1), now }
    }

    /// Nanoseconds for a choice, as the mean of a slice.
    fn slice(&mut self) -> f64 {
        let began = Instant::now();
        for round in 0..CHOICES {
            self.now = self.now + PAUSE;
            let request = PickRequest {
                excluded: &[],
                throttled: &[],
                tried: &[],
                fence: None,
                affinity_key: u64::from(round),
                key: Default::default(),
                demand: self.demand.as_ref(),
                class: Class::Standard,
                is_late: false,
            };
            let pick = self.route.pick(&request, self.now, &mut self.rng);
            std::hint::black_box(&pick);
        }
        began.elapsed().as_nanos() as f64 / f64::from(CHOICES)
    }
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
        is_new: true,
    }
}
