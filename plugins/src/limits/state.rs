//! The use of one scope's limits, and what they admit.

use std::time::Duration;

use super::class::{Hunger, share};
use super::meters::Meters;
use super::period::Span;
use super::rolling::Rolling;
use super::share::Share;
use super::windows::Windows;
use super::{Alert, Class, Counter, Demand, Left, LimitKind, Remaining, Rules, Timestamps, Used};

/// Why a request can't be admitted here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Obstacle {
    pub(super) kind: LimitKind,
    pub(super) limit: u64,
    /// Time until it could be admitted, if known.
    pub(super) wait: Option<Duration>,
    /// It needs more than the whole limit.
    pub(super) too_large: bool,
    /// The limit would allow it, this node's share of it doesn't.
    pub(super) by_share: bool,
    /// The limit itself would allow it; the rest is reserved for other classes.
    pub(super) by_class: bool,
}

/// What was reserved for a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hold {
    second: u64,
    quota_start: i64,
    budget_start: i64,
    /// Whether it counts as a concurrent request.
    slot: bool,
    /// What was counted then; a reload may change that.
    counting: Counting,
}

/// The version of each counter: a request settles in the version in which it reserved, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counting {
    tokens: u32,
    classes: u32,
    quota: u32,
    budget: u32,
}

/// The usage of one class.
#[derive(Debug, Default)]
struct ClassUse {
    requests: Rolling,
    tokens: Rolling,
    in_flight: u64,
}

impl ClassUse {
    fn of(&self, kind: LimitKind) -> u64 {
        match kind {
            LimitKind::Requests => self.requests.total(),
            LimitKind::Tokens => self.tokens.total(),
            _ => self.in_flight,
        }
    }
}

/// The use of one scope's limits.
#[derive(Debug)]
pub struct State {
    requests: Option<Rolling>,
    tokens: Option<Rolling>,
    /// The same by class, if classes are used.
    by_class: Option<Box<[ClassUse; 3]>>,
    /// By kind of limit.
    hunger: [Hunger; 3],
    in_flight: u64,
    pub(super) quota: Option<Windows>,
    pub(super) budget: Option<Windows>,
    /// Of quota and budget: what requests in flight have reserved.
    reserved: [u64; 2],
    /// Of quota and budget: the period and the percentage of the last alert.
    alerted: [(i64, u64); 2],
    pub(super) share: Option<Share>,
    /// What was refused since the last agreement because the share was too small.
    pub(super) missed: [u64; 5],
    /// Whether there were requests since then.
    pub(super) active: bool,
    counting: Counting,
}

impl State {
    /// Without usage. `shared`: other nodes use the limits, too.
    pub(super) fn new(rules: &Rules, shared: bool) -> Self {
        let rolling = |limit: Option<u64>| limit.map(|_| Rolling::default());
        State {
            requests: rolling(rules.requests_per_minute),
            tokens: rolling(rules.tokens_per_minute),
            by_class: rules.classes.then(Box::default),
            hunger: Default::default(),
            in_flight: 0,
            quota: rules.quota.map(|(period, _)| Windows::new(period)),
            budget: rules.budget.map(|(period, _)| Windows::new(period)),
            reserved: [0; 2],
            alerted: [(i64::MIN, 0); 2],
            share: shared.then(Share::default),
            missed: [0; 5],
            active: false,
            counting: Counting::default(),
        }
    }

    /// Counts what `rules` need from now on; existing counters are kept. Returns the kinds whose periods start without
    /// known usage.
    pub(super) fn adopt(&mut self, rules: &Rules) -> Vec<LimitKind> {
        let mut begun = Vec::new();
        if rules.requests_per_minute.is_some() {
            self.requests.get_or_insert_default();
        }
        if rules.tokens_per_minute.is_some() && self.tokens.is_none() {
            self.tokens = Some(Rolling::default());
            self.counting.tokens += 1;
        }
        if rules.classes != self.by_class.is_some() {
            self.by_class = rules.classes.then(Box::default);
            self.counting.classes += 1;
        }
        let Counting { quota, budget, .. } = &mut self.counting;
        for (kind, windows, wanted, counting) in [
            (LimitKind::Quota, &mut self.quota, rules.quota.map(|(period, _)| period), quota),
            (LimitKind::Budget, &mut self.budget, rules.budget.map(|(period, _)| period), budget),
        ] {
            let Some(period) = wanted else { continue };
            if windows.as_ref().is_none_or(|windows| windows.period() != period) {
                *windows = Some(Windows::new(period));
                *counting += 1;
                begun.push(kind);
            }
        }
        begun
    }

    pub(super) fn advance(&mut self, second: u64) {
        for rolling in [&mut self.requests, &mut self.tokens].into_iter().flatten() {
            rolling.advance(second);
        }
        for class in self.by_class.iter_mut().flat_map(|classes| classes.iter_mut()) {
            class.requests.advance(second);
            class.tokens.advance(second);
        }
    }

