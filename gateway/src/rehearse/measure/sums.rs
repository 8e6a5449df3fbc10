//! Sums up what was seen of a fault.

use std::collections::BTreeMap;
use std::time::Duration;

use super::figures::Figures;
use crate::config::Consumer;
use crate::rehearse::outcome::{LimitKept, PoolSums, RequestOutcome, Served, ServedBy, StatusCount};

/// The sums of each pool, in the order of its first request.
pub(in crate::rehearse) fn by_pool(requests: &[RequestOutcome], figures: &Figures) -> Vec<PoolSums> {
    let mut pools: Vec<&str> = Vec::new();
    for request in requests.iter().filter(|request| !request.pool.is_empty()) {
        if !pools.contains(&request.pool.as_str()) {
            pools.push(&request.pool);
        }
    }
    let of = |pool: &&str| one(pool, &requests.iter().filter(|request| request.pool == **pool).collect::<Vec<_>>(), figures);
    pools.iter().map(of).collect()
}

fn one(pool: &str, requests: &[&RequestOutcome], figures: &Figures) -> PoolSums {
    let (mut served, mut statuses) = (BTreeMap::<&Served, u64>::new(), BTreeMap::<u16, u64>::new());
    for request in requests {
        *served.entry(&request.served).or_default() += 1;
        *statuses.entry(request.status).or_default() += 1;
    }
    let mut served: Vec<ServedBy> = served.into_iter().map(|(served, requests)| ServedBy { served: served.clone(), requests }).collect();
    served.sort_by_key(|served| std::cmp::Reverse(served.requests));
    let mut added: Vec<Duration> = requests.iter().map(|request| request.added).collect();
    added.sort_unstable();
    let count = |is: &dyn Fn(&RequestOutcome) -> bool| requests.iter().filter(|request| is(request)).count() as u64;
    PoolSums {
        pool: pool.to_owned(),
        requests: requests.len() as u64,
        good: count(&RequestOutcome::is_good),
        broken: count(&|request| request.status == 200 && !request.whole),
        served,
        statuses: statuses.into_iter().map(|(status, requests)| StatusCount { status, requests }).collect(),
        attempts: requests.iter().map(|request| request.attempts.len() as u64).sum(),
        added_most: added.last().copied().unwrap_or_default(),
        added_median: added.get(added.len() / 2).copied().unwrap_or_default(),
        cost_usd: figures.sum("spillway_cost_usd_total", &[("pool", pool)]),
        cost_unknown: figures.sum("spillway_cost_unknown_total", &[("pool", pool)]) as u64,
    }
}

/// The limits of a consumer that sends too much within a minute, and whether they were kept.
pub(in crate::rehearse) fn limits(consumer: &Consumer, flood: &[&RequestOutcome], figures: &Figures) -> Vec<LimitKept> {
    let rules = &consumer.limits.rules;
    let limit = |name: &str| format!("consumers.{} {name}", consumer.name);
    let mut kept = Vec::new();
    let refused = flood.iter().any(|request| request.status == 429 && request.attempts.is_empty());
    if let Some(allowed) = rules.requests_per_minute {
        let used = flood.iter().filter(|request| !request.attempts.is_empty()).count() as u64;
        kept.push(LimitKept {
            limit: limit("requests_per_minute"),
            allowed,
            used,
            kept: used <= allowed,
            reached: refused || used >= allowed,
        });
    }
    if let Some(allowed) = rules.tokens_per_minute {
        let of = |kind: &str| figures.sum(&format!("spillway_consumer_{kind}_tokens_total"), &[("consumer", &consumer.name)]);
        let used = (of("input") + of("output")) as u64;
        kept.push(LimitKept {
            limit: limit("tokens_per_minute"),
            allowed,
            used,
            kept: used <= allowed,
            reached: refused || used >= allowed,
        });
    }
    kept
}
