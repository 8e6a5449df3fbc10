//! What choosing a target costs, without any I/O around it.

use std::sync::Arc;
use std::time::Instant;

use spillway::balance::policy::Policy;
use spillway::balance::route::{Member, PickRequest, Route};
use spillway::balance::target::{Target, TargetId};
use spillway::clock::Tick;

/// Nanoseconds for one choice among 100 usable targets of one tier, its slot taken and given back.
pub fn nanos(policy: Policy) -> f64 {
    let members = (0..100)
        .map(|number| {
            let id = TargetId { backend: format!("backend-{number}").into(), deployment: "m".into() };
            Member {
                target: Arc::new(Target::new(id, Some(1000))),
                priority: 1,
                weight: 1 + number % 7,
                location: None,
                backend: 0,
                up: Default::default(),
            }
        })
        .collect();
    let route = Route::new(members, policy);
    let mut rng = fastrand::Rng::with_seed(1);
    const ROUNDS: u32 = 200_000;
    let began = Instant::now();
    for round in 0..ROUNDS {
        let request =
            PickRequest { excluded: &[], throttled: &[], tried: &[], fence: None, affinity_key: u64::from(round), key: Default::default() };
        let pick = route.pick(&request, Tick(1), &mut rng);
        std::hint::black_box(&pick);
    }
    began.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
}
