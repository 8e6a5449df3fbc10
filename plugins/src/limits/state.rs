//! The use of one scope's limits, and what they admit.

use std::time::Duration;

use smallvec::SmallVec;

use super::changes::Watches;
use super::class::{Hunger, share};
use super::counts::{Counts, RATES, Starts, need};
use super::meters::Meters;
use super::plan::{Limited, Plan};
use super::rolling::Rolling;
use super::rules::{LimitId, Rules};
use super::share::{Amounts, Share};
use super::{Alert, Demand, LimitKind, Timestamps, Used};

/// Why a request can't be admitted here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Obstacle {
    pub(super) id: LimitId,
    pub(super) limit: u64,
    pub(super) place: usize,
    /// Time until it could be admitted, if known.
    pub(super) wait: Option<Duration>,
    /// It needs more than the whole limit.
    pub(super) too_large: bool,
    /// A smaller request would fit.
    pub(super) some_left: bool,
    /// The limit would allow it, this node's share of it doesn't.
    pub(super) by_share: bool,
    /// The limit itself would allow it; the rest is reserved for other classes.
    pub(super) by_class: bool,
    /// The limit itself would allow it; the rest is guaranteed to others.
    pub(super) by_guarantee: bool,
}

/// What was reserved for a request.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    second: u64,
    /// The periods; those that are counted only since then aren't in it.
    starts: Starts,
    /// The guarantee through which it came.
    pot: Option<usize>,
    /// Whether it counts as a concurrent request.
    slot: bool,
    /// Whether it was made again for another answer.
    renewed: bool,
    /// What was counted then; a reload may change that.
    counting: Counting,
}

/// The version of each counter: a request settles in the version in which it reserved, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counting {
    tokens: u32,
    classes: u32,
}

/// The usage of one class.
#[derive(Debug, Default)]
pub(super) struct ClassUse {
    requests: Rolling,
    tokens: Rolling,
    in_flight: u64,
}

impl ClassUse {
    pub(super) fn of(&self, kind: LimitKind) -> u64 {
        match kind {
            LimitKind::Requests => self.requests.total(),
            LimitKind::Tokens => self.tokens.total(),
            _ => self.in_flight,
        }
    }
}

/// The usage of a scope to which something is guaranteed.
#[derive(Debug)]
pub(super) struct Pot {
    pub(super) child: String,
    pub(super) counts: Counts,
    /// What was refused since the last agreement because the share was too small, by place.
    pub(super) missed: Amounts,
    /// Whether there were requests since then.
    pub(super) active: bool,
}

/// What of alerts and reservations a period has.
#[derive(Debug, Clone, Copy)]
struct Watched {
    /// What requests in flight have reserved.
    reserved: u64,
    /// The start of the period and the percentage of the last alert.
    alerted: (i64, u64),
}

/// The use of one scope's limits.
#[derive(Debug)]
pub struct State {
    pub(super) all: Counts,
    /// The same by class, if classes are used.
    pub(super) by_class: Option<Box<[ClassUse; 3]>>,
    /// By kind of limit.
    pub(super) hunger: [Hunger; 3],
    /// The same by guarantee. Once there, one stays: requests that began under earlier rules settle there.
    pub(super) pots: Vec<Pot>,
    /// What requests used beyond their reservations, if there are guarantees.
    pub(super) beyond: Option<Box<Counts>>,
    /// The limits, and what is guaranteed of them.
    pub(super) plan: Plan,
    /// By period.
    watched: SmallVec<[Watched; 2]>,
    pub(super) share: Option<Share>,
    /// What was refused since the last agreement because the share was too small, by place.
    pub(super) missed: Amounts,
    /// Whether there were requests since then.
    pub(super) active: bool,
    /// Another process decides what is admitted, while one takes over from the other.
    pub(super) is_elsewhere: bool,
    pub(super) watches: Watches,
    counting: Counting,
}

/// Usage of a period that is counted from now on, and isn't known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// Whose usage it is, if a part of the limit is guaranteed to it; `None` for the scope's own.
    pub child: Option<String>,
    /// What is counted.
    pub id: LimitId,
    pub(super) pot: Option<usize>,
    pub(super) place: usize,
}

