//! What a node proposes to the others for one scope.

use super::Timestamps;
use super::plan::{Limited, Plan};
use super::share::{Amounts, Asked, Granted, Part, Proposal, Share, get, headroom};
use super::state::State;

impl State {
    /// What this node sends to an agreement. From this moment on it no longer uses what it gives back: other nodes may
    /// get it before this node gets an answer.
    pub(super) fn propose(&mut self, plan: &Plan, now: Timestamps) -> Proposal {
        let mut proposal = self.draft(plan, now);
        self.missed = Amounts::new();
        self.active = false;
        for pot in &mut self.pots {
            pot.missed = Amounts::new();
            pot.active = false;
        }
        let parts = proposal.limits.iter().flat_map(|asked| &asked.parts);
        // What belongs to no node is known from the last agreement only.
        let kept: Vec<Granted> = parts.map(|part| Granted { most: part.had.min(part.wanted.max(part.used)), left: 0 }).collect();
        proposal.kept = Share::granted(&proposal, kept);
        if let Some(share) = &mut self.share {
            proposal.kept = std::mem::take(&mut proposal.kept).with_others_of(share);
            share.clone_from(&proposal.kept);
        }
        proposal
    }

    /// What it would send. It still needs all of that.
    pub(super) fn draft(&mut self, plan: &Plan, now: Timestamps) -> Proposal {
        self.advance(now);
        let limits = plan.limits.iter().map(|limited| self.asked(plan, limited, now)).collect();
        Proposal { limits, kept: Share::default(), starts: self.all.starts(now.unix) }
    }

    fn asked(&self, plan: &Plan, limited: &Limited, now: Timestamps) -> Asked {
        let (kind, place) = (limited.id.kind, limited.place);
        let room = |active: bool, limit: u64, missed: &Amounts| if active { headroom(kind, limit).max(get(missed, place)) } else { 0 };
        let total = self.all.used(place, now.unix);
        let mut parts = Vec::with_capacity(1 + plan.pots.len());
        let mut within = 0u64;
        for (at, place_of_pot) in plan.pots.iter().enumerate() {
            let (pot, limit) = (&self.pots[*place_of_pot], limited.kept[at]);
            let (all, had) = (pot.counts.used(place, now.unix), self.share_of(Some(*place_of_pot), limited, now));
            let used = all.min(had).min(limit);
            within = within.saturating_add(used);
            let wanted = all.saturating_add(room(pot.active, limit, &pot.missed)).min(limit);
            parts.push(Part { child: Some(pot.child.clone()), pot: Some(*place_of_pot), limit, used, had, wanted });
        }
        let used = total.saturating_sub(within);
        let wanted = used.saturating_add(room(self.active, limited.common, &self.missed)).min(limited.common);
        parts.push(Part { child: None, pot: None, limit: limited.common, used, had: self.share_of(None, limited, now), wanted });
        let beyond = self.beyond.as_ref().filter(|_| !plan.pots.is_empty()).map_or(0, |beyond| beyond.used(place, now.unix));
        Asked { id: limited.id, place, span: self.all.span(place, now.unix), limit: limited.limit, beyond, parts }
    }

    /// This node's share of a part of a limit. A period that has just begun has none yet.
    fn share_of(&self, pot: Option<usize>, limited: &Limited, now: Timestamps) -> u64 {
        let start = self.all.span(limited.place, now.unix).map(|span| span.start);
        let share = self.share.as_ref().filter(|share| share.is_for(limited.place, start));
        share.map_or(0, |share| share.part(pot, limited.place).most)
    }

    /// Whether there is anything to agree on: demand or unused share since the last agreement, or (unless the last one
    /// is `fresh`) a reminder for the others.
    pub(super) fn wants_agreement(&mut self, plan: &Plan, now: Timestamps, fresh: bool) -> bool {
        self.advance(now);
        let used = |limited: &Limited| self.all.used(limited.place, now.unix);
        let has = |limited: &Limited| {
            let pots = plan.pots.iter().fold(0u64, |sum, pot| sum.saturating_add(self.share_of(Some(*pot), limited, now)));
            self.share_of(None, limited, now).saturating_add(pots)
        };
        self.active
            || plan.limits.iter().any(|limited| has(limited) > used(limited))
            || (!fresh && plan.limits.iter().any(|limited| used(limited) > 0))
    }
}
