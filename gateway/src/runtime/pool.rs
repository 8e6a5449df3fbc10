//! Makes one pool from the config.

use std::sync::Arc;

use spillway_plugins::api::Api;
use spillway_plugins::limits::Scope;
use spillway_plugins::tokens::may_reason;
use spillway_plugins::trace;

use super::model::{LastResort, Model, Pool};
use crate::backend::{Backend, Targets};
use crate::balance::budget::RetryBudget;
use crate::balance::route::{HealthFlag, Member, MemberHealth, Route};
use crate::balance::waiting::Waiting;
use crate::config::{self, Prices};
use crate::ledger::MemberLabels;
use crate::telemetry::metrics::Metrics;

/// Health flags by member. The results in `before` are kept for the same backend with the same checks.
pub(super) fn health(
    pool: &config::PoolConfig,
    backends: &[Arc<Backend>],
    before: Option<(&Pool, &[Arc<Backend>])>,
) -> Vec<Arc<HealthFlag>> {
    let known = |member: &config::MemberConfig| {
        let (known, known_backends) = before.filter(|(known, _)| known.config.health == pool.health)?;
        let same = |other: &config::MemberConfig| Arc::ptr_eq(&known_backends[other.backend], &backends[member.backend]);
        known.config.members.iter().position(same).map(|at| Arc::clone(&known.health[at]))
    };
    pool.members.iter().map(|member| known(member).unwrap_or_default()).collect()
}

#[expect(clippy::too_many_arguments, reason = "one call, of one thing's parts")]
pub(super) fn live(
    index: usize,
    pool: &config::PoolConfig,
    scope: Option<Arc<Scope>>,
    prices: &Prices,
    backends: &[Arc<Backend>],
    health: Vec<Arc<HealthFlag>>,
    targets: &mut Targets,
    metrics: &Metrics,
) -> Pool {
    let models =
        pool.models.iter().map(|name| Arc::new(live_model(index, name, pool, prices, backends, &health, targets, metrics))).collect();
    let last_resort = pool.members.iter().filter(|member| member.weight > 0).find_map(|member| {
        let backend = &backends[member.backend].config;
        Some(LastResort { backend: backend.name.clone(), reply: backend.kind.provider().own_answer()?.into() })
    });
    // So that the metric exists from the start.
    if last_resort.is_some() {
        metrics.last_resort(&pool.name);
    }
    if pool.rescue.is_some() {
        metrics.expose_rescues(&pool.name);
    }
    Pool {
        config: pool.clone(),
        scope,
        budget: RetryBudget::default(),
        waiting: Waiting::default(),
        last_resort,
        health,
        models,
        requests: Api::ALL.into_iter().map(|api| metrics.request(&pool.name, Some(api))).collect(),
    }
}

#[expect(clippy::too_many_arguments, reason = "one call, of one thing's parts")]
fn live_model(
    pool_index: usize,
    name: &str,
    pool: &config::PoolConfig,
    prices: &Prices,
    backends: &[Arc<Backend>],
    health: &[Arc<HealthFlag>],
    targets: &mut Targets,
    metrics: &Metrics,
) -> Model {
    let (mut members, mut contexts, mut reasons) = (Vec::new(), Vec::new(), may_reason(name));
    for (member, health) in pool.members.iter().zip(health) {
        let backend = &backends[member.backend];
        // A mock is not a target: it answers when no target can.
        let Some(upstream) = &backend.upstream else { continue };
        let traits = prices.traits(&backend.config, name);
        contexts.push(member.context.or(traits.context));
        reasons |= traits.reasons || may_reason(backend.config.deployment(name));
        members.push(Member {
            target: targets.get(&backend.config, name),
            priority: member.priority,
            weight: member.weight,
            location: backend.config.location.clone(),
            backend: member.backend,
            up: MemberHealth {
                healthy: Arc::clone(health),
                resolved: Arc::clone(&upstream.resolved),
                credential: Arc::clone(&upstream.credential),
            },
        });
    }
    let excluded = Api::ALL
        .into_iter()
        .map(|api| (0..members.len()).filter(|i| !backends[members[*i].backend].config.kind.provider().serves(api)).collect())
        .collect();
    let counters = members.iter().map(|m| metrics.member(&pool.name, &m.target.id.backend, &m.target.id.deployment, m.priority)).collect();
    let prices = members.iter().map(|member| prices.of(&backends[member.backend].config, name)).collect();
    let (name, pool_name): (Arc<str>, Arc<str>) = (name.into(), pool.name.clone());
    let place = |member: &Member| MemberLabels {
        model: Arc::clone(&name),
        pool: Arc::clone(&pool_name),
        backend: Arc::clone(&member.target.id.backend),
        deployment: Arc::clone(&member.target.id.deployment),
        tier: member.priority,
    };
    // Requests that don't reach a member.
    let own = |part: &str| {
        let (model, pool) = (Arc::clone(&name), Arc::clone(&pool_name));
        Arc::new(MemberLabels { model, pool, backend: part.into(), deployment: part.into(), tier: 0 })
    };
    let (cache_labels, guard_labels) = (own("cache"), own("guard"));
    let places = members.iter().map(|member| Arc::new(place(member))).collect();
    let traced = members.iter().filter_map(|member| Some(Arc::new(traced(member, &backends[member.backend])?))).collect();
    Model {
        name,
        pool: pool_index,
        route: Route::new(members, pool.policy),
        metrics: counters,
        prices,
        contexts,
        reasons,
        places,
        traced,
        cache_labels,
        guard_labels,
        excluded,
    }
}

/// A member's name in spans.
fn traced(member: &Member, backend: &Backend) -> Option<trace::SpanTarget> {
    let endpoint = &backend.upstream.as_ref()?.endpoint;
    Some(trace::SpanTarget {
        provider: backend.config.kind.provider().semconv_name(),
        host: endpoint.host.clone(),
        port: endpoint.port,
        backend: Arc::clone(&member.target.id.backend),
        deployment: Arc::clone(&member.target.id.deployment),
        tier: member.priority,
        location: member.location.clone(),
    })
}
