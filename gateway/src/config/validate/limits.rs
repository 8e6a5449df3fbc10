//! Limits of consumers, groups and pools.

use spillway_plugins::limits::{Calendar, Class, LimitId, LimitKind, Period, Rules, Window, Zone};
use spillway_plugins::prices::Money;

use crate::config::checker::Checker;
use crate::config::raw::{RawClass, RawLimits, RawOnRedisLoss, RawPeriod};
use crate::config::{ConsumerLimits, WhenLost};

fn period(raw: RawPeriod) -> Period {
    match raw {
        RawPeriod::Minute => Period::Minute,
        RawPeriod::Hour => Period::Hour,
        RawPeriod::Day => Period::Day,
        RawPeriod::Week => Period::Week,
        RawPeriod::Month => Period::Month,
        RawPeriod::Year => Period::Year,
    }
}

fn calendar(raw: RawPeriod, time_zone: Option<&String>, key: &str, check: &mut Checker<'_>) -> Option<Calendar> {
    let zone = match time_zone {
        None => Some(Zone::UTC),
        Some(name) => Zone::named(name).or_else(|| {
            check.unknown(&format!("{key}.time_zone"), "time zone (of the IANA database)", name, Zone::names());
            None
        }),
    };
    Some(Calendar { period: period(raw), zone: zone? })
}

pub(super) fn class(raw: Option<RawClass>) -> Class {
    match raw {
        Some(RawClass::Interactive) => Class::Interactive,
        None | Some(RawClass::Standard) => Class::Standard,
        Some(RawClass::Batch) => Class::Batch,
    }
}

pub(super) fn when_lost(raw: Option<RawOnRedisLoss>) -> WhenLost {
    match raw {
        None | Some(RawOnRedisLoss::Share) => WhenLost::Share,
        Some(RawOnRedisLoss::Refuse) => WhenLost::Refuse,
        Some(RawOnRedisLoss::Allow) => WhenLost::Allow,
    }
}

/// A limit, and its key.
pub(super) struct Located {
    pub(super) key: String,
    pub(super) id: LimitId,
    pub(super) limit: u64,
}

/// All limits, or what is guaranteed of them, with their keys. `zero` is what an amount of zero would mean.
pub(super) fn located(raw: &RawLimits, key: &str, zero: &str, check: &mut Checker<'_>) -> Vec<Located> {
    let mut all: Vec<Located> = Vec::new();
    for (given, kind) in [
        (raw.requests_per_minute, LimitKind::Requests),
        (raw.tokens_per_minute, LimitKind::Tokens),
        (raw.concurrent_requests, LimitKind::Concurrent),
    ] {
        let key = format!("{key}.{}", kind.label());
        if given == Some(0) {
            check.problem(&key, zero);
        }
        all.extend(given.map(|limit| Located { key, id: LimitId { kind, calendar: None }, limit }));
    }
    for (at, quota) in raw.request_quota.iter().flat_map(|all| all.all()) {
        let key = format!("{key}.request_quota{at}");
        let amount = whole(quota.requests, &format!("{key}.requests"), zero, check);
        window(&mut all, key, LimitKind::RequestQuota, amount, (quota.period, quota.time_zone.as_ref()), check);
    }
    for (at, quota) in raw.token_quota.iter().flat_map(|all| all.all()) {
        let key = format!("{key}.token_quota{at}");
        let amount = whole(quota.tokens, &format!("{key}.tokens"), zero, check);
        window(&mut all, key, LimitKind::Quota, amount, (quota.period, quota.time_zone.as_ref()), check);
    }
    for (at, budget) in raw.budget.iter().flat_map(|all| all.all()) {
        let key = format!("{key}.budget{at}");
        let amount = Money::from_usd(budget.usd).filter(|money| money.0 > 0).map(|money| money.0);
        if amount.is_none() {
            check.problem(&format!("{key}.usd"), "must be more than 0, and less than 18 million");
        }
        window(&mut all, key, LimitKind::Budget, amount, (budget.period, budget.time_zone.as_ref()), check);
    }
    all
}

