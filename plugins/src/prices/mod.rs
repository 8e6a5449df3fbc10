//! What tokens cost: a price table in LiteLLM's JSON format, and the arithmetic.
//!
//! Source of the format: `model_prices_and_context_window.json` of BerriAI/litellm; prices are US dollars per token
//! (character, second, image). The built-in table is an extract of it (MIT licence). Without a price, the cost is
//! unknown: it is never zero.

mod cost;
mod price;
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

pub use cost::TierCost;
pub use price::{Price, TierPrices, TokenPrices};
pub use table::{PriceTable, TableError, Traits};

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

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
