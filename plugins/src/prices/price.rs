//! The prices of a model.

use super::Money;
use crate::service_tier::ServiceTier;

/// Prices per token, for prompts of some length, in one service tier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenPrices {
    /// Of input that is not cached.
    pub input: Option<Money>,
    /// Of output.
    pub output: Option<Money>,
    /// Of input read from the provider's cache. Default: as other input.
    pub cached_input: Option<Money>,
    /// Of input written to the provider's cache. Default: as other input.
    pub cache_write: Option<Money>,
    /// Of input written to the cache for an hour or longer. Default: as other writes.
    pub cache_write_long: Option<Money>,
    /// Of reasoning. Default: as other output.
    pub reasoning: Option<Money>,
}

impl TokenPrices {
    /// These prices, multiplied.
    pub(super) fn times(&self, factor: f64) -> Self {
        let times = |price: Option<Money>| price.and_then(|price| Money::from_usd(price.usd() * factor));
        TokenPrices {
            input: times(self.input),
            output: times(self.output),
            cached_input: times(self.cached_input),
            cache_write: times(self.cache_write),
            cache_write_long: times(self.cache_write_long),
            reasoning: times(self.reasoning),
        }
    }
}

/// The prices of one service tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierPrices {
    /// The tier.
    pub tier: ServiceTier,
    /// Of tokens.
    pub tokens: TokenPrices,
    /// Of tokens, for requests whose whole input is longer than the number; ascending.
    pub long: Vec<(u64, TokenPrices)>,
}

/// The prices of one model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Price {
    /// Of tokens.
    pub tokens: TokenPrices,
    /// Of tokens, for requests whose whole input is longer than the number; ascending. Missing prices are as above.
    pub long: Vec<(u64, TokenPrices)>,
    /// Of tokens in other service tiers than the default one. Missing prices are those of the default tier.
    pub tiers: Vec<TierPrices>,
    /// Of audio input. Default: as other input.
    pub input_audio: Option<Money>,
    /// Of audio input read from the provider's cache. Default: as other cached input.
    pub cached_audio: Option<Money>,
    /// Of audio output. Default: as other output.
    pub output_audio: Option<Money>,
    /// Of image input. Default: as other input.
    pub input_image: Option<Money>,
    /// Of image output. Default: as other output.
    pub output_image: Option<Money>,
    /// Of a second of audio.
    pub second: Option<Money>,
    /// Of a character to be spoken.
    pub character: Option<Money>,
    /// Of an image, if tokens aren't counted.
    pub image: Option<Money>,
}
