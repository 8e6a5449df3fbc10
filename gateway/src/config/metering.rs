//! How use is counted, and what it costs.

use std::time::Duration;

use http::HeaderName;
use spillway_plugins::prices::{Money, Price, PriceTable, Traits};

use super::Backend;

/// How use is reserved and counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRules {
    /// Tokens that are reserved for a completion whose caller sets no cap.
    pub assume_completion: u64,
    /// What happens upstream when a caller leaves in the middle of its answer.
    pub on_disconnect: OnDisconnect,
    /// Headers of callers that are kept in the ledger.
    pub tags: Vec<HeaderName>,
}

/// What happens upstream when a caller leaves in the middle of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDisconnect {
    /// It is cancelled.
    Cancel,
    /// It is read on for so long, to learn what was used.
    Drain(Duration),
}

/// What a deployment costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeploymentPrice {
    /// By use.
    ByUse(Box<Price>),
    /// So much per hour, whatever is used.
    Hourly(Money),
}

/// Where prices come from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prices {
    /// The table of the config's file.
    pub own: PriceTable,
    /// The table that is built in.
    pub shipped: PriceTable,
}

impl Prices {
    /// The entry of this name.
    pub fn entry(&self, name: &str) -> Option<&Price> {
        self.own.get(name).or_else(|| self.shipped.get(name))
    }

    /// What a model costs at a backend: by what is said of its deployment there, by the table's entry for its
    /// vendor, or by the model's own.
    pub fn of(&self, backend: &Backend, model: &str) -> Option<DeploymentPrice> {
        if let Some(price) = backend.prices.get(backend.deployment(model)) {
            return Some(price.clone());
        }
        self.find(backend, model).map(|(price, _)| DeploymentPrice::ByUse(Box::new(price.clone())))
    }

    /// What else the tables say of a model at a backend.
    pub fn traits(&self, backend: &Backend, model: &str) -> Traits {
        self.find(backend, model).map_or_else(Traits::default, |(_, traits)| *traits)
    }

    fn find(&self, backend: &Backend, model: &str) -> Option<&(Price, Traits)> {
        let prefixes = backend.kind.provider().price_prefixes()?;
        let tables = [&self.own, &self.shipped];
        [model, backend.deployment(model)].into_iter().find_map(|name| tables.iter().find_map(|table| table.find(prefixes, name)))
    }
}
