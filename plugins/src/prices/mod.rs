//! What tokens cost: a price table in LiteLLM's JSON format, and the arithmetic.
//!
//! Source of the format: `model_prices_and_context_window.json` of BerriAI/litellm; prices are US dollars per token
//! (character, second, image). The built-in table is an extract of it (MIT licence). Without a price, the cost is
//! unknown: it is never zero.

mod rates;
mod table;

/// The cost of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// So much for this attempt.
    Known(Money),
    /// A price per hour, independent of usage; the attempt's share is known only after the hour.
    Hourly(Money),
    /// Unknown: the price or the usage is not known.
    Unknown,
}

#[cfg(test)]
mod tests;

pub use table::{PriceTable, TableError, Traits};

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

use crate::service_tier::ServiceTier;
use crate::tokens::Usage;
use rates::{Rate, Rates};

/// Money in millionths of a millionth of a US dollar: then prices of single tokens are whole numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(pub u64);

impl Money {
    /// One US dollar.
    pub const USD: Money = Money(1_000_000_000_000);

    /// An amount in US dollars; `None` unless it is a number from 0 to 18 million.
    pub fn from_usd(usd: f64) -> Option<Money> {
        let amount = (usd * Money::USD.0 as f64).round();
        (amount >= 0.0 && amount < u64::MAX as f64).then_some(Money(amount as u64))
    }

    /// In US dollars.
    pub fn usd(self) -> f64 {
        self.0 as f64 / Money::USD.0 as f64
    }

    fn times(self, count: u64) -> Money {
        Money(self.0.saturating_mul(count))
    }
}

impl Add for Money {
    type Output = Money;

    fn add(self, other: Money) -> Money {
        Money(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Money) {
        *self = *self + other;
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Money>>(amounts: I) -> Money {
        amounts.fold(Money::default(), Add::add)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${:.6}", self.usd())
    }
}

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
    /// Of input written to the cache for an hour. Default: as other writes.
    pub cache_write_long: Option<Money>,
    /// Of reasoning. Default: as other output.
    pub reasoning: Option<Money>,
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

/// What a usage costs in a service tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TierCost {
    /// The cost.
    pub money: Money,
    /// Whether all of it is priced by the tier's own prices. If not, some prices of that tier are not known, and the
    /// default tier's are used in their place.
    pub exact: bool,
}

impl Price {
    /// The cost of this usage in a service tier, or in the default one; `None` if something was used that has no price.
    pub fn cost(&self, usage: &Usage, tier: Option<ServiceTier>) -> Option<TierCost> {
        let rates = Rates::of(self, usage.input, tier);
        let (input, output) = (rates.input, rates.output);
        // Parts are contained in their wholes; wrong reports must not make the cost negative.
        let cached = usage.cached_input.min(usage.input);
        let written = usage.cache_write.min(usage.input - cached);
        let written_long = usage.cache_write_long.min(written);
        let cached_audio = usage.cached_audio.min(usage.input_audio).min(cached);
        let audio_in = (usage.input_audio.saturating_sub(cached_audio)).min(usage.input - cached - written);
        let image_in = usage.input_image.min(usage.input - cached - written - audio_in);
        let text_in = usage.input - cached - written - audio_in - image_in;
        let reasoning = usage.reasoning.min(usage.output);
        let audio_out = usage.output_audio.min(usage.output - reasoning);
        let image_out = usage.output_image.min(usage.output - reasoning - audio_out);
        let text_out = usage.output - reasoning - audio_out - image_out;
        let write = rates.cache_write.or(input);
        let other = |price: Option<Money>| rates.of_all_tiers(price);
        let parts = [
            (text_in, input),
            (cached - cached_audio, rates.cached_input.or(input)),
            (cached_audio, other(self.cached_audio).or(rates.cached_input).or(input)),
            (written - written_long, write),
            (written_long, rates.cache_write_long.or(write)),
            (audio_in, other(self.input_audio).or(input)),
            (image_in, other(self.input_image).or(input)),
            (text_out, output),
            (reasoning, rates.reasoning.or(output)),
            (audio_out, other(self.output_audio).or(output)),
            (image_out, other(self.output_image).or(output)),
            (usage.characters, other(self.character)),
            (usage.images, other(self.image)),
        ];
        let mut cost = TierCost { money: Money::default(), exact: true };
        for (count, rate) in parts.into_iter().filter(|(count, _)| *count > 0) {
            cost.add(rate?, |price| price.times(count));
        }
        if usage.milliseconds > 0 {
            cost.add(other(self.second)?, |price| Money(price.times(usage.milliseconds).0 / 1000));
        }
        Some(cost)
    }

    /// The maximum cost of this usage in a service tier, or in the default one, as far as prices are known: for the
    /// reservation. Usage that is counted in several units (tokens, characters, images, seconds) is billed in one of
    /// them.
    pub fn at_most(&self, usage: &Usage, tier: Option<ServiceTier>) -> Money {
        let rates = Rates::of(self, usage.input, tier);
        let price = |rate: Rate| rate.map(|(price, _)| price);
        let highest = |prices: &[Option<Money>]| prices.iter().flatten().copied().max().unwrap_or_default();
        let (write, write_long) = (price(rates.cache_write), price(rates.cache_write_long));
        let tokens = highest(&[price(rates.input), write, write_long, self.input_audio, self.input_image]).times(usage.input)
            + highest(&[price(rates.output), price(rates.reasoning), self.output_audio, self.output_image]).times(usage.output);
        let other = |price: Option<Money>, count: u64| price.unwrap_or_default().times(count);
        let seconds = other(self.second, usage.milliseconds.div_ceil(1000));
        [other(self.character, usage.characters), other(self.image, usage.images), seconds].into_iter().fold(tokens, Money::max)
    }
}

impl TierCost {
    fn add(&mut self, (price, exact): (Money, bool), of: impl FnOnce(Money) -> Money) {
        self.money += of(price);
        self.exact &= exact;
    }
}
