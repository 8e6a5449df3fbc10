//! Limits of consumers, groups and pools.

use spillway_plugins::limits::{Class, Period, Rules};
use spillway_plugins::prices::Money;

use super::portal;
use crate::config::checker::Checker;
use crate::config::raw::{RawClass, RawGroup, RawLimits, RawOnRedisLoss, RawPeriod};
use crate::config::{ConsumerLimits, Group, WhenLost};

/// The maximum number of minutes in a period.
fn minutes(period: RawPeriod) -> u64 {
    match period {
        RawPeriod::Hour => 60,
        RawPeriod::Day => 1_440,
        RawPeriod::Week => 10_080,
        RawPeriod::Month => 44_640,
        RawPeriod::Year => 527_040,
    }
}

fn period(raw: RawPeriod) -> Period {
    match raw {
        RawPeriod::Hour => Period::Hour,
        RawPeriod::Day => Period::Day,
        RawPeriod::Week => Period::Week,
        RawPeriod::Month => Period::Month,
        RawPeriod::Year => Period::Year,
    }
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

fn rules(raw: &RawLimits, key: &str, check: &mut Checker<'_>) -> Rules {
    for (given, name) in [
        (raw.requests_per_minute, "requests_per_minute"),
        (raw.tokens_per_minute, "tokens_per_minute"),
        (raw.concurrent_requests, "concurrent_requests"),
        (raw.token_quota.map(|quota| quota.tokens), "token_quota.tokens"),
    ] {
        if given == Some(0) {
            check.problem(&format!("{key}.{name}"), "0 would refuse everything; leave the consumer out instead");
        }
    }
    if let (Some(rate), Some(quota)) = (raw.tokens_per_minute, &raw.token_quota)
        && rate.saturating_mul(minutes(quota.period)) < quota.tokens
    {
        check.problem(&format!("{key}.token_quota"), "can never apply: tokens_per_minute allows fewer tokens in that period");
    }
    let budget = raw.budget.and_then(|budget| match Money::from_usd(budget.usd).filter(|money| money.0 > 0) {
        Some(money) => Some((period(budget.period), money)),
        None => {
            check.problem(&format!("{key}.budget.usd"), "must be more than 0, and less than 18 million");
            None
        }
    });
    Rules {
        requests_per_minute: raw.requests_per_minute,
        tokens_per_minute: raw.tokens_per_minute,
        concurrent: raw.concurrent_requests,
        quota: raw.token_quota.map(|quota| (period(quota.period), quota.tokens)),
        budget,
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
        models: raw.models.iter().map(|(model, raw)| (model.clone(), whole(raw, &format!("{key}.models.{model}"), check))).collect(),
    }
}

/// Limits without a breakdown by model.
fn whole(raw: &RawLimits, key: &str, check: &mut Checker<'_>) -> Rules {
    if !raw.models.is_empty() {
        check.problem(&format!("{key}.models"), "has an effect only in a consumer's own limits");
    }
    rules(raw, key, check)
}

pub(super) fn groups(raw: &[RawGroup], check: &mut Checker<'_>) -> Vec<Group> {
    check.names("groups", raw.iter().map(|group| group.name.as_str()));
    raw.iter()
        .enumerate()
        .map(|(index, group)| Group {
            name: group.name.as_str().into(),
            rules: whole(&group.limits, &format!("groups[{index}].limits"), check),
            owners: portal::owners(&group.owners, &format!("groups[{index}].owners"), check),
        })
        .collect()
}

/// The limits of a pool. Classes are used only if there are limits.
pub(super) fn pool(raw: Option<&RawLimits>, key: &str, check: &mut Checker<'_>) -> Rules {
    raw.map_or_else(Rules::default, |raw| Rules { classes: true, ..whole(raw, key, check) })
}
