//! The settings of a PTU in the mock's config.

use std::fmt;

use serde::de::{Error, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

use super::ptu::Ptu;
use crate::config::scalar::DurationText;

/// `ptu = 100000`, or a table.
#[derive(Debug, Clone, PartialEq)]
pub enum PtuSetting {
    /// Tokens per minute; everything else has its default.
    TokensPerMinute(u64),
    /// All settings.
    Table(PtuTable),
}

/// A PTU in words. Callers are told nothing of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PtuTable {
    /// Input tokens per minute that it is said to take.
    pub tokens_per_minute: u64,
    /// How much it takes in a burst, as the time in which that drains. Default 10s.
    pub depth: Option<DurationText>,
    /// How many input tokens one output token weighs. Default 1.
    pub output_ratio: Option<f64>,
    /// The share of a completion cap's weight that is reserved on arrival, 0 to 1. Default 1.
    pub reserve: Option<f64>,
    /// The completion tokens that are reserved for a call without a cap. Default 256.
    pub guess: Option<u64>,
    /// What it really takes, as a share of what it is said to take: 0.85 for 15 % less. Default 1.
    pub off: Option<f64>,
    /// The most that other callers ask for, as a share of what it really takes, 0 to 1; their load swings between that and
    /// nothing, once in ten minutes. Default 0.
    pub foreign: Option<f64>,
    /// Tell in a header of each answer how full it is. Azure doesn't any more. Default false.
    pub utilisation_header: Option<bool>,
}

impl<'de> Deserialize<'de> for PtuSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrTable)
    }
}

/// Reads one of the two, so that an error names the key that is wrong.
struct NumberOrTable;

impl<'de> Visitor<'de> for NumberOrTable {
    type Value = PtuSetting;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tokens per minute, or a table such as { tokens_per_minute = 100000, output_ratio = 8 }")
    }

    fn visit_i64<E: Error>(self, tokens: i64) -> Result<PtuSetting, E> {
        u64::try_from(tokens).map(PtuSetting::TokensPerMinute).map_err(|_| E::custom("ptu must not be negative"))
    }

    fn visit_u64<E: Error>(self, tokens: u64) -> Result<PtuSetting, E> {
        Ok(PtuSetting::TokensPerMinute(tokens))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PtuSetting, A::Error> {
        PtuTable::deserialize(MapAccessDeserializer::new(map)).map(PtuSetting::Table)
    }
}

impl PtuSetting {
    /// The PTU.
    pub fn ptu(&self) -> Ptu {
        match self {
            PtuSetting::TokensPerMinute(tokens) => Ptu::new(*tokens),
            PtuSetting::Table(table) => {
                let usual = Ptu::new(table.tokens_per_minute);
                Ptu {
                    tokens_per_minute: table.tokens_per_minute,
                    depth: table.depth.map_or(usual.depth, |depth| depth.0),
                    output_ratio: table.output_ratio.unwrap_or(usual.output_ratio),
                    reserve: table.reserve.unwrap_or(usual.reserve),
                    guess: table.guess.unwrap_or(usual.guess),
                    off: table.off.unwrap_or(usual.off),
                    foreign: table.foreign.unwrap_or(usual.foreign),
                    foreign_is: usual.foreign_is,
                    utilisation_header: table.utilisation_header.unwrap_or(usual.utilisation_header),
                }
            }
        }
    }

    /// Checks it.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), &'static str> {
        let ptu = self.ptu();
        let share = |share: f64| (0.0..=1.0).contains(&share);
        match () {
            () if ptu.tokens_per_minute == 0 => Err("ptu must be at least one token per minute"),
            () if ptu.depth.is_zero() => Err("ptu.depth must be more than 0"),
            () if !(1.0..=100.0).contains(&ptu.output_ratio) => Err("ptu.output_ratio must be from 1 to 100"),
            () if !share(ptu.reserve) => Err("ptu.reserve must be from 0 to 1"),
            () if !(0.01..=10.0).contains(&ptu.off) => Err("ptu.off must be from 0.01 to 10"),
            () if !share(ptu.foreign) => Err("ptu.foreign must be from 0 to 1"),
            () => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::mock::ptu::{Foreign, Ptu};
    use crate::mock::settings::Settings;

    fn ptu(text: &str) -> Result<Option<Ptu>, String> {
        Settings::parse(&format!("[default]\nptu = {text}")).map(|settings| settings.default.limits().ptu)
    }

    #[test]
    fn a_number_or_a_table() {
        assert_eq!(ptu("6000"), Ok(Some(Ptu::new(6000))));
        let all = "{ tokens_per_minute = 6000, depth = \"4s\", output_ratio = 8, reserve = 0.5, guess = 600, off = 0.85, foreign = 0.2, utilisation_header = true }";
        let expected = Ptu {
            tokens_per_minute: 6000,
            depth: Duration::from_secs(4),
            output_ratio: 8.0,
            reserve: 0.5,
            guess: 600,
            off: 0.85,
            foreign: 0.2,
            foreign_is: Foreign::Swinging,
            utilisation_header: true,
        };
        assert_eq!(ptu(all), Ok(Some(expected)));
        assert_eq!(ptu("{ tokens_per_minute = 6000 }"), Ok(Some(Ptu::new(6000))));
    }

    #[test]
    fn what_cannot_be_is_an_error() {
        for (key, value) in [("depth", "\"0s\""), ("output_ratio", "0"), ("reserve", "2"), ("off", "0"), ("foreign", "-1"), ("of", "1")] {
            let text = format!("{{ tokens_per_minute = 6000, {key} = {value} }}");
            let error = ptu(&text).unwrap_err();
            assert!(error.contains(key), "{text}: {error}");
        }
        assert!(ptu("\"many\"").unwrap_err().contains("tokens per minute, or a table"));
        assert!(ptu("-1").unwrap_err().contains("must not be negative"));
    }
}