    /// The counters of limits per minute: of all, then of each class.
    pub(super) fn meters(&mut self) -> impl Iterator<Item = Meters<'_>> {
        let all = Meters { requests: self.requests.as_mut(), tokens: self.tokens.as_mut(), in_flight: &mut self.in_flight };
        let classes = self.by_class.iter_mut().flat_map(|classes| classes.iter_mut());
        std::iter::once(all).chain(classes.map(|class| Meters {
            requests: Some(&mut class.requests),
            tokens: Some(&mut class.tokens),
            in_flight: &mut class.in_flight,
        }))
    }

    pub(super) fn spans(&self, now: Timestamps) -> (Option<Span>, Option<Span>) {
        (self.quota.as_ref().map(|quota| quota.span(now.unix)), self.budget.as_ref().map(|budget| budget.span(now.unix)))
    }

    /// The usage of each kind, as of the last `advance`.
    pub(super) fn used(&self, unix: i64) -> [u64; 5] {
        let rate = |rolling: &Option<Rolling>| rolling.as_ref().map_or(0, Rolling::total);
        let period = |windows: &Option<Windows>| windows.as_ref().map_or(0, |windows| windows.used(unix));
        // In the order of `Kind::ALL`.
        [rate(&self.requests), rate(&self.tokens), self.in_flight, period(&self.quota), period(&self.budget)]
    }

    /// What prevents a request, if anything: the obstacle with the longest wait.
    pub(super) fn obstacle(&mut self, rules: &Rules, demand: &Demand, now: Timestamps) -> Option<Obstacle> {
        self.advance(now.second());
        let used = self.used(now.unix);
        let mut worst: Option<Obstacle> = None;
        for kind in LimitKind::ALL {
            let Some(limit) = rules.limit(kind) else { continue };
            let need = need(kind, demand);
            let total = used[kind as usize];
            let fits = |most: u64| total.saturating_add(need) <= most;
            let (allowed, by_class) = self.allowed(kind, limit, demand, now);
            let shared = self.share_of(kind, now).unwrap_or(u64::MAX);
            if fits(allowed.min(shared)) {
                continue;
            }
            let by_share = fits(allowed);
            if by_share {
                self.missed[kind as usize] = self.missed[kind as usize].saturating_add(need);
                self.active = true;
            }
            let obstacle = Obstacle {
                kind,
                limit,
                wait: self.wait(kind, allowed.min(shared).saturating_sub(need), now),
                too_large: need > limit,
                by_share,
                by_class: by_class && fits(limit),
            };
            // A lack of share only counts after the other nodes have confirmed it.
            if obstacle.by_class || (kind.is_rate() && !obstacle.too_large) {
                self.hunger(kind, demand, now);
            }
            if worst.as_ref().is_none_or(|other| (other.by_share, obstacle.wait) > (by_share, other.wait)) {
                worst = Some(obstacle);
            }
        }
        worst
    }

    /// A class was refused: something is reserved for it from now on.
    fn hunger(&mut self, kind: LimitKind, demand: &Demand, now: Timestamps) {
        if self.by_class.is_some()
            && let Some(hunger) = self.hunger.get_mut(kind as usize)
        {
            hunger.note(demand.class, now.second());
        }
    }

    /// How much of a limit may be used after this request, and whether its class lowers that.
    fn allowed(&self, kind: LimitKind, limit: u64, demand: &Demand, now: Timestamps) -> (u64, bool) {
        let (Some(classes), Some(hunger)) = (&self.by_class, self.hunger.get(kind as usize)) else { return (limit, false) };
        let used = Class::ALL.map(|class| classes[class as usize].of(kind));
        let own = used[demand.class as usize];
        // A class gets what it needs within its own floor, and one request if it has none.
        if own == 0 || own.saturating_add(need(kind, demand)) <= share(limit, demand.class.floor()) {
            return (limit, false);
        }
        let kept = hunger.kept_from(demand.class, limit, &used, now.second());
        let others = self.share.as_ref().map_or(0, |share| share.others[kind as usize]);
        let allowed = share(limit, demand.class.ceiling()).min(limit.saturating_sub(kept)).saturating_sub(others);
        (allowed, allowed < limit)
    }

    /// This node's share of a limit, if it is shared. A period that has just begun has none yet.
    pub(super) fn share_of(&self, kind: LimitKind, now: Timestamps) -> Option<u64> {
        let share = self.share.as_ref()?;
        Some(if self.is_current(share, kind, now) { share.most[kind as usize] } else { 0 })
    }

    /// Whether a share is for the current period.
    fn is_current(&self, share: &Share, kind: LimitKind, now: Timestamps) -> bool {
        match kind {
            LimitKind::Quota => self.quota.as_ref().is_some_and(|quota| quota.span(now.unix).start == share.quota_start),
            LimitKind::Budget => self.budget.as_ref().is_some_and(|budget| budget.span(now.unix).start == share.budget_start),
            LimitKind::Requests | LimitKind::Tokens | LimitKind::Concurrent => true,
        }
    }

    /// Time until at most `most` is used.
    fn wait(&self, kind: LimitKind, most: u64, now: Timestamps) -> Option<Duration> {
        let rolling = |rolling: &Option<Rolling>| rolling.as_ref().map(|rolling| now.until(rolling.seconds_until(most)));
        let end = |windows: &Option<Windows>| {
            windows.as_ref().map(|windows| Duration::from_secs(u64::try_from(windows.span(now.unix).end - now.unix).unwrap_or(0)))
        };
        match kind {
            LimitKind::Requests => rolling(&self.requests),
            LimitKind::Tokens => rolling(&self.tokens),
            LimitKind::Concurrent => None,
            LimitKind::Quota => end(&self.quota),
            LimitKind::Budget => end(&self.budget),
        }
    }

    /// Reserves for a request.
    pub(super) fn book(&mut self, demand: &Demand, now: Timestamps) -> Hold {
        self.active = true;
        self.in_flight += 1;
        if let Some(requests) = &mut self.requests {
            requests.add(1);
        }
        let mut second = now.second();
        if let Some(tokens) = &mut self.tokens {
            second = tokens.add(demand.tokens);
        }
        if let Some(classes) = &mut self.by_class {
            let class = &mut classes[demand.class as usize];
            class.requests.add(1);
            class.tokens.add(demand.tokens);
            class.in_flight += 1;
        }
        let quota_start = self.quota.as_mut().map_or(0, |quota| quota.add(now.unix, demand.tokens));
        let budget_start = self.budget.as_mut().map_or(0, |budget| budget.add(now.unix, demand.cost.0));
        self.reserved[0] = self.reserved[0].saturating_add(demand.tokens);
        self.reserved[1] = self.reserved[1].saturating_add(demand.cost.0);
        Hold { second, quota_start, budget_start, slot: true, counting: self.counting }
    }

    /// Replaces the reservation by the usage. Usage above the reservation counts from the last `advance` on.
    pub(super) fn settle(&mut self, hold: &Hold, demand: &Demand, used: Used) {
        if hold.slot {
            self.leave(hold, demand);
        }
        self.change(hold, demand, Used { tokens: demand.tokens, cost: demand.cost }, used);
        self.reserved[0] = self.reserved[0].saturating_sub(demand.tokens);
        self.reserved[1] = self.reserved[1].saturating_sub(demand.cost.0);
    }

    /// Adds usage to the reservation. It counts from the last `advance` on.
    pub(super) fn add(&mut self, hold: &Hold, demand: &Demand, used: Used) {
        self.change(hold, demand, Used::default(), used);
    }

    /// Replaces a part of what is counted under `hold` by another.
    fn change(&mut self, hold: &Hold, demand: &Demand, old: Used, new: Used) {
        let (then, counting) = (hold.counting, self.counting);
        let own = self.tokens.as_mut().filter(|_| then.tokens == counting.tokens);
        let class = self.by_class.as_mut().filter(|_| then.classes == counting.classes).map(|all| &mut all[demand.class as usize].tokens);
        for tokens in [own, class].into_iter().flatten() {
            tokens.take_back(hold.second, old.tokens.saturating_sub(new.tokens));
            tokens.add(new.tokens.saturating_sub(old.tokens));
        }
        let quota = self.quota.as_mut().filter(|_| then.quota == counting.quota);
        let budget = self.budget.as_mut().filter(|_| then.budget == counting.budget);
        for (windows, start, old, new) in
            [(quota, hold.quota_start, old.tokens, new.tokens), (budget, hold.budget_start, old.cost.0, new.cost.0)]
        {
            if let Some(windows) = windows {
                windows.take_back(start, old.saturating_sub(new));
                windows.add_at(start, new.saturating_sub(old));
            }
        }
    }

    /// Moves the reservation to `now`.
    pub(super) fn renew(&mut self, hold: &mut Hold, demand: &Demand, now: Timestamps) {
        let slot = std::mem::take(&mut hold.slot);
        self.settle(hold, demand, Used::default());
        hold.slot = slot;
        let (then, counting) = (hold.counting, self.counting);
        if let Some(tokens) = self.tokens.as_mut().filter(|_| then.tokens == counting.tokens) {
            hold.second = tokens.add(demand.tokens);
        }
        if let Some(classes) = self.by_class.as_mut().filter(|_| then.classes == counting.classes) {
            classes[demand.class as usize].tokens.add(demand.tokens);
        }
        if let Some(quota) = self.quota.as_mut().filter(|_| then.quota == counting.quota) {
            hold.quota_start = quota.add(now.unix, demand.tokens);
        }
        if let Some(budget) = self.budget.as_mut().filter(|_| then.budget == counting.budget) {
            hold.budget_start = budget.add(now.unix, demand.cost.0);
        }
        self.reserved[0] = self.reserved[0].saturating_add(demand.tokens);
        self.reserved[1] = self.reserved[1].saturating_add(demand.cost.0);
    }

    /// A quota or budget that is used up: usage and reservations exceed it. Returns its limit, and the time until it
    /// starts again.
    pub(super) fn ended(&self, rules: &Rules, now: Timestamps) -> Option<(LimitKind, u64, Option<Duration>)> {
        let used = self.used(now.unix);
        [LimitKind::Quota, LimitKind::Budget].into_iter().find_map(|kind| {
            let limit = rules.limit(kind)?;
            let others = self.share.as_ref().map_or(0, |share| share.others[kind as usize]);
            let over = used[kind as usize].saturating_add(others) > limit;
            over.then(|| (kind, limit, self.wait(kind, 0, now)))
        })
    }

    /// The request has ended, though its usage isn't known yet.
    pub(super) fn release_slot(&mut self, hold: &mut Hold, demand: &Demand) {
        if std::mem::take(&mut hold.slot) {
            self.leave(hold, demand);
        }
    }

    fn leave(&mut self, hold: &Hold, demand: &Demand) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(classes) = self.by_class.as_mut().filter(|_| hold.counting.classes == self.counting.classes) {
            let class = &mut classes[demand.class as usize];
            class.in_flight = class.in_flight.saturating_sub(1);
        }
    }

    /// Alerts since the last time: once per period and percentage. `refused` is a quota or budget that has just refused
    /// a request.
    pub(super) fn alerts(&mut self, rules: &Rules, now: Timestamps, refused: Option<LimitKind>) -> [Option<Alert>; 2] {
        let used = self.used(now.unix);
        [LimitKind::Quota, LimitKind::Budget].map(|kind| {
            let at = usize::from(kind == LimitKind::Budget);
            let windows = if kind == LimitKind::Quota { self.quota.as_ref() } else { self.budget.as_ref() };
            let (limit, start) = (rules.limit(kind)?, windows?.span(now.unix).start);
            let spent = used[kind as usize].saturating_sub(self.reserved[at]);
            let percent = match () {
                () if spent >= limit || (refused == Some(kind) && spent >= share(limit, 80)) => 100,
                () if spent >= share(limit, 80) => 80,
                () => return None,
            };
            let (period, reached) = self.alerted[at];
            if period == start && reached >= percent {
                return None;
            }
            self.alerted[at] = (start, percent);
            Some(Alert { kind, percent })
        })
    }

    /// What is left of each limit, as of the last `advance`.
    pub(super) fn left(&self, rules: &Rules, now: Timestamps) -> Vec<Left> {
        let used = self.used(now.unix);
        let of = |kind: LimitKind| {
            let limit = rules.limit(kind)?;
            let share = self.share.as_ref().filter(|share| self.is_current(share, kind, now));
            let others = share.map_or(0, |share| share.others[kind as usize]);
            let left = limit.saturating_sub(used[kind as usize]).saturating_sub(others);
            let period = match kind {
                LimitKind::Quota => self.quota.as_ref().map(Windows::period),
                LimitKind::Budget => self.budget.as_ref().map(Windows::period),
                LimitKind::Requests | LimitKind::Tokens | LimitKind::Concurrent => None,
            };
            Some(Left { kind, limit, left, period, reset: self.wait(kind, 0, now) })
        };
        LimitKind::ALL.into_iter().filter_map(of).collect()
    }

    /// What a caller has left of its limits per minute.
    pub(super) fn remaining(&self, rules: &Rules, now: Timestamps) -> Remaining {
        let counter = |kind: LimitKind, rolling: &Option<Rolling>| {
            let (limit, rolling) = (rules.limit(kind)?, rolling.as_ref()?);
            let others = self.share.as_ref().map_or(0, |share| share.others[kind as usize]);
            let remaining = limit.saturating_sub(rolling.total()).saturating_sub(others);
            Some(Counter { limit, remaining, reset: now.until(rolling.seconds_until(0)) })
        };
        Remaining { requests: counter(LimitKind::Requests, &self.requests), tokens: counter(LimitKind::Tokens, &self.tokens) }
    }
}

/// How much of a kind a request needs.
fn need(kind: LimitKind, demand: &Demand) -> u64 {
    match kind {
        LimitKind::Requests | LimitKind::Concurrent => 1,
        LimitKind::Tokens | LimitKind::Quota => demand.tokens,
        LimitKind::Budget => demand.cost.0,
    }
}
