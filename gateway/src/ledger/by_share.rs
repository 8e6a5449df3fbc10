//! Prices per hour that are divided by shares: what each hour's rule was, and what each consumer owes by it.
//!
//! The rule of an hour is kept with it. So a later change of the config doesn't change what was owed before, and an hour in
//! which nobody used the deployment has its cost, too.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use serde::{Deserialize, Serialize};
use spillway_plugins::prices::Money;

use super::error::LedgerError;
use super::schema::mark_changed;
use crate::config::{Payer, PriceByShare};

/// The prices that are divided by shares now: the gateway sets them, the writing thread keeps them with each hour.
#[derive(Debug, Clone, Default)]
pub(super) struct PricesByShare(Arc<Mutex<Option<Arc<[PriceByShare]>>>>);

impl PricesByShare {
    pub(super) fn set(&self, prices: &[PriceByShare]) {
        let mut known = self.0.lock();
        if known.as_deref() != Some(prices) {
            *known = Some(prices.into());
        }
    }

    /// Another process keeps them from now on.
    pub(super) fn leave(&self) {
        *self.0.lock() = None;
    }

    /// The prices; `None` if they aren't to be kept here.
    pub(super) fn get(&self) -> Option<Arc<[PriceByShare]>> {
        self.0.lock().clone()
    }
}

/// How the price of a deployment in one hour is divided, as it is kept and shipped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Rule {
    pub(super) backend: String,
    pub(super) deployment: String,
    /// In millionths of a millionth of a dollar.
    hour_price: i64,
    payers: Vec<Payer>,
}

impl Rule {
    /// Whether a gateway can have kept it: shares are positive, and together no more than the whole.
    pub(super) fn is_valid(&self) -> bool {
        let percents = self.payers.iter().map(|payer| payer.percent);
        let is_whole = |payer: &Payer| payer.percent.is_finite() && payer.percent > 0.0 && !payer.consumers.is_empty();
        self.hour_price >= 0 && self.payers.iter().all(is_whole) && percents.sum::<f64>() <= 100.0 + 1e-6
    }

    /// Of different rules of several nodes, the one that has the highest price counts. What is equal otherwise has an order, too.
    pub(super) fn rank(&self) -> (i64, String) {
        (self.hour_price, serde_json::to_string(&self.payers).unwrap_or_default())
    }
}

/// A deployment in one hour: the hour since 1970, the backend, the deployment.
pub(super) type Place = (i64, String, String);

/// The price of an hour in US dollars, and who pays it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HourByShare {
    pub(super) usd: f64,
    pub(super) payers: Vec<Payer>,
}

impl HourByShare {
    /// What each consumer owes of the hour; the sum is its price. `used`: the tokens of each consumer in that hour; an empty name is
    /// no consumer. It owes what nobody has a share of if nobody without a share used the deployment.
    pub(super) fn owed(&self, used: &BTreeMap<String, i64>) -> BTreeMap<String, f64> {
        let tokens = |name: &str| used.get(name).map_or(0.0, |tokens| (*tokens).max(0) as f64);
        let mut owed: BTreeMap<String, f64> = BTreeMap::new();
        let mut owes = |name: &str, usd: f64| {
            if usd > 0.0 {
                *owed.entry(name.to_owned()).or_default() += usd;
            }
        };
        let mut left = 100.0;
        for Payer { percent, consumers } in &self.payers {
            left -= percent;
            let (usd, sum) = (self.usd * percent / 100.0, consumers.iter().map(|name| tokens(name)).sum::<f64>());
            for name in consumers {
                owes(name, usd * if sum > 0.0 { tokens(name) / sum } else { 1.0 / consumers.len() as f64 });
            }
        }
        // Less is left by rounding.
        if left > 1e-6 {
            let has_none = |name: &str| !self.payers.iter().any(|payer| payer.consumers.iter().any(|payer| payer == name));
            let others: Vec<&str> = used.keys().map(String::as_str).filter(|name| has_none(name) && tokens(name) > 0.0).collect();
            let (usd, sum) = (self.usd * left / 100.0, others.iter().map(|name| tokens(name)).sum::<f64>());
            match others.is_empty() {
                true => owes("", usd),
                false => others.iter().for_each(|name| owes(name, usd * tokens(name) / sum)),
            }
        }
        owed
    }
}

/// Keeps the rules of an hour, in place of those that were kept for it before. If they differ, the hour has changed: it is shipped
/// again.
pub(super) fn keep(connection: &mut Connection, hour: i64, prices: &[PriceByShare]) -> Result<(), LedgerError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut rules: Vec<Rule> = prices
        .iter()
        .map(|price| Rule {
            backend: price.backend.to_string(),
            deployment: price.deployment.clone(),
            hour_price: i64::try_from(price.per_hour.0).unwrap_or(i64::MAX),
            payers: price.payers.clone(),
        })
        .collect();
    rules.sort_by(|one, other| (&one.backend, &one.deployment).cmp(&(&other.backend, &other.deployment)));
    if of_hour(&transaction, hour)? == rules {
        return Ok(());
    }
    transaction.execute("DELETE FROM prices_by_share WHERE hour = ?1", [hour])?;
    rules.iter().try_for_each(|rule| insert(&transaction, hour, rule))?;
    mark_changed(&transaction, hour)?;
    Ok(transaction.commit()?)
}

