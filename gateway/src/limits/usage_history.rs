//! After a restart, quotas and budgets continue with the usage in the ledger.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use spillway_plugins::limits::{Begun, Calendar, LimitKind, Rules, Scope, Used};
use spillway_plugins::prices::Money;

use crate::config::{Config, UNLISTED, consumer_name, group_name, lineage, model_name, pool_name};
use crate::ledger::usage::{Dimension, UsageQuery, UsageRow};
use crate::ledger::{Ledger, LedgerError};

/// The usage of a scope in a period.
#[derive(Debug, Clone, Copy, Default)]
struct InPeriod {
    /// Requests that were answered.
    requests: u64,
    used: Used,
}

/// The usage in the periods that were current when this process started, by scope.
#[derive(Debug, Default)]
pub struct UsageHistory(HashMap<Calendar, (i64, HashMap<String, InPeriod>)>);

impl UsageHistory {
    /// Reads it from the ledger, at `now` (seconds since 1970).
    ///
    /// # Errors
    /// [`LedgerError`]
    pub fn read(ledger: &Ledger, config: &Config, now: i64) -> Result<UsageHistory, LedgerError> {
        let mut past = HashMap::new();
        let listed = config.consumers.iter().map(|consumer| (&*consumer.name, consumer.group)).collect();
        for calendar in rules(config).flat_map(|rules| &rules.windows).map(|window| window.calendar) {
            if let Entry::Vacant(entry) = past.entry(calendar) {
                let start = calendar.at(now).start;
                entry.insert((start, since(ledger, config, &listed, start)?));
            }
        }
        Ok(UsageHistory(past))
    }

    /// Adds a scope's earlier usage of what it counts from now on, if the period is still the same at `now`.
    pub(super) fn book(&self, scope: &Scope, begun: &[Begun], now: i64) {
        for one in begun {
            let Some(calendar) = one.id.calendar else { continue };
            let Some((_, all)) = self.0.get(&calendar).filter(|(start, _)| calendar.at(now).start == *start) else { continue };
            let Some(past) = all.get(one.child.as_ref().unwrap_or(&scope.name)) else { continue };
            let amount = match one.id.kind {
                LimitKind::RequestQuota => past.requests,
                LimitKind::Quota => past.used.tokens,
                LimitKind::Budget => past.used.cost.0,
                LimitKind::Requests | LimitKind::Tokens | LimitKind::Concurrent => continue,
            };
            scope.restore(one, amount, now);
        }
    }
}

/// The listed consumers' groups.
type Listed<'c> = HashMap<&'c str, Option<usize>>;

/// The usage of all scopes since `start`.
fn since(ledger: &Ledger, config: &Config, listed: &Listed<'_>, start: i64) -> Result<HashMap<String, InPeriod>, LedgerError> {
    let query = UsageQuery {
        since: start.saturating_mul(1000),
        until: i64::MAX >> 20,
        by: vec![Dimension::Name("consumer"), Dimension::Name("model"), Dimension::Name("pool")],
        consumer: None,
    };
    let mut all: HashMap<String, InPeriod> = HashMap::new();
    for row in ledger.usage(&query)? {
        let tokens = u64::try_from(row.input_tokens.saturating_add(row.output_tokens)).unwrap_or(0);
        let requests = u64::try_from(row.requests).unwrap_or(0);
        let cost = row.paid_usd.and_then(Money::from_usd).unwrap_or_default();
        for scope in scopes_of(&row, config, listed) {
            let InPeriod { requests: before, used } = all.entry(scope).or_default();
            *before = before.saturating_add(requests);
            *used = Used { tokens: used.tokens.saturating_add(tokens), cost: used.cost + cost };
        }
    }
    Ok(all)
}

/// All rules of a config.
fn rules(config: &Config) -> impl Iterator<Item = &Rules> {
    let unlisted = config.plugins.auth.tokens.iter().flat_map(|tokens| &tokens.unlisted).map(|unlisted| &unlisted.limits);
    let consumers = config.consumers.iter().map(|consumer| &consumer.limits).chain(unlisted);
    consumers
        .flat_map(|limits| std::iter::once(&limits.rules).chain(limits.models.values()))
        .chain(config.groups.iter().map(|group| &group.rules))
        .chain(config.pools.iter().map(|pool| &pool.limits))
}

/// The names of the scopes that a row of a report belongs to.
fn scopes_of(row: &UsageRow, config: &Config, listed: &Listed<'_>) -> Vec<String> {
    let text = |name: &str| row.by.get(name).and_then(|value| value.as_str());
    let mut scopes = Vec::new();
    if let (Some(consumer), Some(model)) = (text("consumer"), text("model")) {
        scopes.extend([consumer_name(consumer), model_name(consumer, model)]);
        scopes.extend(lineage(&config.groups, group_of(consumer, config, listed)).map(|(_, group)| group_name(&group.name)));
    }
    scopes.extend(text("pool").map(pool_name));
    scopes
}

/// The group of a consumer, listed or not.
fn group_of(consumer: &str, config: &Config, listed: &Listed<'_>) -> Option<usize> {
    match listed.get(consumer) {
        Some(group) => *group,
        None if consumer.starts_with(UNLISTED) => config.plugins.auth.tokens.as_ref()?.unlisted.as_ref()?.group,
        None => None,
    }
}
