//! `[[consumers]]`.

use std::collections::BTreeMap;

use super::Checker;
use crate::config::Consumer;
use crate::config::raw::{RawBackend, RawConsumer, RawLimits, RawPeriod, RawPool};

pub(super) fn read(raw: &[RawConsumer], pools: &[RawPool], backends: &[RawBackend], check: &mut Checker<'_>) -> Vec<Consumer> {
    check.names("consumers", raw.iter().map(|consumer| consumer.name.as_str()));
    let models: Vec<&str> = pools.iter().flat_map(|pool| &pool.models).map(String::as_str).collect();
    let locations: Vec<&str> = backends.iter().filter_map(|backend| backend.location.as_deref()).collect();
    let mut owners = BTreeMap::new();
    let mut consumers = Vec::new();
    for (index, consumer) in raw.iter().enumerate() {
        let key = format!("consumers[{index}]");
        let mut keys = Vec::new();
        for (at, api_key) in consumer.keys.iter().enumerate() {
            let at = format!("{key}.keys[{at}].sha256");
            if let Some(owner) = owners.insert(api_key.sha256.to_ascii_lowercase(), &consumer.name) {
                check.problem(&at, format!("this key belongs to consumer '{owner}' already"));
            }
            match api_key.sha256.parse() {
                Ok(digest) => keys.push(digest),
                Err(error) => check.problem(&at, format!("{error}")),
            }
        }
        for (at, model) in consumer.models.iter().flatten().enumerate().filter(|(_, model)| !models.contains(&model.as_str())) {
            check.unknown(&format!("{key}.models[{at}]"), "model (in no pool)", model, models.iter().copied());
        }
        for (at, location) in consumer.locations.iter().flatten().enumerate().filter(|(_, place)| !locations.contains(&place.as_str())) {
            check.unknown(&format!("{key}.locations[{at}]"), "location (of no backend)", location, locations.iter().copied());
        }
        if consumer.keys.is_empty() {
            check.warn(&format!("{key}.name"), format!("'{}' has no keys, so nobody can call as it", consumer.name));
        }
        if let Some(limits) = &consumer.limits {
            self::limits(limits, &format!("{key}.limits"), check);
            check.not_available(&format!("{key}.limits"), "limiting consumers");
        }
        consumers.push(Consumer {
            name: consumer.name.as_str().into(),
            keys,
            models: consumer.models.clone(),
            locations: consumer.locations.as_ref().map(|all| all.iter().map(|one| one.as_str().into()).collect()),
        });
    }
    consumers
}

/// Minutes that a period has at most.
fn minutes(period: RawPeriod) -> u64 {
    match period {
        RawPeriod::Hour => 60,
        RawPeriod::Day => 1_440,
        RawPeriod::Week => 10_080,
        RawPeriod::Month => 44_640,
        RawPeriod::Year => 527_040,
    }
}

fn limits(raw: &RawLimits, key: &str, check: &mut Checker<'_>) {
    for (given, name) in [
        (raw.requests_per_minute, "requests_per_minute"),
        (raw.tokens_per_minute, "tokens_per_minute"),
        (raw.concurrent_requests, "concurrent_requests"),
        (raw.token_quota.as_ref().map(|quota| quota.tokens), "token_quota.tokens"),
    ] {
        if given == Some(0) {
            check.problem(&format!("{key}.{name}"), "0 would refuse everything; leave the consumer out instead");
        }
    }
    if let (Some(rate), Some(quota)) = (raw.tokens_per_minute, &raw.token_quota)
        && rate.saturating_mul(minutes(quota.period)) < quota.tokens
    {
        check.problem(&format!("{key}.token_quota"), "can never apply: tokens_per_minute doesn't let as many through in that period");
    }
    if raw.budget.as_ref().is_some_and(|budget| !(budget.usd.is_finite() && budget.usd > 0.0)) {
        check.problem(&format!("{key}.budget.usd"), "must be more than 0");
    }
}
