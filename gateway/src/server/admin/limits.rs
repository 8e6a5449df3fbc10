//! `/api/limits`: the current use of every limit.

use std::collections::HashMap;

use chrono::DateTime;
use serde_json::{Map, Value, json};
use spillway_plugins::limits::{LimitKind, LimitUse};
use spillway_plugins::prices::Money;

use crate::config::{Config, consumer_name, group_name};
use crate::gateway::Gateway;

/// The current use of every limit.
pub(super) fn of_all(gateway: &Gateway) -> Value {
    let now = gateway.limits.now();
    let runtime = gateway.runtime.load();
    let parents = parents(&runtime.config);
    let scopes: Vec<Value> = gateway
        .limits
        .all()
        .iter()
        .map(|scope| {
            let uses = scope.snapshot(now);
            json!({
                "scope": scope.name, "parent": parents.get(&scope.name), "shadow": scope.rules.shadow,
                "limits": by_kind(&uses), "windows": uses.iter().map(window).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "scopes": scopes })
}

/// The groups that groups and consumers are in.
fn parents(config: &Config) -> HashMap<String, String> {
    let name = |group: Option<usize>| Some(group_name(&config.groups.get(group?)?.name));
    let of_groups = config.groups.iter().filter_map(|group| Some((group_name(&group.name), name(group.parent)?)));
    let of_consumers = config.consumers.iter().filter_map(|consumer| Some((consumer_name(&consumer.name), name(consumer.group)?)));
    of_groups.chain(of_consumers).collect()
}

/// One limit of each kind: of several periods, the one of which the least part is left.
fn by_kind(uses: &[LimitUse]) -> Map<String, Value> {
    let fullest = |kind: LimitKind| {
        let of_kind = uses.iter().filter(|one| one.id.kind == kind);
        of_kind.max_by(|a, b| (u128::from(a.used) * u128::from(b.limit)).cmp(&(u128::from(b.used) * u128::from(a.limit))))
    };
    let shown = |one: &LimitUse| json!({ "limit": amount(one.id.kind, one.limit), "used": amount(one.id.kind, one.used) });
    LimitKind::ALL.into_iter().filter_map(|kind| Some((kind.label().to_owned(), shown(fullest(kind)?)))).collect()
}

fn window(one: &LimitUse) -> Value {
    let kind = one.id.kind;
    let guaranteed =
        one.guaranteed.iter().map(|(name, kept, used)| json!({ "to": name, "amount": amount(kind, *kept), "used": amount(kind, *used) }));
    json!({
        "limit": kind.label(), "period": one.id.calendar.map(|calendar| calendar.period.name()),
        "time_zone": one.id.calendar.map(|calendar| calendar.zone.name()), "amount": amount(kind, one.limit),
        "used": amount(kind, one.used), "starts_again": one.span.and_then(|span| DateTime::from_timestamp(span.end, 0)).map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
        "guaranteed": guaranteed.collect::<Vec<_>>(),
    })
}

/// In requests, tokens or dollars.
fn amount(kind: LimitKind, amount: u64) -> Value {
    if kind == LimitKind::Budget { json!(Money(amount).usd()) } else { json!(amount) }
}
