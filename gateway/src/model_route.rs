//! A model's route as the config of its pool says: one builder for the gateway and for the simulator, so that what is simulated is what
//! runs.

use std::sync::Arc;

use spillway_plugins::api::Api;
use spillway_plugins::prices::Price;

use crate::balance::provisioned::Elsewhere;
use crate::balance::route::{Member, MemberHealth, Route};
use crate::balance::target::Target;
use crate::config::{BackendConfig, MemberConfig, PoolConfig};

/// A member of the pool that can serve the model.
#[derive(Debug)]
pub struct Place<'c> {
    /// The member.
    pub member: &'c MemberConfig,
    /// Its backend.
    pub backend: &'c BackendConfig,
    /// The model's deployment there.
    pub target: Arc<Target>,
    /// What the deployment costs by use, if it does.
    pub by_use: Option<Price>,
    /// Whether it is there.
    pub up: MemberHealth,
}

/// Where the requests for a model can go. Members are in the order of their places.
#[derive(Debug)]
pub struct ModelRoute {
    /// Members and tiers.
    pub route: Route,
    /// Members that can't serve an operation, by its place in [`Api::ALL`].
    pub excluded: Vec<Vec<usize>>,
    /// What tokens cost at the first tier below provisioned throughput, if there is any.
    pub elsewhere: Option<Elsewhere>,
}

impl ModelRoute {
    /// The route of one model.
    pub fn new(pool: &PoolConfig, places: Vec<Place<'_>>) -> Self {
        let cannot = |api: Api| move |(_, place): &(usize, &Place<'_>)| !place.backend.kind.provider().serves(api);
        let excluded = Api::ALL.into_iter().map(|api| places.iter().enumerate().filter(cannot(api)).map(|(at, _)| at).collect()).collect();
        let is_provisioned = |place: &Place<'_>| place.backend.ptu.contains_key(&*place.target.id.deployment);
        let elsewhere = Elsewhere::below(places.iter().map(|place| (place.member.priority, is_provisioned(place), place.by_use.as_ref())));
        let has_provisioned = places.iter().any(is_provisioned);
        let members = places.into_iter().map(|Place { member, backend, target, up, .. }| Member {
            target,
            priority: member.priority,
            weight: member.weight,
            location: backend.location.clone(),
            backend: member.backend,
            up,
            serves: member.serves,
        });
        let route = Route::new(members.collect(), pool.policy);
        ModelRoute { route: if has_provisioned { route.provisioned(pool.steering) } else { route }, excluded, elsewhere }
    }
}
