//! What a consumer has left of its limits.

use std::collections::HashSet;

use serde_json::{Value, json};
use spillway_plugins::limits::{Calendar, Counter, LimitId, LimitKind, Rank, Scope, Timestamps};
use spillway_plugins::prices::Money;

use crate::callers::LiveConsumer;
use crate::config::{Config, PersonNames, group_name};

/// The limits of a consumer, of its models and of its groups. What a group has left is only for those who own the group:
/// for others it would tell what other consumers use.
pub(super) fn limits(config: &Config, person: &PersonNames<'_>, consumer: &LiveConsumer, now: Timestamps) -> Vec<Value> {
    let owned = |index: &usize| config.owns_group(person, *index);
    let owned: HashSet<String> = (0..config.groups.len()).filter(owned).map(|index| group_name(&config.groups[index].name)).collect();
    let group = |scope: &Scope| config.groups.iter().find(|group| group_name(&group.name) == scope.name).map(|group| &*group.name);
    let mut shown = Vec::new();
    for (model, scope, via) in consumer.account.all() {
        let (of, name) = match scope.rank {
            Rank::Consumer => ("consumer", None),
            Rank::ConsumerModel => ("model", model),
            Rank::Group | Rank::Pool => ("group", group(scope)),
        };
        let may_see = of != "group" || owned.contains(&scope.name);
        shown.extend(scope.left(via, now).iter().map(|(id, left)| limit(*id, left, of, name, scope, now, may_see)));
    }
    shown
}

fn limit(id: LimitId, left: &Counter, of: &str, name: Option<&str>, scope: &Scope, now: Timestamps, may_see: bool) -> Value {
    let amount = |value: u64| if id.kind == LimitKind::Budget { json!(Money(value).usd()) } else { json!(value) };
    let resets = may_see && id.kind != LimitKind::Concurrent;
    let resets_at = resets.then(|| now.unix.saturating_add(i64::try_from(left.reset.as_secs()).unwrap_or(i64::MAX)));
    json!({
        "of": of, "name": name, "kind": id.kind.label(), "limit": amount(left.limit), "left": may_see.then(|| amount(left.remaining)),
        "period": id.calendar.map(|Calendar { period, .. }| period.name()),
        "time_zone": id.calendar.map(|calendar| calendar.zone.name()), "resets_at": resets_at, "shadow": scope.rules.shadow,
    })
}
