//! How usage is counted, and what it costs.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use serde::{Deserialize, Serialize};
use spillway_plugins::prices::{Money, Price, PriceTable, Traits};

use super::BackendConfig;

/// How usage is reserved and counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRules {
    /// Tokens that are reserved for a completion whose caller sets no maximum.
    pub assume_completion: u64,
    /// What happens to the backend's answer when its caller leaves.
    pub on_disconnect: OnDisconnect,
    /// How the usage of a whole answer that reports none is estimated.
    pub estimate: EstimateRule,
    /// Headers of callers that are stored in the ledger.
    pub tags: Vec<HeaderName>,
}

/// How the usage of a whole answer that reports none is estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EstimateRule {
    /// With a tokenizer.
    Exact,
    /// By the length of its texts.
    ByLength,
}

/// What happens to the backend's answer when its caller leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDisconnect {
    /// It is cancelled.
    Cancel,
    /// It is read on for this long, to learn its usage.
    Drain(Duration),
}

/// The price of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeploymentPrice {
    /// By usage.
    ByUse(Box<Price>),
    /// Per hour, independent of usage; `None` if the config doesn't say how much.
    Hourly(Option<Money>),
}

/// A deployment whose price per hour is divided by the shares that consumers have of it, used or not.
#[derive(Debug, Clone, PartialEq)]
pub struct PriceByShare {
    /// Its backend.
    pub backend: Arc<str>,
    /// Its name there.
    pub deployment: String,
    /// The price.
    pub per_hour: Money,
    /// Who pays which part of it. A consumer is in one of them at most.
    pub payers: Vec<Payer>,
}

/// Who pays for a share of a deployment: a consumer, or those of a group together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Payer {
    /// The share in percent.
    pub percent: f64,
    /// The consumers; never empty.
    pub consumers: Vec<String>,
}

impl DeploymentPrice {
    /// The price by usage, if it has one.
    pub fn by_use(&self) -> Option<&Price> {
        match self {
            DeploymentPrice::ByUse(price) => Some(price),
            DeploymentPrice::Hourly(_) => None,
        }
    }
}

/// The price tables.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prices {
    /// The table of `prices.file`.
    pub own: PriceTable,
    /// The built-in table.
    pub shipped: PriceTable,
}

impl Prices {
    /// The entry of this name.
    pub fn entry(&self, name: &str) -> Option<&Price> {
        self.own.get(name).or_else(|| self.shipped.get(name))
    }

    /// The price of a model at a backend: the one that the config sets for its deployment, or the table's entry for its
    /// vendor, or the model's own entry.
    pub fn of(&self, backend: &BackendConfig, model: &str) -> Option<DeploymentPrice> {
        self.of_deployment(backend, model, backend.deployment(model))
    }

    /// The price of a model at a deployment of a backend that may not be the one that the config names for it. What is
    /// provisioned is paid by the hour: the tables' prices are not for it.
    pub fn of_deployment(&self, backend: &BackendConfig, model: &str, deployment: &str) -> Option<DeploymentPrice> {
        if let Some(price) = backend.prices.get(deployment) {
            return Some(price.clone());
        }
        if backend.ptu.contains_key(deployment) {
            return Some(DeploymentPrice::Hourly(None));
        }
        self.find(backend, model, deployment).map(|(price, _)| DeploymentPrice::ByUse(Box::new(price.clone())))
    }

    /// Further facts about a model at a backend, from the tables.
    pub fn traits(&self, backend: &BackendConfig, model: &str) -> Traits {
        self.find(backend, model, backend.deployment(model)).map_or_else(Traits::default, |(_, traits)| *traits)
    }

    fn find(&self, backend: &BackendConfig, model: &str, deployment: &str) -> Option<&(Price, Traits)> {
        let prefixes = backend.kind.provider().price_prefixes()?;
        let tables = [&self.own, &self.shipped];
        [model, deployment].into_iter().find_map(|name| tables.iter().find_map(|table| table.find(prefixes, name)))
    }
}
