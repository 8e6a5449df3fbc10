//! The content of the status page, as one JSON value.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use spillway_plugins::service_tier::ServiceTier;

use super::state::Admin;
use crate::backend::Targets;
use crate::balance::member_state::MemberState;
use crate::balance::route::Member;
use crate::balance::snapshot::member_snapshot;
use crate::balance::target::{Target, TargetId};
use crate::clock::{Tick, millis};
use crate::gateway::Gateway;
use crate::ledger::usage::UsageRow;
use crate::runtime::{Model, Pool};
use crate::telemetry::recent::Recent;

/// Most consumers in one answer.
const CONSUMERS: usize = 100;

impl Admin {
    /// The whole status; only consumers whose names contain `search`.
    pub(super) async fn status(&self, search: &str) -> Value {
        let gateway = &self.gateway;
        let (runtime, now, metrics) = (gateway.runtime.load_full(), gateway.clock.now(), &gateway.metrics);
        let pools: Vec<Value> = runtime.pools.iter().map(|pool| pool_status(pool, gateway, now)).collect();
        let totals = metrics.totals();
        let state = if gateway.is_closing() { "stopping" } else { "ready" };
        json!({
            "version": env!("CARGO_PKG_VERSION"), "node": self.node, "pid": std::process::id(),
            "now": gateway.clock.wall_millis(), "started": self.started, "state": state,
            "in_flight": metrics.requests.in_flight.get(), "connections": metrics.listeners.connections.get(),
            "config": self.config(),
            "totals": { "requests": totals.requests, "visible_429": totals.throttled, "failovers": totals.failovers, "last_resort": totals.last_resort },
            "pools": pools,
            "quota_pools": quota_pools(&runtime.targets, now),
            "consumers": self.consumers(search).await,
            "failovers": gateway.recent.moved().iter().map(failover).collect::<Vec<_>>(),
        })
    }

    async fn consumers(&self, search: &str) -> Value {
        let Some((since, rows)) = self.today.rows(&self.gateway).await else { return Value::Null };
        let name = |row: &UsageRow| row.by.get("consumer").and_then(Value::as_str).unwrap_or("(no consumer)").to_owned();
        let fits = |row: &&UsageRow| search.is_empty() || name(row).contains(search);
        let shown: Vec<Value> = rows
            .iter()
            .filter(fits)
            .take(CONSUMERS)
            .map(|row| {
                json!({
                    "consumer": name(row), "requests": row.requests, "input_tokens": row.input_tokens,
                    "output_tokens": row.output_tokens, "cost_usd": row.cost_usd,
                })
            })
            .collect();
        json!({ "since": since, "count": rows.len(), "rows": shown })
    }
}

/// A member with its model and its place there, and all models of the pool that it serves.
type MemberOfModels<'p> = ((&'p Member, &'p Model, usize), Vec<&'p str>);

