//! The prices that apply to one request: by the length of its input and by its service tier.

use super::Money;
use super::price::{Price, TierPrices, TokenPrices};
use crate::service_tier::ServiceTier;

/// A price, and whether it is the tier's own; `None` if there is none.
pub(super) type Rate = Option<(Money, bool)>;

/// The prices of tokens that apply to one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    pub(super) input: Rate,
    pub(super) output: Rate,
    pub(super) cached_input: Rate,
    pub(super) cache_write: Rate,
    pub(super) cache_write_long: Rate,
    pub(super) reasoning: Rate,
    /// Whether it is the default tier.
    default: bool,
}

impl Rates {
    /// The prices for a request with so much input.
    pub(super) fn of(price: &Price, input: u64, tier: Option<ServiceTier>) -> Self {
        let other = tier.filter(|tier| *tier != ServiceTier::Default);
        let own = other.and_then(|tier| price.tiers.iter().find(|prices| prices.tier == tier));
        let rate = |field: fn(&TokenPrices) -> Option<Money>| {
            let default = by_length(&price.tokens, &price.long, input, field);
            match (other, own) {
                (None, _) => default.map(|price| (price, true)),
                (Some(_), None) => default.map(|price| (price, false)),
                (Some(_), Some(own)) => in_tier(price, own, input, field).or(default.map(|price| (price, false))),
            }
        };
        Rates {
            input: rate(|prices| prices.input),
            output: rate(|prices| prices.output),
            cached_input: rate(|prices| prices.cached_input),
            cache_write: rate(|prices| prices.cache_write),
            cache_write_long: rate(|prices| prices.cache_write_long),
            reasoning: rate(|prices| prices.reasoning),
            default: other.is_none(),
        }
    }

    /// A price that is known for the default tier only.
    pub(super) fn of_all_tiers(&self, price: Option<Money>) -> Rate {
        price.map(|price| (price, self.default))
    }
}

/// The price for so much input: that of the highest length that it exceeds.
fn by_length(tokens: &TokenPrices, long: &[(u64, TokenPrices)], input: u64, field: fn(&TokenPrices) -> Option<Money>) -> Option<Money> {
    long.iter().rev().filter(|(above, _)| input > *above).find_map(|(_, prices)| field(prices)).or_else(|| field(tokens))
}

/// A tier's own price. Where only the default tier has a price for so much input, it is that one.
fn in_tier(price: &Price, own: &TierPrices, input: u64, field: fn(&TokenPrices) -> Option<Money>) -> Rate {
    let longest = |long: &[(u64, TokenPrices)]| {
        long.iter().rev().filter(|(above, _)| input > *above).find_map(|(above, prices)| Some((*above, field(prices)?)))
    };
    match (longest(&own.long), longest(&price.long)) {
        (Some((above, found)), Some((other, _))) if above >= other => Some((found, true)),
        (_, Some((_, default))) => Some((default, false)),
        (Some((_, found)), None) => Some((found, true)),
        (None, None) => field(&own.tokens).map(|found| (found, true)),
    }
}