impl State {
    /// Without usage and limits. `shared`: other nodes use the limits, too.
    pub(super) fn new(shared: bool) -> Self {
        State {
            all: Counts::default(),
            by_class: None,
            hunger: Default::default(),
            pots: Vec::new(),
            beyond: None,
            plan: Plan::default(),
            watched: SmallVec::new(),
            share: shared.then(Share::default),
            missed: Amounts::new(),
            active: false,
            is_elsewhere: false,
            watches: Watches::default(),
            counting: Counting::default(),
        }
    }

    /// Counts what `rules` need from now on; existing counters are kept. Returns the periods that start without known
    /// usage.
    pub(super) fn adopt(&mut self, rules: &Rules) -> (Plan, Vec<Begun>) {
        self.watches.note();
        if rules.tokens_per_minute.is_some() && self.all.tokens.is_none() {
            self.counting.tokens += 1;
        }
        if rules.classes != self.by_class.is_some() {
            self.by_class = rules.classes.then(Box::default);
            self.counting.classes += 1;
        }
        let (counted, known) = (self.all.windows.len(), self.pots.len());
        let windows = rules.windows.iter().map(|window| (window.kind, window.calendar));
        self.all.count(rules.requests_per_minute.is_some(), rules.tokens_per_minute.is_some(), windows);
        self.watched.resize(self.all.windows.len(), Watched { reserved: 0, alerted: (i64::MIN, 0) });
        let pots = rules.guaranteed.iter().map(|guarantee| self.pot(&guarantee.child)).collect();
        if !rules.guaranteed.is_empty() && self.beyond.is_none() {
            self.beyond = Some(Box::default());
        }
        let (requests, tokens) = (self.all.requests.is_some(), self.all.tokens.is_some());
        let all: SmallVec<[_; 4]> = self.all.windows.iter().map(|one| (one.kind, one.windows.calendar())).collect();
        for counts in self.pots.iter_mut().map(|pot| &mut pot.counts).chain(self.beyond.as_deref_mut()) {
            counts.count(requests, tokens, all.iter().copied());
        }
        let mut begun = Vec::new();
        for (at, (kind, calendar)) in all.iter().enumerate() {
            let id = LimitId { kind: *kind, calendar: Some(*calendar) };
            if at >= counted {
                begun.push(Begun { child: None, id, pot: None, place: RATES + at });
            }
            let new = self.pots.iter().enumerate().filter(|(pot, _)| at >= counted || *pot >= known);
            begun.extend(new.map(|(pot, of)| Begun { child: Some(of.child.clone()), id, pot: Some(pot), place: RATES + at }));
        }
        let plan = self.plan(rules, pots);
        self.forgive(&plan);
        self.plan.clone_from(&plan);
        (plan, begun)
    }

    fn plan(&self, rules: &Rules, pots: Box<[usize]>) -> Plan {
        let limits = rules.limits().enumerate().filter_map(|(at, (id, limit))| {
            let place = match (id.kind, id.calendar) {
                (kind, Some(calendar)) => RATES + self.all.place(kind, calendar)?,
                (LimitKind::Requests, None) => 0,
                (LimitKind::Tokens, None) => 1,
                (_, None) => 2,
            };
            let kept: Box<[u64]> = rules.guaranteed.iter().map(|one| one.amounts.get(at).copied().unwrap_or(0).min(limit)).collect();
            let common = kept.iter().fold(limit, |rest, kept| rest.saturating_sub(*kept));
            Some(Limited { id, place, limit, common, kept })
        });
        Plan { limits: limits.collect(), pots }
    }

    /// The place of a guarantee, a new one if there was none.
    fn pot(&mut self, child: &str) -> usize {
        if let Some(at) = self.pots.iter().position(|pot| pot.child == child) {
            return at;
        }
        let pot = Pot { child: child.to_owned(), counts: Counts::default(), missed: Amounts::new(), active: false };
        self.pots.push(pot);
        self.pots.len() - 1
    }

    /// Adds usage of a period from elsewhere.
    pub(super) fn restore(&mut self, begun: &Begun, amount: u64, at: i64) {
        self.watches.note();
        let counts = match begun.pot {
            Some(pot) => self.pots.get_mut(pot).map(|pot| &mut pot.counts),
            None => Some(&mut self.all),
        };
        let counted = counts.and_then(|counts| counts.windows.get_mut(begun.place.checked_sub(RATES)?));
        if let Some(counted) = counted {
            counted.windows.add(at, amount);
        }
    }

