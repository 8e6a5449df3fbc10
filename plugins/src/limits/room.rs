//! How much of a limit there is for a request: less than all of it, if some is kept for other classes of callers, is
//! guaranteed to others, or belongs to other nodes.

use super::class::share;
use super::counts::need;
use super::plan::{Limited, Plan};
use super::state::State;
use super::{Class, Counter, Demand, LimitKind, Remaining, Timestamps};

impl State {
    /// How much of a limit may be used after this request, and whether its class lowers that.
    pub(super) fn allowed(&self, plan: &Plan, limited: &Limited, via: Option<usize>, demand: &Demand, now: Timestamps) -> (u64, bool) {
        let (kind, limit) = (limited.id.kind, limited.limit);
        if !plan.pots.is_empty() {
            let kept = |at: usize| limited.kept[at];
            return (self.beside_guarantees(plan, limited, via, kept, limited.common, now), false);
        }
        let (Some(classes), Some(hunger)) = (&self.by_class, self.hunger.get(kind as usize)) else { return (limit, false) };
        let used = Class::ALL.map(|class| classes[class as usize].of(kind));
        let own = used[demand.class as usize];
        // A class gets what it needs within its own floor, and one request if it has none.
        if own == 0 || own.saturating_add(need(kind, demand)) <= share(limit, demand.class.floor()) {
            return (limit, false);
        }
        let kept = hunger.kept_from(demand.class, limit, &used, now.second());
        let others = self.others(limited, now);
        let allowed = share(limit, demand.class.ceiling()).min(limit.saturating_sub(kept)).saturating_sub(others);
        (allowed, allowed < limit)
    }

    /// How much this node may use of a limit after this request, if the limit is shared. A period that has just begun has no share yet.
    pub(super) fn allowed_here(&self, plan: &Plan, limited: &Limited, via: Option<usize>, now: Timestamps) -> Option<u64> {
        self.share.as_ref()?;
        let share = self.current_share(limited, now);
        let most = |pot: Option<usize>| share.map_or(0, |share| share.part(pot, limited.place).most);
        if plan.pots.is_empty() {
            return Some(most(None));
        }
        let kept = |at: usize| limited.kept[at].min(most(Some(plan.pots[at])));
        Some(self.beside_guarantees(plan, limited, via, kept, limited.common.min(most(None)), now))
    }

    /// How much of a limit may be used in all after a request that comes through `via`. Usage counts for its own
    /// guarantee first; all that is beyond guarantees must fit into `common`.
    ///
    /// Within its guarantee a request is not refused because siblings used more than they had reserved: by so much the
    /// limit is exceeded instead. Other causes of too much usage (less was guaranteed before) don't exceed it.
    fn beside_guarantees(
        &self,
        plan: &Plan,
        limited: &Limited,
        via: Option<usize>,
        kept: impl Fn(usize) -> u64,
        common: u64,
        now: Timestamps,
    ) -> u64 {
        let total = self.all.used(limited.place, now.unix);
        let used = |at: usize| self.pots[plan.pots[at]].counts.used(limited.place, now.unix);
        let own = via.map_or(0, |at| kept(at).saturating_sub(used(at)));
        let outside = self.outside(plan, limited, kept, now);
        let free = common.saturating_sub(outside);
        total.saturating_add(own).saturating_add(free).min(limited.limit.saturating_add(self.exceeds(limited, outside, common, now)))
    }

    /// What is used beyond guarantees.
    fn outside(&self, plan: &Plan, limited: &Limited, kept: impl Fn(usize) -> u64, now: Timestamps) -> u64 {
        let within = |(at, pot): (usize, &usize)| self.pots[*pot].counts.used(limited.place, now.unix).min(kept(at));
        let within = plan.pots.iter().enumerate().map(within).fold(0, u64::saturating_add);
        self.all.used(limited.place, now.unix).saturating_sub(within)
    }

    /// By how much a limit may be exceeded, because requests used more of `common` than they had reserved.
    fn exceeds(&self, limited: &Limited, outside: u64, common: u64, now: Timestamps) -> u64 {
        let beyond = self.beyond.as_ref().map_or(0, |beyond| beyond.used(limited.place, now.unix));
        beyond.min(outside.saturating_sub(common))
    }

    /// A limit of which a part becomes smaller must not be exceeded for a guarantee: that more is used than a part has now
    /// needn't be because requests used more than they had reserved.
    pub(super) fn forgive(&mut self, plan: &Plan) {
        let Some(beyond) = &mut self.beyond else { return };
        for limited in &plan.limits {
            let keeps = |(old, kept): (&usize, &u64)| *kept <= plan.pots.iter().position(|pot| pot == old).map_or(0, |at| limited.kept[at]);
            let before = self.plan.limits.iter().find(|before| before.id == limited.id);
            let same = |before: &Limited| before.common <= limited.common && self.plan.pots.iter().zip(&before.kept).all(keeps);
            if !before.is_some_and(same) {
                beyond.clear(limited.place);
            }
        }
    }

    /// Whether usage and reservations no longer fit, for one who came through the guarantee that is counted at `pot`.
    pub(super) fn is_used_up(&self, plan: &Plan, limited: &Limited, pot: Option<usize>, now: Timestamps) -> bool {
        let total = self.all.used(limited.place, now.unix).saturating_add(self.others(limited, now));
        if plan.pots.is_empty() {
            return total > limited.limit;
        }
        let share = self.current_share(limited, now);
        // A part may be used up to what other nodes have of it.
        let reach = |pot: Option<usize>, part: u64| part.saturating_sub(share.map_or(0, |share| share.others_of(pot, limited.place)));
        let kept = |at: usize| reach(Some(plan.pots[at]), limited.kept[at]);
        let common = reach(None, limited.common);
        let outside = self.outside(plan, limited, kept, now);
        if total > limited.limit.saturating_add(self.exceeds(limited, outside, common, now)) {
            return true;
        }
        let own = plan.pots.iter().position(|one| Some(*one) == pot);
        let is_within = own.is_some_and(|at| self.pots[plan.pots[at]].counts.used(limited.place, now.unix) <= kept(at));
        outside > common && !is_within
    }

    /// A limit, and what is left of it for one who comes through the guarantee at `via`.
    pub(super) fn counter(&self, plan: &Plan, limited: &Limited, via: Option<usize>, now: Timestamps) -> Counter {
        let used = self.all.used(limited.place, now.unix).saturating_add(self.others(limited, now));
        let reset = self.wait(limited, 0, now).unwrap_or_default();
        let kept = |at: usize| limited.kept[at];
        let allowed =
            if plan.pots.is_empty() { limited.limit } else { self.beside_guarantees(plan, limited, via, kept, limited.common, now) };
        Counter { limit: limited.limit, remaining: allowed.saturating_sub(used), reset }
    }

    /// What a caller has left of its limits per minute; or of a quota of which less is left than of those.
    pub(super) fn remaining(&self, plan: &Plan, via: Option<usize>, now: Timestamps) -> Remaining {
        let counter = |limited: &Limited| self.counter(plan, limited, via, now);
        let least = |rate: LimitKind, quota: LimitKind| {
            let rate = plan.limits.iter().find(|limited| limited.id.kind == rate)?;
            let quotas = plan.limits.iter().filter(|limited| limited.id.kind == quota);
            std::iter::once(rate).chain(quotas).map(counter).min_by_key(|counter| counter.remaining)
        };
        Remaining { requests: least(LimitKind::Requests, LimitKind::RequestQuota), tokens: least(LimitKind::Tokens, LimitKind::Quota) }
    }
}
