//! The tiers of one model's members, and the choice of a member in them.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use smallvec::SmallVec;
use spillway_plugins::limits::Class;

pub use super::member::{HealthFlag, Member, MemberHealth, Serves};
use super::member_state::MemberState;
use super::policy::{Candidate, Policy};
use super::provisioned::{Asked, Booking, Demand};
use super::ptu::steer::{Decision, Rules};
use super::snapshot::{member_state_for, reopens_in_ms};
use super::target::{Lease, RequestKey, Unavailable};
use crate::clock::Tick;

/// The members of one priority.
#[derive(Debug, Clone)]
struct Tier {
    priority: u32,
    /// Indices of its members.
    members: Vec<usize>,
}

impl Tier {
    /// Groups members into tiers, lowest priority first.
    fn group(members: &[Member]) -> Vec<Tier> {
        let mut tiers: Vec<Tier> = Vec::new();
        for (index, member) in members.iter().enumerate() {
            match tiers.iter_mut().find(|tier| tier.priority == member.priority) {
                Some(tier) => tier.members.push(index),
                None => tiers.push(Tier { priority: member.priority, members: vec![index] }),
            }
        }
        tiers.sort_by_key(|tier| tier.priority);
        tiers
    }
}

/// Where one model's requests can go.
#[derive(Debug)]
pub struct Route {
    members: Vec<Member>,
    tiers: Vec<Tier>,
    policy: Policy,
    /// Whether any member has provisioned throughput.
    is_provisioned: bool,
    /// How provisioned throughput is used before it answers 429.
    steering: Option<Rules>,
}

/// What the choice of a member depends on.
#[derive(Debug, Clone, Copy)]
pub struct PickRequest<'a> {
    /// Members that can't serve this operation at all.
    pub excluded: &'a [usize],
    /// Members that this request has tried.
    pub tried: &'a [usize],
    /// Those of them that were throttled: when that is over they may be tried again.
    pub throttled: &'a [usize],
    /// Locations the caller may be served from; `None` for all.
    pub fence: Option<&'a [Arc<str>]>,
    /// Equal for requests that should go to the same member.
    pub affinity_key: u64,
    /// Which consumer asks, and for which operation.
    pub key: RequestKey,
    /// What it is expected to take of provisioned throughput; `None` if no member has any.
    pub demand: Option<&'a Demand>,
    /// How urgent it is.
    pub class: Class,
    /// Its deadline is nearer than the time that answers usually take.
    pub is_late: bool,
}

/// A chosen member and its slot.
#[derive(Debug)]
pub struct Pick {
    /// Index of the member.
    pub index: usize,
    /// Its slot.
    pub lease: Lease,
    /// What it is expected to take of the member's provisioned throughput, if that has one.
    pub booking: Option<Booking>,
}

/// A member that was passed over for a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The backend's name.
    pub backend: Arc<str>,
    /// The deployment's name there.
    pub deployment: Arc<str>,
    /// Its tier.
    pub priority: u32,
    /// Why: a state of a member, `tried`, `not-for-this-api`, `not-for-this-class`, `location-not-allowed` or `ptu-full`.
    pub state: &'static str,
    /// Milliseconds until it reopens, if known.
    pub reopens_in_ms: Option<u64>,
    /// How full its provisioned throughput was by the gateway's account, in percent, if it has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ptu_percent: Option<u32>,
}

/// No member can take the request now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoneReady {
    /// When the first member reopens, if known.
    pub soonest: Option<Tick>,
    /// Every member that could ever take it is throttled or busy.
    pub all_throttled: bool,
    /// There are members, but none inside the caller's location fence.
    pub fenced_off: bool,
    /// A member's provisioned throughput is full, and the request should wait for it until then, although other members
    /// could take it.
    pub room_at: Option<Tick>,
}

/// No member of a tier took the request.
struct NoRoom {
    /// The provisioned throughput of one is full.
    is_full: bool,
    /// How long the request should wait for that, although other tiers could take it.
    wait: Option<Duration>,
}

impl NoRoom {
    fn wait_for(&mut self, wait: Duration) {
        self.wait = Some(self.wait.map_or(wait, |soonest| soonest.min(wait)));
    }
}