    pub(super) fn advance(&mut self, now: Timestamps) {
        self.all.advance(now);
        for class in self.by_class.iter_mut().flat_map(|classes| classes.iter_mut()) {
            class.requests.advance(now.second());
            class.tokens.advance(now.second());
        }
        for counts in self.pots.iter_mut().map(|pot| &mut pot.counts).chain(self.beyond.as_deref_mut()) {
            counts.advance(now);
        }
    }

    /// The counters of limits per minute: of all, then of each class.
    pub(super) fn meters(&mut self) -> impl Iterator<Item = Meters<'_>> {
        let all = Meters { requests: self.all.requests.as_mut(), tokens: self.all.tokens.as_mut(), in_flight: &mut self.all.in_flight };
        let classes = self.by_class.iter_mut().flat_map(|classes| classes.iter_mut());
        std::iter::once(all).chain(classes.map(|class| Meters {
            requests: Some(&mut class.requests),
            tokens: Some(&mut class.tokens),
            in_flight: &mut class.in_flight,
        }))
    }

    /// What prevents a request, if anything: the obstacle with the longest wait. `via`: the guarantee through which it
    /// comes.
    pub(super) fn obstacle(&mut self, plan: &Plan, via: Option<usize>, demand: &Demand, now: Timestamps) -> Option<Obstacle> {
        self.advance(now);
        let mut worst: Option<Obstacle> = None;
        let mut lacks = false;
        for limited in &plan.limits {
            let (id, limit) = (limited.id, limited.limit);
            let need = need(id.kind, demand);
            let total = self.all.used(limited.place, now.unix);
            let fits = |most: u64| total.saturating_add(need) <= most;
            let (allowed, by_class) = self.allowed(plan, limited, via, demand, now);
            let here = self.allowed_here(plan, limited, via, now).unwrap_or(allowed).min(allowed);
            if fits(here) && !self.is_elsewhere {
                continue;
            }
            let by_share = fits(allowed);
            lacks |= by_share;
            // Some of a limit can be guaranteed to others, so that it is never this request's.
            let most = via.map_or(limited.common, |at| limited.common.saturating_add(limited.kept.get(at).copied().unwrap_or(0)));
            let obstacle = Obstacle {
                id,
                limit: if need > most { most } else { limit },
                place: limited.place,
                wait: self.wait(limited, here.saturating_sub(need), now),
                too_large: need > most,
                some_left: total < here,
                by_share,
                by_class: by_class && fits(limit),
                by_guarantee: !plan.pots.is_empty() && fits(limit) && !by_share,
            };
            // A lack of share only counts after the other nodes have confirmed it.
            let is_asked = by_share && self.is_elsewhere;
            if !is_asked && (obstacle.by_class || (id.kind.is_rate() && !obstacle.too_large)) {
                self.hunger(id.kind, demand, now);
            }
            if worst.as_ref().is_none_or(|other| (other.by_share, obstacle.wait) > (by_share, other.wait)) {
                worst = Some(obstacle);
            }
        }
        if lacks {
            self.lacks(plan, via, demand);
        }
        worst
    }

    /// A share is too small. The next agreement asks for all that the request needs: with what one limit lacks alone, it
    /// would give back what the request needs of the others.
    fn lacks(&mut self, plan: &Plan, via: Option<usize>, demand: &Demand) {
        self.active = true;
        let mut pot = via.and_then(|at| self.pots.get_mut(*plan.pots.get(at)?));
        for limited in &plan.limits {
            let need = need(limited.id.kind, demand);
            add(&mut self.missed, limited.place, need);
            if let Some(pot) = &mut pot {
                pot.active = true;
                add(&mut pot.missed, limited.place, need);
            }
        }
    }

    /// A class was refused: something is reserved for it from now on.
    fn hunger(&mut self, kind: LimitKind, demand: &Demand, now: Timestamps) {
        if self.by_class.is_some()
            && let Some(hunger) = self.hunger.get_mut(kind as usize)
        {
            hunger.note(demand.class, now.second());
        }
    }

    /// What other nodes have of a limit. In a period that has just begun they have nothing yet.
    pub(super) fn others(&self, limited: &Limited, now: Timestamps) -> u64 {
        self.current_share(limited, now).map_or(0, |share| share.others(limited.place))
    }

    /// This node's share, if it is for the current period of a limit.
    pub(super) fn current_share(&self, limited: &Limited, now: Timestamps) -> Option<&Share> {
        let start = self.all.span(limited.place, now.unix).map(|span| span.start);
        self.share.as_ref().filter(|share| share.is_for(limited.place, start))
    }

    /// Time until at most `most` is used.
    pub(super) fn wait(&self, limited: &Limited, most: u64, now: Timestamps) -> Option<Duration> {
        let rolling = |rolling: &Option<Rolling>| rolling.as_ref().map(|rolling| now.until(rolling.seconds_until(most)));
        match limited.place {
            0 => rolling(&self.all.requests),
            1 => rolling(&self.all.tokens),
            place => self.all.span(place, now.unix).map(|span| span.until_end(now.unix)),
        }
    }

    /// Reserves for a request.
    pub(super) fn book(&mut self, plan: &Plan, via: Option<usize>, demand: &Demand, now: Timestamps) -> Hold {
        self.watches.note();
        self.active = true;
        let (second, starts) = self.all.book(demand, now);
        if let Some(classes) = &mut self.by_class {
            let class = &mut classes[demand.class as usize];
            class.requests.add(1);
            class.tokens.add(demand.tokens);
            class.in_flight += 1;
        }
        let pot = via.and_then(|at| plan.pots.get(at).copied());
        if let Some(pot) = pot.and_then(|pot| self.pots.get_mut(pot)) {
            pot.active = true;
            pot.counts.book(demand, now);
        }
        let hold = Hold { second, starts, pot, slot: true, renewed: false, counting: self.counting };
        self.reserve(&hold, demand);
        hold
    }

    fn reserve(&mut self, hold: &Hold, demand: &Demand) {
        for ((watched, counted), _) in self.watched.iter_mut().zip(&self.all.windows).zip(&hold.starts) {
            watched.reserved = watched.reserved.saturating_add(counted.kind.of(demand.most()));
        }
    }

    /// Replaces the reservation by the usage. Usage above the reservation counts from the last `advance` on.
    pub(super) fn settle(&mut self, hold: &Hold, demand: &Demand, used: Used) {
        if hold.slot {
            self.leave(hold, demand);
        }
        self.change(hold, demand, demand.most(), used, used.beyond(demand.most()));
        for ((watched, counted), _) in self.watched.iter_mut().zip(&self.all.windows).zip(&hold.starts) {
            watched.reserved = watched.reserved.saturating_sub(counted.kind.of(demand.most()));
        }
    }

    /// Takes back all of a reservation, as if the request had never been admitted.
    pub(super) fn revoke(&mut self, hold: &Hold, demand: &Demand) {
        self.settle(hold, demand, Used::default());
        self.all.uncount(hold.second, &hold.starts);
        if let Some(pot) = hold.pot.and_then(|pot| self.pots.get_mut(pot)) {
            pot.counts.uncount(hold.second, &hold.starts);
        }
        if let Some(classes) = self.by_class.as_mut().filter(|_| hold.counting.classes == self.counting.classes) {
            classes[demand.class as usize].requests.take_back(hold.second, 1);
        }
    }

    /// Adds usage to the reservation. It counts from the last `advance` on.
    pub(super) fn add(&mut self, hold: &Hold, demand: &Demand, used: Used) {
        // Each of several answers has had a reservation; attempts have one together.
        let beyond = if hold.renewed { used.beyond(demand.most()) } else { used };
        self.change(hold, demand, Used::default(), used, beyond);
    }

    /// Replaces a part of what is counted under `hold` by another, of which so much is `beyond` the reservation.
    fn change(&mut self, hold: &Hold, demand: &Demand, old: Used, new: Used, beyond: Used) {
        self.watches.note_settled();
        let (then, counting) = (hold.counting, self.counting);
        let (less, more) = (old.beyond(new), new.beyond(old));
        let second = (then.tokens == counting.tokens).then_some(hold.second);
        self.all.change(second, &hold.starts, less, more);
        if let Some(classes) = self.by_class.as_mut().filter(|_| then.classes == counting.classes) {
            let tokens = &mut classes[demand.class as usize].tokens;
            tokens.take_back(hold.second, less.tokens);
            tokens.add(more.tokens);
        }
        if let Some(pot) = hold.pot.and_then(|pot| self.pots.get_mut(pot)) {
            pot.counts.change(second, &hold.starts, less, more);
        }
        if let Some(counts) = self.beyond.as_mut().filter(|_| beyond != Used::default()) {
            counts.add(second, &hold.starts, beyond);
        }
    }

    /// Moves the reservation to `now`.
    pub(super) fn renew(&mut self, hold: &mut Hold, demand: &Demand, now: Timestamps) {
        let slot = std::mem::take(&mut hold.slot);
        self.settle(hold, demand, Used::default());
        hold.slot = slot;
        hold.renewed = true;
        let (then, counting) = (hold.counting, self.counting);
        let counts_tokens = then.tokens == counting.tokens;
        if let Some(pot) = hold.pot.and_then(|pot| self.pots.get_mut(pot)) {
            let (mut second, mut starts) = (hold.second, hold.starts.clone());
            pot.counts.renew(counts_tokens.then_some(&mut second), &mut starts, demand, now);
        }
        self.all.renew(counts_tokens.then_some(&mut hold.second), &mut hold.starts, demand, now);
        if let Some(classes) = self.by_class.as_mut().filter(|_| then.classes == counting.classes) {
            classes[demand.class as usize].tokens.add(demand.tokens);
        }
        self.reserve(hold, demand);
    }

    /// A quota or budget that is used up: usage and reservations exceed it, or what of it is for this request. Returns its
    /// limit, and the time until it starts again.
    pub(super) fn ended(&self, plan: &Plan, hold: &Hold, now: Timestamps) -> Option<(LimitId, u64, Option<Duration>)> {
        let used_up = |limited: &&Limited| {
            let lasting = matches!(limited.id.kind, LimitKind::Quota | LimitKind::Budget);
            lasting && self.is_used_up(plan, limited, hold.pot, now)
        };
        let ended = plan.limits.iter().find(used_up)?;
        Some((ended.id, ended.limit, self.wait(ended, 0, now)))
    }

    /// The request has ended, though its usage isn't known yet.
    pub(super) fn release_slot(&mut self, hold: &mut Hold, demand: &Demand) {
        if std::mem::take(&mut hold.slot) {
            self.watches.note_settled();
            self.leave(hold, demand);
        }
    }

    fn leave(&mut self, hold: &Hold, demand: &Demand) {
        self.all.leave();
        if let Some(pot) = hold.pot.and_then(|pot| self.pots.get_mut(pot)) {
            pot.counts.leave();
        }
        if let Some(classes) = self.by_class.as_mut().filter(|_| hold.counting.classes == self.counting.classes) {
            let class = &mut classes[demand.class as usize];
            class.in_flight = class.in_flight.saturating_sub(1);
        }
    }

    /// Alerts since the last time: once per period and percentage. `refused` is the place of a limit that has just
    /// refused a request.
    pub(super) fn alerts(&mut self, plan: &Plan, now: Timestamps, refused: Option<usize>) -> SmallVec<[Alert; 2]> {
        let mut alerts = SmallVec::new();
        for limited in plan.limits.iter().filter(|limited| limited.place >= RATES) {
            let (place, limit) = (limited.place, limited.limit);
            let (Some(span), Some(watched)) = (self.all.span(place, now.unix), self.watched.get_mut(place - RATES)) else { continue };
            let spent = self.all.used(place, now.unix).saturating_sub(watched.reserved);
            let percent = match () {
                () if spent >= limit || (refused == Some(place) && spent >= share(limit, 80)) => 100,
                () if spent >= share(limit, 80) => 80,
                () => continue,
            };
            let (period, reached) = watched.alerted;
            if period != span.start || reached < percent {
                watched.alerted = (span.start, percent);
                alerts.push(Alert { kind: limited.id.kind, calendar: limited.id.calendar, percent });
            }
        }
        alerts
    }
}

fn add(amounts: &mut Amounts, place: usize, amount: u64) {
    if amounts.len() <= place {
        amounts.resize(place + 1, 0);
    }
    amounts[place] = amounts[place].saturating_add(amount);
}