fn whole(amount: u64, key: &str, zero: &str, check: &mut Checker<'_>) -> Option<u64> {
    if amount == 0 {
        check.problem(key, zero);
    }
    (amount > 0).then_some(amount)
}

fn window(
    all: &mut Vec<Located>,
    key: String,
    kind: LimitKind,
    amount: Option<u64>,
    (period, time_zone): (RawPeriod, Option<&String>),
    check: &mut Checker<'_>,
) {
    let Some(calendar) = calendar(period, time_zone, &key, check) else { return };
    let instead = match kind {
        LimitKind::RequestQuota => Some("requests_per_minute"),
        LimitKind::Quota => Some("tokens_per_minute"),
        _ => None,
    };
    if let (Period::Minute, Some(instead)) = (calendar.period, instead) {
        check.problem(&format!("{key}.period"), format!("use {instead} instead: it counts any 60 seconds, also over the edge of a minute"));
        return;
    }
    let id = LimitId { kind, calendar: Some(calendar) };
    if let Some(first) = all.iter().find(|other| other.id == id) {
        let first = first.key.clone();
        check.problem(&key, format!("'{first}' is for the same period already; keep one of them"));
        return;
    }
    all.extend(amount.map(|limit| Located { key, id, limit }));
}

/// The most places for periods that a scope may have.
const MOST_WINDOWS: usize = 24;

fn rules(raw: &RawLimits, key: &str, check: &mut Checker<'_>) -> Rules {
    let located = located(raw, key, "0 would refuse everything: write at least 1, or leave the limit out", check);
    let windows: Vec<Window> =
        located.iter().filter_map(|one| Some(Window { kind: one.id.kind, calendar: one.id.calendar?, limit: one.limit })).collect();
    if windows.len() > MOST_WINDOWS {
        check.problem(key, format!("has limits for {} periods; at most {MOST_WINDOWS} can be counted", windows.len()));
    }
    for one in &located {
        let Some(calendar) = one.id.calendar else { continue };
        let (rate, name) = match one.id.kind {
            LimitKind::Quota => (raw.tokens_per_minute, "tokens_per_minute allows fewer tokens"),
            LimitKind::RequestQuota => (raw.requests_per_minute, "requests_per_minute allows fewer requests"),
            _ => continue,
        };
        if rate.is_some_and(|rate| rate.saturating_mul(calendar.minutes()) < one.limit) {
            check.problem(&one.key, format!("can never apply: {name} in that period"));
        }
    }
    Rules {
        requests_per_minute: raw.requests_per_minute,
        tokens_per_minute: raw.tokens_per_minute,
        concurrent: raw.concurrent_requests,
        windows,
        guaranteed: Vec::new(),
        shadow: raw.shadow.unwrap_or(false),
        classes: false,
    }
}

/// The limits of a consumer, or of each unlisted one.
pub(in crate::config) fn consumer<'n>(
    raw: Option<&RawLimits>,
    key: &str,
    models: impl IntoIterator<Item = &'n str> + Clone,
    check: &mut Checker<'_>,
) -> ConsumerLimits {
    let Some(raw) = raw else { return ConsumerLimits::default() };
    for model in raw.models.keys().filter(|model| !models.clone().into_iter().any(|known| known == *model)) {
        check.unknown(&format!("{key}.models.{model}"), "model (in no pool)", model, models.clone());
    }
    ConsumerLimits {
        rules: rules(raw, key, check),
        models: raw.models.iter().map(|(model, raw)| (model.clone(), by_itself(raw, &format!("{key}.models.{model}"), check))).collect(),
    }
}

/// Limits without a breakdown by model.
pub(super) fn by_itself(raw: &RawLimits, key: &str, check: &mut Checker<'_>) -> Rules {
    if !raw.models.is_empty() {
        check.problem(&format!("{key}.models"), "has an effect only in a consumer's own limits");
    }
    rules(raw, key, check)
}

/// The limits of a pool. Classes are used only if there are limits.
pub(super) fn pool(raw: Option<&RawLimits>, key: &str, check: &mut Checker<'_>) -> Rules {
    raw.map_or_else(Rules::default, |raw| Rules { classes: true, ..by_itself(raw, key, check) })
}