/// A pool's members by tier. A target that serves several of the pool's models occurs once.
fn pool_status(pool: &Pool, gateway: &Gateway, now: Tick) -> Value {
    let mut tiers: BTreeMap<u32, BTreeMap<TargetId, MemberOfModels<'_>>> = BTreeMap::new();
    for model in pool.models() {
        for (at, member) in model.route.members().iter().enumerate() {
            let members = tiers.entry(member.priority).or_default();
            members.entry(member.target.id.clone()).or_insert_with(|| ((member, model, at), Vec::new())).1.push(&model.name);
        }
    }
    let name = &pool.config.name;
    let mut shown: Vec<Value> = tiers
        .into_iter()
        .map(|(priority, members)| {
            let members: Vec<Value> = members
                .into_values()
                .map(|((member, model, at), models)| {
                    let own = &model.members[at];
                    let state = member_snapshot(member, now);
                    let totals = gateway.metrics.members.totals_of(name, &state.backend, &state.deployment);
                    let why = why(state.state, state.reopens_in_ms);
                    json!({
                        "backend": state.backend, "deployment": state.deployment, "models": models, "weight": state.weight,
                        "location": state.location, "service_tier": own.service_tier.map(ServiceTier::label), "spills_to": own.spills_to(),
                        "quota_pool": state.quota_pool, "state": state.state, "why": why, "reopens_in_ms": state.reopens_in_ms,
                        "in_flight": state.in_flight, "first_token_ms": state.first_token_ms, "headroom": state.headroom, "ptu": state.ptu,
                        "served_total": totals.served, "throttled_total": totals.throttled, "failed_total": totals.failed,
                    })
                })
                .collect();
            json!({ "priority": priority, "members": members })
        })
        .collect();
    if let Some(mock) = &pool.last_resort {
        let priority = pool.config.members.iter().map(|member| member.priority).max().unwrap_or(0);
        let served = gateway.metrics.requests.last_resort(name).get();
        shown.push(json!({ "priority": priority, "members": [{
            "backend": &*mock.backend, "deployment": "mock", "models": pool.config.models, "weight": 1, "location": null, "service_tier": null,
            "spills_to": null, "quota_pool": null, "state": "ready",
            "why": null, "reopens_in_ms": null, "in_flight": 0, "first_token_ms": null, "headroom": null, "ptu": null,
            "served_total": served, "throttled_total": 0, "failed_total": 0,
        }] }));
    }
    json!({
        "name": &**name, "models": pool.config.models, "policy": pool.config.policy.name(),
        "last_resort": pool.last_resort.as_ref().map(|mock| &*mock.backend), "tiers": shown,
    })
}

/// The quotas that targets share, and what is known of them.
fn quota_pools(targets: &Targets, now: Tick) -> Vec<Value> {
    let shown = targets.quotas().iter().map(|quota| {
        let is_member = |target: &&Arc<Target>| target.quota().is_some_and(|own| Arc::ptr_eq(&own, quota));
        let members: Vec<String> = targets.iter().filter(is_member).map(|target| target.id.to_string()).collect();
        let opens = quota.shown_until(now).map(|until| millis(until.since(now)));
        json!({ "name": &*quota.name, "members": members, "opens_in_ms": opens, "learned": quota.learned(now) })
    });
    shown.collect()
}

/// Why a member gets no requests, as text.
pub(super) fn why(state: MemberState, reopens_in_ms: Option<u64>) -> Option<String> {
    let until = reopens_in_ms.map_or(String::new(), |ms| format!(" for another {} s", ms.div_ceil(1000)));
    Some(match state {
        MemberState::Throttled => format!("it answered 429, or its headers say that nothing is left: no requests{until}"),
        MemberState::QuotaPool => format!("another member of its quota pool answered 429: no requests{until}"),
        MemberState::Tripped => format!("too many failures: its circuit is open{until}"),
        MemberState::HalfOpen => "its circuit is half-open: one request at a time tests whether it works again".to_owned(),
        MemberState::OutOfQuota => format!("it answered insufficient_quota: no requests except a slow probe{until}"),
        MemberState::Misconfigured => {
            format!("it refuses the gateway's credential, or doesn't know the deployment: no requests except a slow probe{until}")
        }
        MemberState::Busy => "as many requests as max_concurrent allows are in flight".to_owned(),
        MemberState::Drained => "an operator has drained it".to_owned(),
        MemberState::Unhealthy => "its health check fails".to_owned(),
        MemberState::Unresolved => "its name has no address".to_owned(),
        MemberState::NoToken => "there is no token for it: see spillway_token_usable, or 'spillway check --online'".to_owned(),
        MemberState::Ready => return None,
    })
}

fn failover(request: &Recent) -> Value {
    let (moves, last) = match request.attempts.split_last() {
        Some((last, moves)) if request.end.is_during_attempt() => (moves, Some(&*last.backend)),
        _ => (&*request.attempts, None),
    };
    let moves: Vec<Value> = moves
        .iter()
        .map(|tried| json!({ "backend": tried.backend, "deployment": tried.deployment, "outcome": tried.outcome, "status": tried.status }))
        .collect();
    json!({
        "at": request.at, "id": request.id, "consumer": request.consumer, "model": request.model, "pool": request.pool,
        "moves": moves, "served_by": last, "status": request.status,
    })
}
