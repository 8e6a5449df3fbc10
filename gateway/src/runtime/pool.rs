//! Makes one pool from the config.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use spillway_plugins::api::Api;
use spillway_plugins::limits::Scope;
use spillway_plugins::tokens::may_reason;
use spillway_plugins::trace;

use super::model::{LastResort, Member, Model, Pool};
use crate::backend::{Backend, Targets};
use crate::balance::budget::RetryBudget;
use crate::balance::durations::Durations;
use crate::balance::route::{HealthFlag, MemberHealth};
use crate::balance::waiting::Waiting;
use crate::config::{self, DeploymentPrice, Prices};
use crate::ledger::MemberLabels;
use crate::model_route::{ModelRoute, Place};
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
    let own_answer = |member: &config::MemberConfig| backends[member.backend].config.kind.provider().own_answer();
    let alone = pool.members.iter().all(|member| own_answer(member).is_some());
    let last_resort = pool.members.iter().filter(|member| member.weight > 0).find_map(|member| {
        Some(LastResort { backend: backends[member.backend].config.name.clone(), reply: own_answer(member)?.into(), alone })
    });
    // So that the metric exists from the start.
    if last_resort.is_some() {
        metrics.requests.last_resort(&pool.name);
    }
    if pool.rescue.is_some() {
        metrics.requests.expose_rescues(&pool.name);
    }
    Pool {
        config: pool.clone(),
        scope,
        budget: RetryBudget::default(),
        waiting: Waiting::default(),
        last_resort,
        health,
        models,
        requests: Api::ALL.into_iter().map(|api| metrics.requests.of(&pool.name, Some(api))).collect(),
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
    let (name, pool_name): (Arc<str>, Arc<str>) = (name.into(), pool.name.clone());
    let labels = |backend: &Arc<str>, deployment: &Arc<str>, tier: u32| {
        let (model, pool) = (Arc::clone(&name), Arc::clone(&pool_name));
        Arc::new(MemberLabels { model, pool, backend: Arc::clone(backend), deployment: Arc::clone(deployment), tier, spilled_from: None })
    };
    let (mut places, mut members, mut reasons) = (Vec::new(), Vec::new(), may_reason(&name));
    for (member, health) in pool.members.iter().zip(health) {
        let backend = &backends[member.backend];
        // A mock is not a target: it answers when no target can.
        let Some(upstream) = &backend.upstream else { continue };
        let traits = prices.traits(&backend.config, &name);
        reasons |= traits.reasons || may_reason(backend.config.deployment(&name));
        let target = targets.get(&backend.config, &name);
        let id = &target.id;
        let price = prices.of(&backend.config, &name);
        let by_use = price.as_ref().and_then(DeploymentPrice::by_use).cloned();
        members.push(Member {
            metrics: metrics.members.of(&pool.name, &id.backend, &id.deployment, member.priority),
            price,
            context: member.context.or(traits.context),
            service_tier: member.service_tier,
            place: labels(&id.backend, &id.deployment, member.priority),
            traced: Arc::new(trace::SpanTarget {
                provider: backend.config.kind.provider().semconv_name(),
                host: upstream.endpoint.host.clone(),
                port: upstream.endpoint.port,
                backend: Arc::clone(&id.backend),
                deployment: Arc::clone(&id.deployment),
                tier: member.priority,
                location: backend.config.location.clone(),
            }),
            spilled: ArcSwapOption::empty(),
        });
        let up = MemberHealth {
            healthy: Arc::clone(health),
            resolved: Arc::clone(&upstream.resolved),
            credential: Arc::clone(&upstream.credential),
        };
        places.push(Place { member, backend: &backend.config, target, by_use, up });
    }
    let ModelRoute { route, excluded, elsewhere } = ModelRoute::new(pool, places);
    // Requests that don't reach a member.
    let own = |part: &str| labels(&part.into(), &part.into(), 0);
    let (cache_labels, guard_labels) = (own("cache"), own("guard"));
    Model {
        name: Arc::clone(&name),
        pool: pool_index,
        route,
        members,
        elsewhere,
        durations: Durations::default(),
        reasons,
        cache_labels,
        guard_labels,
        excluded,
    }
}
