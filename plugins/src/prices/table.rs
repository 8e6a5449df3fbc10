//! The table: model names to prices.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Money, Price, TierPrices, TokenPrices};
use crate::service_tier::ServiceTier;

/// The built-in table.
const SHIPPED: &str = include_str!("prices.json");

/// How the keys of a service tier's prices end.
const TIERS: [(&str, ServiceTier); 4] = [
    ("_flex", ServiceTier::Flex),
    ("_priority", ServiceTier::Priority),
    ("_batches", ServiceTier::Batch),
    ("_ultrafast", ServiceTier::Ultrafast),
];

/// A price table can't be read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It is not JSON.
    #[error("is not valid JSON: {0}")]
    Syntax(#[from] serde_json::Error),
    /// It is not an object of objects.
    #[error("must be a JSON object with one object per model, as LiteLLM's model_prices_and_context_window.json")]
    Form,
    /// A price is not valid.
    #[error("'{model}': '{field}' must be a number that is not negative")]
    Price {
        /// The model.
        model: String,
        /// The field.
        field: String,
    },
}

/// Further facts about a model in a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traits {
    /// The most tokens that a prompt may have.
    pub context: Option<u64>,
    /// Whether it thinks before it answers.
    pub reasons: bool,
}

/// Model names to prices and further facts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PriceTable(BTreeMap<String, (Price, Traits)>);

impl PriceTable {
    /// The built-in table: the models of Azure, OpenAI and Anthropic.
    ///
    /// # Errors
    /// Never: a test parses it.
    pub fn shipped() -> Result<Self, TableError> {
        PriceTable::parse(SHIPPED)
    }

    /// Reads a table.
    ///
    /// # Errors
    /// [`TableError`]
    pub fn parse(text: &str) -> Result<Self, TableError> {
        let Value::Object(models) = serde_json::from_str(text)? else { return Err(TableError::Form) };
        let mut table = BTreeMap::new();
        for (model, entry) in models.into_iter().filter(|(model, _)| model != "sample_spec") {
            let Value::Object(fields) = entry else { return Err(TableError::Form) };
            let traits = Traits {
                context: fields.get("max_input_tokens").and_then(Value::as_u64),
                reasons: fields.get("supports_reasoning").and_then(Value::as_bool).unwrap_or(false),
            };
            table.insert(model.clone(), (price(&model, &fields)?, traits));
        }
        Ok(PriceTable(table))
    }

    /// The price of exactly this name.
    pub fn get(&self, name: &str) -> Option<&Price> {
        self.0.get(name).map(|(price, _)| price)
    }

    /// The price and the facts of a model at a vendor: under one of the vendor's prefixes (`azure/`), or under its own
    /// name.
    pub fn find(&self, prefixes: &[&str], model: &str) -> Option<&(Price, Traits)> {
        prefixes.iter().find_map(|prefix| self.0.get(&format!("{prefix}{model}"))).or_else(|| self.0.get(model))
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

fn price(model: &str, fields: &Map<String, Value>) -> Result<Price, TableError> {
    let field = |name: &str| -> Result<Option<Money>, TableError> {
        match fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64().and_then(Money::from_usd) {
                Some(money) => Ok(Some(money)),
                None => Err(TableError::Price { model: model.to_owned(), field: name.to_owned() }),
            },
        }
    };
    let tokens = |suffix: &str| -> Result<TokenPrices, TableError> {
        Ok(TokenPrices {
            input: field(&format!("input_cost_per_token{suffix}"))?,
            output: field(&format!("output_cost_per_token{suffix}"))?,
            cached_input: field(&format!("cache_read_input_token_cost{suffix}"))?,
            cache_write: field(&format!("cache_creation_input_token_cost{suffix}"))?,
            // An hour at Anthropic, twelve at OpenAI.
            cache_write_long: match field(&format!("cache_creation_input_token_cost_above_1hr{suffix}"))? {
                Some(price) => Some(price),
                None => field(&format!("cache_creation_input_token_cost_above_12hr{suffix}"))?,
            },
            reasoning: field(&format!("output_cost_per_reasoning_token{suffix}"))?,
        })
    };
    // A key is the price's name, the length that the input exceeds, and the tier; the last two only if they matter.
    let long = |tier: &str| -> Result<Vec<(u64, TokenPrices)>, TableError> {
        let mut long = Vec::new();
        for name in fields.keys() {
            let Some((_, above)) = name.strip_suffix(tier).and_then(|name| name.rsplit_once("_above_")) else { continue };
            let Some(thousands) = above.strip_suffix("k_tokens").and_then(|number| number.parse::<u64>().ok()) else { continue };
            if long.iter().all(|(known, _)| *known != thousands.saturating_mul(1000)) {
                long.push((thousands.saturating_mul(1000), tokens(&format!("_above_{above}{tier}"))?));
            }
        }
        long.sort_by_key(|(above, _)| *above);
        Ok(long)
    };
    let mut tiers = Vec::new();
    for (suffix, tier) in TIERS {
        let prices = TierPrices { tier, tokens: tokens(suffix)?, long: long(suffix)? };
        if prices.tokens != TokenPrices::default() || !prices.long.is_empty() {
            tiers.push(prices);
        }
    }
    let (own, long) = (tokens("")?, long("")?);
    // Anthropic's fast mode has the usual prices, multiplied.
    let fast = fields.get("provider_specific_entry").and_then(|entry| entry.get("fast")).and_then(Value::as_f64);
    if let Some(factor) = fast.filter(|factor| *factor > 0.0) {
        let long = long.iter().map(|(above, prices)| (*above, prices.times(factor))).collect();
        tiers.push(TierPrices { tier: ServiceTier::Ultrafast, tokens: own.times(factor), long });
    }
    Ok(Price {
        tokens: own,
        long,
        tiers,
        input_audio: field("input_cost_per_audio_token")?,
        cached_audio: field("cache_read_input_audio_token_cost")?,
        output_audio: field("output_cost_per_audio_token")?,
        input_image: field("input_cost_per_image_token")?,
        output_image: field("output_cost_per_image_token")?,
        second: field("input_cost_per_second")?,
        character: field("input_cost_per_character")?,
        image: field("output_cost_per_image")?,
    })
}
