//! How much of a limit there is for a request: less than all of it, if some is kept for other classes of callers, is
//! guaranteed to others, or belongs to other nodes.

use super::class::share;
use super::counts::need;
use super::plan::{Limited, Plan};
use super::state::State;
use super::{Class, Demand, Timestamps};

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
        let share = self.share.as_ref()?;
        let start = self.all.span(limited.place, now.unix).map(|span| span.start);
        let most = |pot: Option<usize>| if share.is_for(limited.place, start) { share.part(pot, limited.place).most } else { 0 };
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
    pub(super) fn beside_guarantees(
        &self,
        plan: &Plan,
        limited: &Limited,
        via: Option<usize>,
        kept: impl Fn(usize) -> u64,
        common: u64,
        now: Timestamps,
    ) -> u64 {
        let total = self.all.used(limited.place, now.unix);
        let (mut own, mut within) = (0u64, 0u64);
        for (at, pot) in plan.pots.iter().enumerate() {
            let (used, kept) = (self.pots[*pot].counts.used(limited.place, now.unix), kept(at));
            within = within.saturating_add(used.min(kept));
            if via == Some(at) {
                own = kept.saturating_sub(used);
            }
        }
        let outside = total.saturating_sub(within);
        let beyond = self.beyond.as_ref().map_or(0, |beyond| beyond.used(limited.place, now.unix));
        let exceeds = beyond.min(outside.saturating_sub(common));
        let free = common.saturating_sub(outside);
        total.saturating_add(own).saturating_add(free).min(limited.limit.saturating_add(exceeds))
    }
}