impl Route {
    /// A route over `members`, grouped into tiers by their priority.
    pub fn new(members: Vec<Member>, policy: Policy) -> Self {
        let tiers = Tier::group(&members);
        Route { members, tiers, policy, is_provisioned: false, steering: None }
    }

    /// The same route, with members that have provisioned throughput, and use it by these rules before they answer 429.
    #[must_use]
    pub fn provisioned(self, steering: Option<Rules>) -> Self {
        Route { is_provisioned: true, steering, ..self }
    }

    /// Whether any member has provisioned throughput.
    pub fn is_provisioned(&self) -> bool {
        self.is_provisioned
    }

    /// The members, in the order of their indices.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Chooses a member of the lowest tier that has a usable one, and takes its slot.
    ///
    /// # Errors
    /// [`NoneReady`] says when to try again.
    pub fn pick(&self, request: &PickRequest<'_>, now: Tick, rng: &mut fastrand::Rng) -> Result<Pick, NoneReady> {
        let steered = request.demand.zip(self.steering.as_ref());
        let mut is_full = false;
        for tier in &self.tiers {
            match self.pick_in(tier, request, steered, now, rng) {
                Ok(pick) => return Ok(pick),
                Err(NoRoom { wait: Some(wait), .. }) => {
                    return Err(NoneReady { soonest: None, all_throttled: true, fenced_off: false, room_at: Some(now + wait) });
                }
                Err(none) => is_full |= none.is_full,
            }
        }
        // Better a deployment that may be full than none.
        let again = self.tiers.iter().filter(|_| is_full).find_map(|tier| self.pick_in(tier, request, None, now, rng).ok());
        again.ok_or_else(|| self.none_ready(request, now))
    }

