//! `[usage]`, `[ledger]` and prices.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use http::HeaderName;
use spillway_plugins::prices::{Money, Price, PriceTable, TierPrices, TokenPrices};
use spillway_plugins::service_tier::ServiceTier;

use crate::config::checker::Checker;
use crate::config::raw::{
    RawBackend, RawDeploymentPrice, RawDurability, RawEstimate, RawLedger, RawOnDisconnect, RawPrices, RawShip, RawTierPrice, RawUsage,
};
use crate::config::{DeploymentPrice, EstimateRule, OnDisconnect, Prices, UsageRules};
use crate::config::{Durability, LedgerRules, ShipRules, ShipTo};

/// Most tag headers.
const TAGS: usize = 8;
/// Headers that contain credentials can't be tags.
const SECRET: [&str; 6] = ["authorization", "api-key", "x-api-key", "cookie", "proxy-authorization", "ocp-apim-subscription-key"];
/// Longest time that an abandoned answer may be read on.
const LONGEST_DRAIN: Duration = Duration::from_secs(600);
/// The least time that hourly sums must be kept, so that every quota can be rebuilt.
const LONGEST_PERIOD: Duration = Duration::from_secs(367 * 86_400);
/// How often hourly sums may be shipped.
const FASTEST_SHIPPING: Duration = Duration::from_secs(1);
const SLOWEST_SHIPPING: Duration = Duration::from_secs(86_400);

pub(super) fn usage(raw: Option<&RawUsage>, ledger: Option<&RawLedger>, check: &mut Checker<'_>) -> UsageRules {
    let none = RawUsage::default();
    let raw = raw.unwrap_or(&none);
    let tags = ledger.map_or(&[][..], |ledger| ledger.tags.as_slice());
    if tags.len() > TAGS {
        check.problem("ledger.tags", format!("at most {TAGS}"));
    }
    let mut names = Vec::new();
    for (at, tag) in tags.iter().enumerate() {
        match tag.to_ascii_lowercase().parse::<HeaderName>() {
            Ok(name) if !SECRET.contains(&name.as_str()) => names.push(name),
            Ok(_) => check.problem(&format!("ledger.tags[{at}]"), "contains credentials"),
            Err(_) => check.problem(&format!("ledger.tags[{at}]"), format!("'{tag}' is not a header name")),
        }
    }
    if raw.drain_timeout.is_some() && raw.on_disconnect == Some(RawOnDisconnect::Cancel) {
        check.problem("usage.drain_timeout", "has no effect with on_disconnect = \"cancel\"");
    }
    if raw.drain_timeout.is_some_and(|limit| limit.0 > LONGEST_DRAIN) {
        check.problem("usage.drain_timeout", "at most 10m: an abandoned answer uses a slot of its target");
    }
    UsageRules {
        assume_completion: raw.assume_completion.unwrap_or(1024),
        on_disconnect: match raw.on_disconnect {
            Some(RawOnDisconnect::Cancel) => OnDisconnect::Cancel,
            None | Some(RawOnDisconnect::Drain) => OnDisconnect::Drain(check.span(raw.drain_timeout, 30, "usage.drain_timeout")),
        },
        estimate: match raw.estimate {
            None | Some(RawEstimate::Exact) => EstimateRule::Exact,
            Some(RawEstimate::ByLength) => EstimateRule::ByLength,
        },
        tags: names,
    }
}

pub(super) fn ledger(raw: Option<&RawLedger>, state_dir: Option<&Path>, has_redis: bool, check: &mut Checker<'_>) -> Option<LedgerRules> {
    let Some(folder) = state_dir else {
        if raw.is_some() {
            check.problem("ledger", "needs a folder: set server.state_dir");
        }
        return None;
    };
    let none = RawLedger::default();
    let raw = raw.unwrap_or(&none);
    let hours = check.span(raw.hours_retention, 1100 * 86_400, "ledger.hours_retention");
    if hours < LONGEST_PERIOD {
        check.problem("ledger.hours_retention", "must be at least 367d, or a quota per year could not be rebuilt after a restart");
    }
    Some(LedgerRules {
        folder: folder.to_owned(),
        durability: match raw.durability {
            None | Some(RawDurability::Fast) => Durability::Fast,
            Some(RawDurability::Strict) => Durability::Strict,
        },
        required: raw.required.unwrap_or(false),
        retention: check.span(raw.retention, 90 * 86_400, "ledger.retention"),
        hours,
        may_grow: true,
        refusals: raw.refusals.unwrap_or(false),
        ship: raw.ship.as_ref().map(|raw| ship(raw, hours, has_redis, check)),
    })
}

/// `[ledger.ship]`; `hours` is how long the ledger keeps hourly sums.
fn ship(raw: &RawShip, hours: Duration, has_redis: bool, check: &mut Checker<'_>) -> ShipRules {
    let rows = raw.rows.unwrap_or(false);
    let every = check.span(raw.every, 60, "ledger.ship.every");
    if !every.is_zero() && (every < FASTEST_SHIPPING || every > SLOWEST_SHIPPING) {
        check.problem("ledger.ship.every", "must be from 1s to 1d");
    }
    let retention = check.span(raw.retention, hours.as_secs(), "ledger.ship.retention");
    if retention > hours {
        check.problem("ledger.ship.retention", "is longer than ledger.hours_retention: the ledger has nothing older");
    }
    let to = if raw.to == "redis" {
        if !has_redis {
            check.problem("ledger.ship.to", "needs a [redis] section with its url");
        }
        if rows {
            check.problem("ledger.ship.rows", "needs a folder in 'to': single attempts would fill the memory of Redis");
        }
        ShipTo::Redis
    } else {
        // Whether it is there is not checked: the share may not be mounted yet, and is tried in each round.
        if !Path::new(&raw.to).is_absolute() {
            check.problem("ledger.ship.to", format!("'{}' must be 'redis' or an absolute path to a folder", raw.to));
        }
        ShipTo::Folder(raw.to.clone().into())
    };
    ShipRules { to, rows, every, retention }
}