/// Adds a rule of an hour.
pub(super) fn insert(connection: &Connection, hour: i64, rule: &Rule) -> Result<(), LedgerError> {
    let Rule { backend, deployment, hour_price, payers } = rule;
    let payers = serde_json::to_string(payers).map_err(|error| LedgerError::Query(error.to_string()))?;
    connection
        .execute("INSERT INTO prices_by_share VALUES (?1, ?2, ?3, ?4, ?5)", params![hour, backend, deployment, hour_price, payers])?;
    Ok(())
}

/// The rules of an hour, in order.
pub(super) fn of_hour(connection: &Connection, hour: i64) -> Result<Vec<Rule>, LedgerError> {
    Ok(rules(connection, hour, hour + 1)?.into_iter().map(|(_, rule)| rule).collect())
}

/// The rules of the hours from `since` on, before `until` (hours since 1970), in order.
fn rules(connection: &Connection, since: i64, until: i64) -> Result<Vec<(i64, Rule)>, LedgerError> {
    // A database that an earlier program has written last doesn't have it.
    let exists = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'prices_by_share'";
    if connection.query_row(exists, [], |_| Ok(())).optional()?.is_none() {
        return Ok(Vec::new());
    }
    let sql = "SELECT hour, backend, deployment, hour_price, payers FROM prices_by_share WHERE hour >= ?1 AND hour < ?2 ORDER BY 1, 2, 3";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([since, until])?;
    let mut rules = Vec::new();
    while let Some(row) = rows.next()? {
        let (hour, backend, deployment): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let payers = serde_json::from_str(&row.get::<_, String>(4)?).map_err(|error| {
            LedgerError::Query(format!("the shares of {deployment} at {backend} in hour {hour} can't be read: {error}"))
        })?;
        rules.push((hour, Rule { backend, deployment, hour_price: row.get(3)?, payers }));
    }
    Ok(rules)
}

/// The rules of the hours from `since` on, before `until` (hours since 1970), by deployment.
pub(super) fn kept(connection: &Connection, since: i64, until: i64) -> Result<BTreeMap<Place, HourByShare>, LedgerError> {
    let by_place = |(hour, rule): (i64, Rule)| {
        let usd = rule.hour_price as f64 / Money::USD.0 as f64;
        ((hour, rule.backend, rule.deployment), HourByShare { usd, payers: rule.payers })
    };
    Ok(rules(connection, since, until)?.into_iter().map(by_place).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn payer(percent: f64, names: &[&str]) -> Payer {
        Payer { percent, consumers: names.iter().map(|name| (*name).to_owned()).collect() }
    }

    fn owed(payers: &[Payer], used: &[(&str, i64)]) -> Vec<(String, f64)> {
        let used = used.iter().map(|(name, tokens)| ((*name).to_owned(), *tokens)).collect();
        let rounded = |(name, usd): (String, f64)| (name, (usd * 1e9).round() / 1e9);
        HourByShare { usd: 10.0, payers: payers.to_vec() }.owed(&used).into_iter().map(rounded).collect()
    }

    fn says(list: &[(&str, f64)]) -> Vec<(String, f64)> {
        list.iter().map(|(name, usd)| ((*name).to_owned(), *usd)).collect()
    }

    #[test]
    fn a_holder_owes_its_share_whether_it_uses_the_deployment_or_not() {
        let shares = [payer(40.0, &["crm"])];
        assert_eq!(owed(&shares, &[("crm", 900), ("x", 50), ("y", 50)]), says(&[("crm", 4.0), ("x", 3.0), ("y", 3.0)]));
        assert_eq!(owed(&shares, &[("x", 1)]), says(&[("crm", 4.0), ("x", 6.0)]));
    }

    #[test]
    fn what_nobody_has_and_nobody_used_is_owed_by_no_consumer() {
        assert_eq!(owed(&[payer(40.0, &["crm"])], &[("crm", 5)]), says(&[("", 6.0), ("crm", 4.0)]));
        assert_eq!(owed(&[payer(40.0, &["crm"])], &[]), says(&[("", 6.0), ("crm", 4.0)]));
        assert_eq!(owed(&[payer(33.3, &["a"]), payer(66.7, &["b"])], &[]), says(&[("a", 3.33), ("b", 6.67)]), "nothing is left");
    }

    #[test]
    fn a_group_divides_its_share_by_use_or_evenly_if_it_used_nothing() {
        let shares = [payer(50.0, &["a", "b"]), payer(50.0, &["c"])];
        assert_eq!(owed(&shares, &[("a", 300), ("b", 100)]), says(&[("a", 3.75), ("b", 1.25), ("c", 5.0)]));
        assert_eq!(owed(&shares, &[("a", 7)]), says(&[("a", 5.0), ("c", 5.0)]));
        assert_eq!(owed(&shares, &[]), says(&[("a", 2.5), ("b", 2.5), ("c", 5.0)]));
    }

    proptest! {
        #[test]
        fn nothing_of_an_hour_is_lost_and_nothing_is_owed_twice(
            usd in 0.0..1e4f64, percents in proptest::collection::vec(1u32..34, 0..4),
            used in proptest::collection::btree_map("[a-g]?", 0i64..1_000_000, 0..8),
        ) {
            let names = ["a", "b", "c", "d", "e", "f"];
            let payers: Vec<Payer> = percents.iter().enumerate().map(|(at, percent)| payer(f64::from(*percent) * 0.75, &names[at..=at])).collect();
            let sum: f64 = HourByShare { usd, payers }.owed(&used).values().sum();
            prop_assert!((sum - usd).abs() <= 1e-9 * usd.max(1.0), "{sum} of {usd}");
        }
    }
}