    /// Chooses one of a tier's usable members by the policy, if it has room for the request.
    fn pick_in(
        &self,
        tier: &Tier,
        request: &PickRequest<'_>,
        steered: Option<(&Demand, &Rules)>,
        now: Tick,
        rng: &mut fastrand::Rng,
    ) -> Result<Pick, NoRoom> {
        // In the order of the tier, which is ascending.
        let mut usable: SmallVec<[usize; 32]> = tier.members.iter().copied().filter(|&i| self.is_usable(i, request, now)).collect();
        let mut none = NoRoom { is_full: false, wait: None };
        if let Some((demand, rules)) = steered.filter(|_| usable.len() < tier.members.len()) {
            // After a 429, too, a patient request waits for room rather than pay elsewhere.
            let closed = tier.members.iter().filter(|index| usable.binary_search(index).is_err());
            for &index in closed.filter(|&&index| self.refuses_for_now(index, request, now)) {
                if let Decision::Wait(wait) = self.members[index].target.provisioned.decide(demand, rules, now) {
                    none.wait_for(wait);
                }
            }
        }
        while !usable.is_empty() {
            let candidates: SmallVec<[Candidate<'_>; 32]> =
                usable.iter().map(|&i| Candidate { target: &self.members[i].target, weight: self.members[i].weight }).collect();
            let chosen = self.policy.pick(&candidates, request.affinity_key, rng);
            let index = usable[chosen];
            let target = &self.members[index].target;
            let asked = match (request.demand, steered) {
                (_, Some((demand, rules))) => Booking::ask(&target.provisioned, demand, rules, now),
                (demand, None) => Asked::Use(demand.and_then(|demand| Booking::of(&target.provisioned, demand, now))),
            };
            match asked {
                Asked::Use(booking) => {
                    if let Some(lease) = target.acquire(request.key, now) {
                        return Ok(Pick { index, lease, booking });
                    }
                    // Another thread took the last slot, or the probe, after the check.
                }
                Asked::Wait(wait) => {
                    none.is_full = true;
                    none.wait_for(wait);
                }
                Asked::Spill(_) => none.is_full = true,
            }
            usable.swap_remove(chosen);
        }
        Err(none)
    }

    /// Members of better tiers than `chosen` (of all tiers, if `None`) that have a weight, but could not take this
    /// request, and why.
    pub fn skipped(&self, request: &PickRequest<'_>, chosen: Option<usize>, now: Tick) -> Vec<Skipped> {
        let tier = chosen.map_or(u32::MAX, |index| self.members[index].priority);
        if self.tiers.first().is_none_or(|best| best.priority >= tier) {
            return Vec::new();
        }
        let better = self.members.iter().enumerate().filter(|(_, member)| member.priority < tier && member.weight > 0);
        let why = |index: usize, member: &Member| match () {
            () if request.tried.contains(&index) => ("tried", None),
            () if request.excluded.contains(&index) => ("not-for-this-api", None),
            () if !member.serves.accepts(request.class, request.is_late) => ("not-for-this-class", None),
            () if !member.is_inside(request.fence) => ("location-not-allowed", None),
            () => match member_state_for(member, request.key, now) {
                (MemberState::Ready, _) if let Some(until) = member.target.provisioned.full_until(now) => ("ptu-full", Some(until)),
                (state, until) => (state.label(), until),
            },
        };
        better
            .map(|(index, member)| {
                let (state, until) = why(index, member);
                let id = &member.target.id;
                Skipped {
                    backend: Arc::clone(&id.backend),
                    deployment: Arc::clone(&id.deployment),
                    priority: member.priority,
                    state,
                    reopens_in_ms: reopens_in_ms(until, now),
                    ptu_percent: member.target.provisioned.percent_full(now),
                }
            })
            .collect()
    }

    fn is_usable(&self, index: usize, request: &PickRequest<'_>, now: Tick) -> bool {
        self.members[index].target.is_usable(request.key, now) && self.may_serve(index, request)
    }

    /// Whether a member could serve the request if its target were open.
    fn may_serve(&self, index: usize, request: &PickRequest<'_>) -> bool {
        let member = &self.members[index];
        member.weight > 0
            && member.serves.accepts(request.class, request.is_late)
            && member.is_up()
            && !request.tried.contains(&index)
            && !request.excluded.contains(&index)
            && member.is_inside(request.fence)
    }

    /// Whether a member's provisioned throughput is closed by a 429, and nothing else is in the way.
    fn refuses_for_now(&self, index: usize, request: &PickRequest<'_>, now: Tick) -> bool {
        let target = &self.members[index].target;
        target.provisioned.is_on()
            && self.may_serve(index, request)
            && matches!(target.closed_for(request.key, now), Some(Unavailable::Throttled(_)))
    }

    fn none_ready(&self, request: &PickRequest<'_>, now: Tick) -> NoneReady {
        let mut result = NoneReady { soonest: None, all_throttled: true, fenced_off: false, room_at: None };
        let mut any = false;
        let able = self.members.iter().enumerate().filter(|(index, member)| {
            member.weight > 0 && !request.excluded.contains(index) && member.serves.accepts(request.class, request.is_late)
        });
        let (inside, outside): (Vec<_>, Vec<_>) = able.partition(|(_, member)| member.is_inside(request.fence));
        result.fenced_off = inside.is_empty() && !outside.is_empty();
        for (index, member) in inside {
            let until = match member.target.closed_for(request.key, now) {
                Some(Unavailable::Drained) => continue,
                _ if !member.is_up() => {
                    result.all_throttled = false;
                    continue;
                }
                Some(Unavailable::Throttled(until) | Unavailable::QuotaPool(until)) => until,
                Some(Unavailable::Tripped { until, limited }) => {
                    result.all_throttled &= limited;
                    until
                }
                Some(Unavailable::Out(_, until)) => {
                    result.all_throttled = false;
                    until
                }
                Some(Unavailable::Busy) => {
                    any = true;
                    continue;
                }
                // The throttle of this request's 429 is over.
                None if request.throttled.contains(&index) => now,
                // Usable, so this request tried it and met a failure, which the caller of `pick` knows.
                None => {
                    result.all_throttled = false;
                    continue;
                }
            };
            any = true;
            if until != Tick::NEVER {
                result.soonest = Some(result.soonest.map_or(until, |soonest| soonest.min(until)));
            }
        }
        result.all_throttled &= any;
        result
    }
}

#[cfg(test)]
mod tests;
