//! `[[groups]]`: a tree of groups, and what is guaranteed to whom.

use spillway_plugins::limits::{Guarantee, LimitId, LimitKind, Rules, Window};
use spillway_plugins::prices::Money;

use super::limits::{self, Located};
use super::portal;
use crate::config::checker::Checker;
use crate::config::raw::{RawConsumer, RawGroup, RawGuarantee};
use crate::config::{Consumer, Group, consumer_name, group_name, lineage};

/// Most nodes between a request's consumer and the group without a parent, both included.
const DEEPEST: usize = 6;
/// Most scopes to which a group can guarantee something: each request in the group looks at all of them.
const MOST_GUARANTEED: usize = 64;

/// Groups with their parents, without cycles, and their own limits.
pub(super) fn read(raw: &[RawGroup], check: &mut Checker<'_>) -> Vec<Group> {
    let names = || raw.iter().map(|group| group.name.as_str());
    check.names("groups", names());
    let mut groups: Vec<Group> = Vec::with_capacity(raw.len());
    for (at, group) in raw.iter().enumerate() {
        let parent = group.parent.as_ref().and_then(|name| {
            let found = names().position(|known| known == name);
            if found.is_none() {
                check.unknown(&format!("groups[{at}].parent"), "group", name, names().filter(|known| *known != group.name));
            }
            found
        });
        let limits = group.limits.as_ref();
        let rules = limits.map_or_else(Rules::default, |limits| limits::by_itself(limits, &format!("groups[{at}].limits"), check));
        let owners = portal::owners(&group.owners, &format!("groups[{at}].owners"), check);
        groups.push(Group { name: group.name.as_str().into(), parent, rules, owners });
    }
    cut_cycles(&mut groups, check);
    for at in 0..groups.len() {
        let length = lineage(&groups, Some(at)).count();
        // One more is the consumer. Only where it becomes too long: groups below it aren't reported, too.
        if length == DEEPEST {
            let all: Vec<&str> = lineage(&groups, Some(at)).map(|(_, group)| &*group.name).collect();
            let text = format!(
                "is too deep: with a consumer, '{}' would be {} nodes, and a request's path has at most {DEEPEST}",
                all.join("' in '"),
                length + 1
            );
            check.problem(&format!("groups[{at}].parent"), text);
        }
    }
    groups
}

/// Reports each cycle once, and removes it.
fn cut_cycles(groups: &mut [Group], check: &mut Checker<'_>) {
    for at in 0..groups.len() {
        let mut path = vec![at];
        while let Some(parent) = path.last().and_then(|last| groups[*last].parent) {
            if parent == at {
                let names: Vec<&str> = path.iter().chain([&at]).map(|index| &*groups[*index].name).collect();
                let text = format!("goes in a circle: '{}'; one of these groups must have no parent, or another one", names.join("' in '"));
                check.problem(&format!("groups[{at}].parent"), text);
                groups[at].parent = None;
                break;
            }
            if path.contains(&parent) {
                // A circle that doesn't contain this group is reported at one that it does.
                break;
            }
            path.push(parent);
        }
    }
}

/// Someone who is in a group, and what the config says of it.
struct Child<'r> {
    key: String,
    /// The name of its scope.
    name: String,
    parent: Option<usize>,
    guaranteed: Option<&'r RawGuarantee>,
    borrow: Option<bool>,
}

/// What is guaranteed to a child, by which of the groups, and where the config says so.
struct Promise {
    key: String,
    parent: usize,
    guarantee: Guarantee,
}

