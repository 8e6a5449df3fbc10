//! `/api/limits`: the current use of every limit, or of those of which the greatest part is used.

use std::collections::HashMap;

use chrono::DateTime;
use serde_json::{Map, Value, json};
use spillway_plugins::limits::{LimitId, LimitKind, LimitUse};
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

/// Most limits in one answer to `?rows=`.
pub(super) const MOST_ROWS: usize = 100;

/// A limit and its owner.
struct Row<'s> {
    scope: &'s str,
    is_shadow: bool,
    used: LimitUse,
}

impl Row<'_> {
    /// The part that is used. Of a limit of nothing all is.
    fn share(&self) -> f64 {
        if self.used.limit == 0 { 1.0 } else { self.used.used as f64 / self.used.limit as f64 }
    }
}

/// At most so many limits, those of which the greatest part is used first, of owners with `search` in their name.
pub(super) fn fullest(gateway: &Gateway, search: &str, most: usize) -> Value {
    let now = gateway.limits.now();
    let runtime = gateway.runtime.load();
    let (parents, search) = (parents(&runtime.config), search.to_lowercase());
    let scopes = gateway.limits.all();
    let mut rows = Vec::new();
    // What each is guaranteed by the group that it is in.
    let mut guaranteed: HashMap<(String, LimitId), u64> = HashMap::new();
    for scope in &scopes {
        let uses = scope.snapshot(now);
        for one in &uses {
            guaranteed.extend(one.guaranteed.iter().map(|(child, kept, _)| ((child.clone(), one.id), *kept)));
        }
        if search.is_empty() || scope.name.to_lowercase().contains(&search) {
            rows.extend(uses.into_iter().map(|used| Row { scope: &scope.name, is_shadow: scope.rules.shadow, used }));
        }
    }
    let count = rows.len();
    rows.sort_by(|a, b| b.share().total_cmp(&a.share()).then_with(|| (a.scope, a.used.id).cmp(&(b.scope, b.used.id))));
    let shown = rows.iter().take(most).map(|row| {
        let LimitUse { id, limit, used, guaranteed: others, .. } = &row.used;
        // A part of what is left may be kept for those below who are guaranteed something.
        let kept = others.iter().fold(0u64, |sum, (_, kept, used)| sum.saturating_add(kept.saturating_sub(*used)));
        let left = limit.saturating_sub(*used);
        let mut shown = window(&row.used);
        shown["scope"] = json!(row.scope);
        shown["parent"] = json!(parents.get(row.scope));
        shown["shadow"] = json!(row.is_shadow);
        shown["share"] = json!(row.share());
        shown["left"] = amount(id.kind, left);
        shown["kept_for_others"] = amount(id.kind, kept.min(left));
        shown["guaranteed"] = guaranteed.get(&(row.scope.to_owned(), *id)).map_or(Value::Null, |kept| amount(id.kind, *kept));
        shown
    });
    json!({ "count": count, "rows": shown.collect::<Vec<_>>() })
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
