//! What a usage costs.

use super::Money;
use super::price::Price;
use super::rates::{Rate, Rates};
use crate::service_tier::ServiceTier;
use crate::tokens::Usage;

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