/// Adds to each group's rules what it guarantees, and to the rules of those that may not borrow that they may use no more.
pub(super) fn guarantee(
    raw: &[RawGroup],
    groups: &mut [Group],
    raw_consumers: &[RawConsumer],
    consumers: &mut [Consumer],
    check: &mut Checker<'_>,
) {
    let of_groups = raw.iter().zip(groups.iter()).enumerate().map(|(at, (raw, group))| Child {
        key: format!("groups[{at}]"),
        name: group_name(&group.name),
        parent: group.parent,
        guaranteed: raw.guaranteed.as_ref(),
        borrow: raw.borrow,
    });
    let of_consumers = raw_consumers.iter().zip(consumers.iter()).enumerate().map(|(at, (raw, consumer))| Child {
        key: format!("consumers[{at}]"),
        name: consumer_name(&consumer.name),
        parent: consumer.group,
        guaranteed: raw.guaranteed.as_ref(),
        borrow: raw.borrow,
    });
    let children: Vec<Child<'_>> = of_groups.chain(of_consumers).collect();
    let count = groups.len();
    let mut promised: Vec<Promise> = Vec::new();
    // From the top: what a group may use must be known before what it guarantees.
    let mut order: Vec<usize> = (0..children.len()).collect();
    order.sort_by_key(|at| lineage(groups, children[*at].parent).count());
    for at in order {
        let child = &children[at];
        if child.borrow.is_some() && child.guaranteed.is_none() {
            check.problem(&format!("{}.borrow", child.key), "has an effect only with 'guaranteed'");
        }
        let Some(guaranteed) = child.guaranteed else { continue };
        let key = format!("{}.guaranteed", child.key);
        let Some(parent) = child.parent else {
            let what = if at < count { "parent" } else { "group" };
            check.problem(&key, format!("is a part of the limits of its {what}, and it has none"));
            continue;
        };
        let Some(guarantee) = amounts(guaranteed, child, &groups[parent], &key, check) else { continue };
        if child.borrow == Some(false) {
            let limits: Vec<LimitId> = groups[parent].rules.limits().map(|(id, _)| id).collect();
            let own = if at < count { &mut groups[at].rules } else { &mut consumers[at - count].limits.rules };
            if own.shadow {
                let text =
                    "makes what is guaranteed its own limits, and with 'limits.shadow = true' those refuse nothing; leave out one of both";
                check.problem(&format!("{}.borrow", child.key), text);
            }
            limits.iter().zip(&guarantee.amounts).filter(|(_, amount)| **amount > 0).for_each(|(id, amount)| narrow(own, *id, *amount));
        }
        promised.push(Promise { key, parent, guarantee });
    }
    for (at, group) in groups.iter().enumerate() {
        let of_group: Vec<&Promise> = promised.iter().filter(|promise| promise.parent == at).collect();
        keep_promises(group, &of_group, check);
    }
    for Promise { parent, guarantee, .. } in promised {
        groups[parent].rules.guaranteed.push(guarantee);
    }
    for child in &children {
        beyond(child, groups, check);
    }
}

/// What is guaranteed of each limit of the parent.
fn amounts(raw: &RawGuarantee, child: &Child<'_>, parent: &Group, key: &str, check: &mut Checker<'_>) -> Option<Guarantee> {
    let limits: Vec<(LimitId, u64)> = parent.rules.limits().collect();
    if limits.is_empty() {
        check.problem(key, format!("is a part of the limits of group '{}', which has none", parent.name));
        return None;
    }
    let amounts = match raw {
        RawGuarantee::Percent(text) => {
            let percent = text.trim().strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
            let Some(percent) = percent.filter(|percent| *percent > 0.0 && *percent <= 100.0) else {
                check.problem(key, format!("'{text}' is no percentage; write one from more than 0 to 100, such as \"20%\", or a table"));
                return None;
            };
            // In ten-thousandths of a percent: exact for each percentage that anyone writes.
            let parts = (percent * 10_000.0).round() as u128;
            let part = |limit: u64| u64::try_from(u128::from(limit) * parts / 1_000_000).unwrap_or(limit);
            if let Some((id, limit)) = limits.iter().find(|(_, limit)| part(*limit) == 0) {
                let text = format!("is less than one of the {} {} of group '{}'; use a table with amounts", limit, id, parent.name);
                check.problem(key, text);
            }
            limits.iter().map(|(_, limit)| part(*limit)).collect()
        }
        RawGuarantee::Amounts(raw) => {
            let given = limits::located(raw, key, "0 guarantees nothing; leave it out", check);
            for Located { key, id, .. } in &given {
                if !limits.iter().any(|(known, _)| known == id) {
                    check.problem(key, no_such_limit(*id, parent));
                }
            }
            limits.iter().map(|(id, _)| given.iter().find(|one| one.id == *id).map_or(0, |one| one.limit)).collect()
        }
    };
    Some(Guarantee { child: child.name.clone(), amounts })
}