pub(super) fn prices(raw: Option<&RawPrices>, check: &mut Checker<'_>) -> Prices {
    let mut own = PriceTable::default();
    if let Some(file) = raw.and_then(|raw| raw.file.as_ref()) {
        match std::fs::read_to_string(file) {
            Ok(text) => match PriceTable::parse(&text) {
                Ok(table) => own = table,
                Err(error) => check.problem("prices.file", format!("{file} {error}")),
            },
            Err(error) => check.problem("prices.file", format!("can't read {file}: {error}")),
        }
    }
    let shipped = PriceTable::shipped().unwrap_or_else(|error| {
        check.problem("prices", format!("the built-in table {error}"));
        PriceTable::default()
    });
    Prices { own, shipped }
}

/// The prices of a backend's deployments that the config sets.
pub(super) fn deployments(raw: &RawBackend, key: &str, prices: &Prices, check: &mut Checker<'_>) -> BTreeMap<String, DeploymentPrice> {
    let mut found = BTreeMap::new();
    for (deployment, raw) in &raw.prices {
        found.extend(one(raw, &format!("{key}.prices.{deployment}"), prices, check).map(|price| (deployment.clone(), price)));
    }
    found
}

fn one(raw: &RawDeploymentPrice, key: &str, prices: &Prices, check: &mut Checker<'_>) -> Option<DeploymentPrice> {
    let own = RawTierPrice { input: raw.input, output: raw.output, cached_input: raw.cached_input, cache_write: raw.cache_write };
    let by_tokens = has_prices(&own);
    if [raw.table.is_some(), raw.usd_per_hour.is_some(), by_tokens].into_iter().filter(|given| *given).count() != 1 {
        check.problem(key, "give one of: 'table', 'usd_per_hour', or prices per million tokens ('input', 'output', …)");
        return None;
    }
    let tiers = [("flex", ServiceTier::Flex, &raw.flex), ("priority", ServiceTier::Priority, &raw.priority)];
    let tiers: Vec<_> = tiers.into_iter().filter_map(|(name, tier, prices)| Some((name, tier, prices.as_ref()?))).collect();
    if let Some((name, ..)) = tiers.first().filter(|_| !by_tokens) {
        check.problem(&format!("{key}.{name}"), "needs prices per million tokens beside it ('input', 'output', …)");
    }
    for (name, ..) in tiers.iter().filter(|(.., prices)| !has_prices(prices)) {
        check.problem(&format!("{key}.{name}"), "is empty: set 'input', 'output', …");
    }
    if let Some(name) = &raw.table {
        let entry = prices.entry(name).cloned().map(|price| DeploymentPrice::ByUse(Box::new(price)));
        if entry.is_none() {
            check.unknown(&format!("{key}.table"), "entry of the price table", name, prices.own.names().chain(prices.shipped.names()));
        }
        return entry;
    }
    if let Some(usd) = raw.usd_per_hour {
        return money(usd, &format!("{key}.usd_per_hour"), check).map(|money| DeploymentPrice::Hourly(Some(money)));
    }
    let tokens = by_token(&own, key, check);
    let tiers = tiers.into_iter().map(|(name, tier, prices)| TierPrices {
        tier,
        tokens: by_token(prices, &format!("{key}.{name}"), check),
        long: Vec::new(),
    });
    Some(DeploymentPrice::ByUse(Box::new(Price { tokens, tiers: tiers.collect(), ..Price::default() })))
}

fn has_prices(prices: &RawTierPrice) -> bool {
    let RawTierPrice { input, output, cached_input, cache_write } = prices;
    [input, output, cached_input, cache_write].into_iter().any(Option::is_some)
}

/// Prices per million tokens, as prices of single ones.
fn by_token(prices: &RawTierPrice, key: &str, check: &mut Checker<'_>) -> TokenPrices {
    let mut one = |name: &str, usd: Option<f64>| money(usd? / 1e6, &format!("{key}.{name}"), check);
    TokenPrices {
        input: one("input", prices.input),
        output: one("output", prices.output),
        cached_input: one("cached_input", prices.cached_input),
        cache_write: one("cache_write", prices.cache_write),
        ..TokenPrices::default()
    }
}

fn money(usd: f64, key: &str, check: &mut Checker<'_>) -> Option<Money> {
    let money = Money::from_usd(usd);
    if money.is_none() {
        check.problem(key, "must be a number that is not negative");
    }
    money
}

/// Limits that must survive a restart need a ledger.
pub(super) fn warn_of_forgetting(state_dir: Option<&Path>, lasting: bool, check: &mut Checker<'_>) {
    if state_dir.is_none() && lasting {
        check.warn("server", "token quotas and budgets start at zero after every restart: set state_dir to keep them");
    }
}
