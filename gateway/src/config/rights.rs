//! What a caller may use: for consumers, and for callers that are not listed.

use std::sync::Arc;

use spillway_plugins::api::Api;
use spillway_plugins::service_tier::ServiceTier;

use super::checker::Checker;
use super::raw::{RawApiKind, RawBackend, RawGroup, RawPool, RawServiceTier};

/// What a consumer may use. `None` means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// Models.
    pub models: Option<Vec<String>>,
    /// Pools.
    pub pools: Option<Vec<String>>,
    /// Locations.
    pub locations: Option<Vec<Arc<str>>>,
    /// Kinds of API.
    pub apis: Option<Vec<Api>>,
    /// Service tiers that its requests may ask for; the default one may always be.
    pub service_tiers: Option<Vec<ServiceTier>>,
    /// Its tokens need one of these roles; empty if none is needed.
    pub roles: Vec<String>,
    /// Its tokens need one of these scopes; empty if none is needed.
    pub scopes: Vec<String>,
}

/// The names that rights and limits can refer to.
pub(super) struct Known<'r> {
    pub(super) models: Vec<&'r str>,
    pools: Vec<&'r str>,
    locations: Vec<&'r str>,
    groups: Vec<&'r str>,
}

impl<'r> Known<'r> {
    pub(super) fn new(pools: &'r [RawPool], backends: &'r [RawBackend], groups: &'r [RawGroup]) -> Self {
        Known {
            groups: groups.iter().map(|group| group.name.as_str()).collect(),
            models: pools.iter().flat_map(|pool| &pool.models).map(String::as_str).collect(),
            pools: pools.iter().map(|pool| pool.name.as_str()).collect(),
            locations: backends.iter().filter_map(|backend| backend.location.as_deref()).collect(),
        }
    }

    /// The index of a group.
    pub(super) fn group(&self, name: Option<&String>, key: &str, check: &mut Checker<'_>) -> Option<usize> {
        let name = name?;
        let found = self.groups.iter().position(|group| group == name);
        if found.is_none() {
            check.unknown(key, "group", name, self.groups.iter().copied());
        }
        found
    }
}

/// Rights as they are written, for a consumer or for unlisted callers.
pub(super) struct RawRights<'r> {
    pub(super) models: &'r Option<Vec<String>>,
    pub(super) pools: &'r Option<Vec<String>>,
    pub(super) locations: &'r Option<Vec<String>>,
    pub(super) apis: &'r Option<Vec<RawApiKind>>,
    pub(super) service_tiers: &'r Option<Vec<RawServiceTier>>,
    pub(super) roles: &'r Option<Vec<String>>,
    pub(super) scopes: &'r Option<Vec<String>>,
}

/// Checks rights.
pub(super) fn rights(raw: &RawRights<'_>, key: &str, known: &Known<'_>, check: &mut Checker<'_>) -> Rights {
    for (given, known, list, what) in [
        (raw.models, &known.models, "models", "model (in no pool)"),
        (raw.pools, &known.pools, "pools", "pool"),
        (raw.locations, &known.locations, "locations", "location (of no backend)"),
    ] {
        for (at, name) in given.iter().flatten().enumerate().filter(|(_, name)| !known.contains(&name.as_str())) {
            check.unknown(&format!("{key}.{list}[{at}]"), what, name, known.iter().copied());
        }
    }
    Rights {
        models: raw.models.clone(),
        pools: raw.pools.clone(),
        locations: raw.locations.as_ref().map(|all| all.iter().map(|one| one.as_str().into()).collect()),
        apis: raw.apis.as_ref().map(|kinds| Api::ALL.into_iter().filter(|api| kinds.iter().any(|kind| kind.includes(*api))).collect()),
        service_tiers: raw.service_tiers.as_ref().map(|tiers| tiers.iter().map(|tier| ServiceTier::from(*tier)).collect()),
        roles: raw.roles.clone().unwrap_or_default(),
        scopes: raw.scopes.clone().unwrap_or_default(),
    }
}