/// Says which limits a group has, if it doesn't have this one. A period in another time zone is another limit.
fn no_such_limit(id: LimitId, parent: &Group) -> String {
    let all = || parent.rules.limits().map(|(known, _)| known);
    let others: Vec<String> = all().filter(|known| known.kind == id.kind).map(in_full).collect();
    let (has, remedy) = match others.is_empty() {
        true => (all().map(in_full).collect(), ""),
        false => (others, ": write the same period and time_zone"),
    };
    format!("group '{}' has no {} of which something could be guaranteed; it has {}{remedy}", parent.name, in_full(id), has.join(", "))
}

/// A limit with its period, and with the time zone also if that is UTC.
fn in_full(id: LimitId) -> String {
    match id.calendar {
        Some(calendar) => format!("{} per {} in {}", id.kind.label(), calendar.period.name(), calendar.zone.name()),
        None => id.kind.label().to_owned(),
    }
}

/// Reports each limit of a group of which more is guaranteed than it has, at the guarantee with which it becomes too much.
fn keep_promises(group: &Group, promised: &[&Promise], check: &mut Checker<'_>) {
    for (place, (id, limit)) in group.rules.limits().enumerate() {
        let amount = |promise: &&&Promise| promise.guarantee.amounts.get(place).copied().unwrap_or(0);
        let mut sum = 0u64;
        let first_too_many = promised.iter().find(|promise| {
            sum = sum.saturating_add(amount(promise));
            sum > limit
        });
        let Some(first_too_many) = first_too_many else { continue };
        let all = promised.iter().filter(|promise| amount(promise) > 0);
        let sum = all.clone().map(|promise| amount(&promise)).fold(0, u64::saturating_add);
        let shares: Vec<String> =
            all.map(|promise| format!("{} to {}", amount_text(id, amount(&promise)), promise.guarantee.child)).collect();
        let text = format!(
            "group '{}' has {} {id}, and guarantees {}: {}; guarantee less, or raise the limit of '{}'",
            group.name,
            amount_text(id, limit),
            amount_text(id, sum),
            shares.join(", "),
            group.name
        );
        check.problem(&first_too_many.key, text);
    }
    if let Some(one_more) = promised.get(MOST_GUARANTEED) {
        let text = format!("group '{}' guarantees something to more than {MOST_GUARANTEED}; let groups between them share", group.name);
        check.problem(&one_more.key, text);
    }
}

/// Warns of a guarantee of which a group farther up guarantees less.
fn beyond(child: &Child<'_>, groups: &[Group], check: &mut Checker<'_>) {
    let Some((_, group)) = lineage(groups, child.parent).next() else { return };
    let Some(above) = group.parent.and_then(|index| groups.get(index)) else { return };
    let Some(own) = group.rules.guaranteed.iter().find(|guarantee| guarantee.child == child.name) else { return };
    let of_group = above.rules.guaranteed.iter().find(|guarantee| guarantee.child == group_name(&group.name));
    for (place, (id, _)) in above.rules.limits().enumerate() {
        let kept = of_group.map_or(0, |guarantee| guarantee.amounts[place]);
        let promised = group.rules.limits().position(|(known, _)| known == id).map_or(0, |at| own.amounts[at]);
        if promised > kept {
            let text = format!(
                "group '{}' guarantees {} {}, but itself has only {} of them guaranteed by group '{}': others there can use up the rest",
                group.name,
                amount_text(id, promised),
                id,
                amount_text(id, kept),
                above.name
            );
            check.warn(&format!("{}.guaranteed", child.key), text);
        }
    }
}

/// Makes a limit at most `amount`.
fn narrow(rules: &mut Rules, id: LimitId, amount: u64) {
    let rate = match id.kind {
        LimitKind::Requests => &mut rules.requests_per_minute,
        LimitKind::Tokens => &mut rules.tokens_per_minute,
        LimitKind::Concurrent => &mut rules.concurrent,
        LimitKind::RequestQuota | LimitKind::Quota | LimitKind::Budget => {
            let Some(calendar) = id.calendar else { return };
            let known = rules.windows.iter_mut().find(|window| window.kind == id.kind && window.calendar == calendar);
            match known {
                Some(window) => window.limit = window.limit.min(amount),
                None => rules.windows.push(Window { kind: id.kind, calendar, limit: amount }),
            }
            return;
        }
    };
    *rate = Some(rate.map_or(amount, |limit| limit.min(amount)));
}

fn amount_text(id: LimitId, amount: u64) -> String {
    if id.kind == LimitKind::Budget { Money(amount).to_string() } else { amount.to_string() }
}
