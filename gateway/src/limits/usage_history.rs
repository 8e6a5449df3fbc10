//! After a restart, quotas and budgets continue with the usage in the ledger.

use std::collections::HashMap;

use spillway_plugins::limits::{Kind, Period, Rank, Rules, Scope, Used};
use spillway_plugins::prices::Money;

use super::account::{consumer_name, group_name, model_name, pool_name};
use crate::config::Config;
use crate::ledger::usage::{Dimension, UsageQuery, UsageRow};
use crate::ledger::{Ledger, LedgerError};

/// The usage in the periods that were current when this process started, by scope.
#[derive(Debug, Default)]
pub struct UsageHistory(HashMap<Period, (i64, HashMap<String, Used>)>);

impl UsageHistory {
    /// Reads it from the ledger, at `now` (seconds since 1970).
    ///
    /// # Errors
    /// [`LedgerError`]
    pub fn read(ledger: &Ledger, config: &Config, now: i64) -> Result<UsageHistory, LedgerError> {
        let mut past = HashMap::new();
        for period in Period::ALL.into_iter().filter(|period| rules(config).any(|rules| counts_by(rules, *period))) {
            let start = period.at(now).start;
            let query = UsageQuery {
                since: start.saturating_mul(1000),
                until: i64::MAX >> 20,
                by: vec![Dimension::Name("consumer"), Dimension::Name("model"), Dimension::Name("pool")],
                consumer: None,
            };
            let mut used: HashMap<String, Used> = HashMap::new();
            for row in ledger.usage(&query)? {
                let tokens = u64::try_from(row.input_tokens.saturating_add(row.output_tokens)).unwrap_or(0);
                let cost = row.paid_usd.and_then(Money::from_usd).unwrap_or_default();
                for scope in scopes_of(&row, config) {
                    let sum = used.entry(scope).or_default();
                    *sum = Used { tokens: sum.tokens.saturating_add(tokens), cost: sum.cost + cost };
                }
            }
            past.insert(period, (start, used));
        }
        Ok(UsageHistory(past))
    }

    /// Adds a scope's earlier usage of these `kinds`, if its periods are still the same at `now`.
    pub(super) fn book(&self, scope: &Scope, kinds: &[Kind], now: i64) {
        for (kind, period) in [(Kind::Quota, scope.rules.quota.map(|(p, _)| p)), (Kind::Budget, scope.rules.budget.map(|(p, _)| p))] {
            let Some(period) = period.filter(|_| kinds.contains(&kind)) else { continue };
            if let Some((start, used)) = self.0.get(&period)
                && period.at(now).start == *start
                && let Some(used) = used.get(&scope.name)
            {
                scope.restore(*used, kind, now);
            }
        }
    }
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

fn counts_by(rules: &Rules, period: Period) -> bool {
    rules.quota.is_some_and(|(p, _)| p == period) || rules.budget.is_some_and(|(p, _)| p == period)
}

/// The names of the scopes that a row of a report belongs to.
fn scopes_of(row: &UsageRow, config: &Config) -> Vec<String> {
    let text = |name: &str| row.by.get(name).and_then(|value| value.as_str());
    let mut scopes = Vec::new();
    if let (Some(consumer), Some(model)) = (text("consumer"), text("model")) {
        scopes.extend([consumer_name(consumer), model_name(consumer, model)]);
        let listed = config.consumers.iter().find(|known| *known.name == *consumer);
        scopes.extend(listed.and_then(|known| config.groups.get(known.group?)).map(|group| group_name(&group.name)));
    }
    scopes.extend(text("pool").map(pool_name));
    debug_assert!(scopes.len() <= Rank::Pool as usize + 1);
    scopes
}
