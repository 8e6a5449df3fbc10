//! What tokens cost: a price table in LiteLLM's JSON format, and the arithmetic.
//!
//! Source of the format: `model_prices_and_context_window.json` of BerriAI/litellm; prices are US dollars per token
//! (character, second, image). The built-in table is an extract of it (MIT licence). Without a price, the cost is
//! unknown: it is never zero.

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

use crate::tokens::Usage;

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

/// Prices per token, for prompts of some length.
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
    /// Of reasoning. Default: as other output.
    pub reasoning: Option<Money>,
}

/// The prices of one model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Price {
    /// Of tokens.
    pub tokens: TokenPrices,
    /// Of tokens, for requests whose whole input is longer than the number; ascending. Missing prices are as above.
    pub long: Vec<(u64, TokenPrices)>,
    /// Of input written to the cache for an hour. Default: as other writes.
    pub cache_write_long: Option<Money>,
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

impl Price {
    /// The cost of this usage; `None` if something was used that has no price.
    pub fn cost(&self, usage: &Usage) -> Option<Money> {
        let rates = self.rates(usage.input);
        let part = |count: u64, price: Option<Money>| if count == 0 { Some(Money::default()) } else { Some(price?.times(count)) };
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
        [
            part(text_in, input),
            part(cached - cached_audio, rates.cached_input.or(input)),
            part(cached_audio, self.cached_audio.or(rates.cached_input).or(input)),
            part(written - written_long, write),
            part(written_long, self.cache_write_long.or(write)),
            part(audio_in, self.input_audio.or(input)),
            part(image_in, self.input_image.or(input)),
            part(text_out, output),
            part(reasoning, rates.reasoning.or(output)),
            part(audio_out, self.output_audio.or(output)),
            part(image_out, self.output_image.or(output)),
            part(usage.milliseconds, self.second).map(|money| Money(money.0 / 1000)),
            part(usage.characters, self.character),
            part(usage.images, self.image),
        ]
        .into_iter()
        .sum()
    }

    /// The maximum cost of this usage, as far as prices are known: for the reservation. Usage that is counted in
    /// several units (tokens, characters, images, seconds) is billed in one of them.
    pub fn at_most(&self, usage: &Usage) -> Money {
        let rates = self.rates(usage.input);
        let highest = |prices: &[Option<Money>]| prices.iter().flatten().copied().max().unwrap_or_default();
        let tokens = highest(&[rates.input, rates.cache_write, self.cache_write_long, self.input_audio, self.input_image])
            .times(usage.input)
            + highest(&[rates.output, rates.reasoning, self.output_audio, self.output_image]).times(usage.output);
        let other = |price: Option<Money>, count: u64| price.unwrap_or_default().times(count);
        let seconds = other(self.second, usage.milliseconds.div_ceil(1000));
        [other(self.character, usage.characters), other(self.image, usage.images), seconds].into_iter().fold(tokens, Money::max)
    }

    /// The prices for a request with so much input.
    fn rates(&self, input: u64) -> TokenPrices {
        let mut rates = self.tokens;
        for (_, long) in self.long.iter().filter(|(above, _)| input > *above) {
            rates = TokenPrices {
                input: long.input.or(rates.input),
                output: long.output.or(rates.output),
                cached_input: long.cached_input.or(rates.cached_input),
                cache_write: long.cache_write.or(rates.cache_write),
                reasoning: long.reasoning.or(rates.reasoning),
            };
        }
        rates
    }
}
