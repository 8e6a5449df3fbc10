//! What the admin API shows of a pool.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::member::Member;
use super::member_state::MemberState;
use super::provisioned::View;
use super::target::{OutageReason, RequestKey, Target, Unavailable};
use crate::clock::Tick;

/// One member's live state.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct MemberSnapshot {
    /// The backend's name.
    pub backend: String,
    /// The deployment's name there.
    pub deployment: String,
    /// Its tier.
    pub priority: u32,
    /// Its share within the tier.
    pub weight: u32,
    /// Where it is.
    pub location: Option<String>,
    /// The label of the quota that it shares with other members.
    pub quota_pool: Option<String>,
    /// Whether it takes requests, or why not.
    pub state: MemberState,
    /// Milliseconds until it reopens, if known.
    pub reopens_in_ms: Option<u64>,
    /// How many probes in a row have failed since its circuit opened: each failure doubles the wait for the next.
    pub failed_probes: u32,
    /// Requests in flight.
    pub in_flight: u32,
    /// Peak EWMA of the time to the first token, in milliseconds.
    pub first_token_ms: Option<f64>,
    /// The fraction of its rate limits that is left, 0 to 1.
    pub headroom: Option<f64>,
    /// What the gateway knows of its provisioned throughput, if it has one.
    pub ptu: Option<PtuSnapshot>,
}

/// What the gateway knows of a member's provisioned throughput.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct PtuSnapshot {
    /// The share of its capacity that was used in the last minute, 0 to 1. Null until its rate is known.
    pub utilisation: Option<f64>,
    /// How full it is: 0 for empty, 1 for the line above which it answers 429. Null until its rate is known.
    pub fill: Option<f64>,
    /// Milliseconds until there is room; null if that can't be foreseen.
    pub room_in_ms: Option<u64>,
    /// What it takes, as a share of its rate, less what reaches it past the gateway.
    pub drain: f64,
    /// Its configured or learned rate, in input tokens per minute. Null until it is known.
    pub tokens_per_minute: Option<f64>,
    /// Milliseconds since its last 429.
    pub refused_ms_ago: Option<u64>,
    /// The configured rate is far off.
    pub is_implausible: bool,
    /// Its calls are too large for its depth: requests leave it only on a 429.
    pub is_too_coarse: bool,
}

/// Milliseconds until it reopens, if that is known.
pub(super) fn reopens_in_ms(until: Option<Tick>, now: Tick) -> Option<u64> {
    until.filter(|until| *until != Tick::NEVER).and_then(|until| millis(until.since(now)))
}

fn millis(span: Duration) -> Option<u64> {
    u64::try_from(span.as_millis()).ok()
}

impl PtuSnapshot {
    fn of(view: &View, now: Tick) -> Self {
        PtuSnapshot {
            utilisation: view.utilisation,
            fill: view.fill,
            room_in_ms: view.room_in.and_then(millis),
            drain: view.drain,
            tokens_per_minute: view.per_second.map(|rate| rate * 60.0),
            refused_ms_ago: view.refused.and_then(|refused| millis(now.since(refused))),
            is_implausible: view.is_implausible,
            is_too_coarse: view.is_too_coarse,
        }
    }
}

/// The state of one member at `now`, and when it reopens.
pub fn member_state(member: &Member, now: Tick) -> (MemberState, Option<Tick>) {
    state(member, member.target.closed(now))
}

/// The state of one member at `now` for one request, and when it reopens.
pub fn member_state_for(member: &Member, key: RequestKey, now: Tick) -> (MemberState, Option<Tick>) {
    state(member, member.target.closed_for(key, now))
}

fn state(member: &Member, closed: Option<Unavailable>) -> (MemberState, Option<Tick>) {
    match closed {
        Some(Unavailable::Drained) => (MemberState::Drained, None),
        _ if !member.up.resolved.get() => (MemberState::Unresolved, None),
        _ if !member.up.credential.get() => (MemberState::NoToken, None),
        _ if !member.up.healthy.get() => (MemberState::Unhealthy, None),
        closed => of_target(&member.target, closed),
    }
}

/// The state of a deployment at `now`, whatever is known of its address, its token and its health check.
pub fn target_state(target: &Target, now: Tick) -> MemberState {
    of_target(target, target.closed(now)).0
}

fn of_target(target: &Target, closed: Option<Unavailable>) -> (MemberState, Option<Tick>) {
    match closed {
        Some(Unavailable::Drained) => (MemberState::Drained, None),
        Some(Unavailable::Out(reason, until)) => (outage(reason), Some(until)),
        Some(Unavailable::Tripped { until: Tick::NEVER, .. }) => (MemberState::HalfOpen, None),
        Some(Unavailable::Tripped { until, .. }) => (MemberState::Tripped, Some(until)),
        Some(Unavailable::Throttled(until)) => (MemberState::Throttled, Some(until)),
        Some(Unavailable::QuotaPool(until)) => (MemberState::QuotaPool, Some(until)),
        Some(Unavailable::Busy) => (MemberState::Busy, None),
        // Its probe is due, but no request has come yet: it is still out.
        None if let Some(reason) = target.outage() => (outage(reason), None),
        None if target.is_half_open() => (MemberState::HalfOpen, None),
        None => (MemberState::Ready, None),
    }
}

fn outage(reason: OutageReason) -> MemberState {
    match reason {
        OutageReason::OutOfQuota => MemberState::OutOfQuota,
        OutageReason::Misconfigured => MemberState::Misconfigured,
    }
}

/// The state of every member of a route.
pub fn route_snapshot(members: &[Member], now: Tick) -> Vec<MemberSnapshot> {
    members.iter().map(|member| member_snapshot(member, now)).collect()
}

/// One member's live state at `now`.
pub fn member_snapshot(member: &Member, now: Tick) -> MemberSnapshot {
    let (state, until) = member_state(member, now);
    let id = &member.target.id;
    let ptu = member.target.provisioned.view(now).map(|view| PtuSnapshot::of(&view, now));
    MemberSnapshot {
        backend: id.backend.to_string(),
        deployment: id.deployment.to_string(),
        priority: member.priority,
        weight: member.weight,
        location: member.location.as_deref().map(str::to_owned),
        quota_pool: member.target.quota().map(|quota| quota.name.to_string()),
        state,
        reopens_in_ms: reopens_in_ms(until, now),
        failed_probes: member.target.failed_probes(),
        in_flight: member.target.in_flight(),
        first_token_ms: member.target.latency().map(|seconds| seconds * 1000.0),
        headroom: member.target.headroom().or_else(|| Some((1.0 - ptu?.fill?).max(0.0))),
        ptu,
    }
}
