//! The names of Azure's meters. They are free text with drifting spelling: a name is split into words, and the words that say
//! what is counted and how it is billed are looked for. What isn't recognised is reported, never guessed.

use serde::Serialize;

/// What tokens are billed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Meter {
    /// Input that is not cached; with writes to the cache, if they have no meter of their own.
    Input,
    /// Input from the provider's cache.
    CachedInput,
    /// Input written to the provider's cache.
    CacheWrite,
    /// Output.
    Output,
}

/// How something is billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BilledAs {
    /// By tokens of the default service tier.
    Default,
    /// By tokens of the tier `flex`.
    Flex,
    /// By tokens of the tier `priority`.
    Priority,
    /// By tokens of batches.
    Batch,
    /// By the hour: provisioned throughput.
    Provisioned,
}

impl BilledAs {
    /// How attempts are billed whose answers name this service tier.
    pub(super) fn of(service_tier: &str) -> Self {
        match service_tier {
            "flex" => BilledAs::Flex,
            "priority" => BilledAs::Priority,
            "batch" => BilledAs::Batch,
            _ => BilledAs::Default,
        }
    }

    /// Its name.
    pub fn label(self) -> &'static str {
        match self {
            BilledAs::Default => "default",
            BilledAs::Flex => "flex",
            BilledAs::Priority => "priority",
            BilledAs::Batch => "batch",
            BilledAs::Provisioned => "provisioned",
        }
    }
}

/// What a meter such as `gpt 4o 0806 Inp glbl Tokens`, `5.6 sol ShortCo Cd Inp PP Gl` or `Provisioned Managed Global
/// Unit` counts, and how it is billed; `None` for a meter that counts something else.
pub(super) fn meter_of(name: &str) -> Option<(BilledAs, Option<Meter>)> {
    let name = name.to_ascii_lowercase();
    let has = |parts: &[&str]| name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| parts.contains(&word));
    if has(&["provisioned"]) {
        return Some((BilledAs::Provisioned, None));
    }
    let billed_as = match () {
        () if has(&["batch"]) => BilledAs::Batch,
        () if has(&["flex", "fl"]) => BilledAs::Flex,
        () if has(&["pp", "priority"]) => BilledAs::Priority,
        () => BilledAs::Default,
    };
    // Newer names say where the model runs in place of the word "Tokens".
    if !name.contains("token") && !has(&["gl", "glbl", "global", "dz", "dzone", "zone", "regnl", "regional"]) {
        return None;
    }
    let meter = match () {
        () if has(&["cached", "cchd", "cache", "cd"]) && has(&["wr", "write"]) => Meter::CacheWrite,
        () if has(&["cached", "cchd", "cache", "cd"]) => Meter::CachedInput,
        () if has(&["inp", "input", "in", "prompt"]) => Meter::Input,
        () if has(&["outp", "output", "out", "opt", "completion"]) => Meter::Output,
        // Embeddings have input only, and their meters don't say so.
        () if has(&["embedding", "embeddings"]) => Meter::Input,
        () => return None,
    };
    Some((billed_as, Some(meter)))
}

/// The number of tokens in one unit.
pub(super) fn tokens_of(unit: &str) -> Option<f64> {
    let (number, letter) = unit.split_at(unit.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unit.len()));
    let number: f64 = if number.is_empty() { 1.0 } else { number.parse().ok()? };
    match letter.trim().split(' ').next().unwrap_or("") {
        "" | "Count" | "Tokens" => Some(number),
        "K" | "k" => Some(number * 1e3),
        "M" | "m" => Some(number * 1e6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meters_and_units_are_understood() {
        for (name, billed_as, meter) in [
            ("gpt 4o 0806 Inp glbl Tokens", BilledAs::Default, Some(Meter::Input)),
            ("gpt 4o 0806 cached Inp glbl Tokens", BilledAs::Default, Some(Meter::CachedInput)),
            ("gpt 4.1 cchd inp DZone Tokens", BilledAs::Default, Some(Meter::CachedInput)),
            ("gpt-4.1-mini Outp Data Zone Tokens", BilledAs::Default, Some(Meter::Output)),
            ("5.4 pp inp Gl 1M Tokens", BilledAs::Priority, Some(Meter::Input)),
            ("5.6 sol ShortCo Cd Inp PP Gl", BilledAs::Priority, Some(Meter::CachedInput)),
            ("5.6 sol LongCo Cd Wr Std Gl", BilledAs::Default, Some(Meter::CacheWrite)),
            ("54 mini Inp Flex Gl", BilledAs::Flex, Some(Meter::Input)),
            ("5.4 Fl Opt Dz", BilledAs::Flex, Some(Meter::Output)),
            ("5.4 mini Batch opt Dz", BilledAs::Batch, Some(Meter::Output)),
            ("5.4 mini Batch Cd Inp Gl", BilledAs::Batch, Some(Meter::CachedInput)),
            ("Text Embedding 3 Large regnl Tokens", BilledAs::Default, Some(Meter::Input)),
            ("Provisioned Managed Global Unit", BilledAs::Provisioned, None),
            ("Provisioned Managed Data Zone Unit", BilledAs::Provisioned, None),
        ] {
            assert_eq!(meter_of(name), Some((billed_as, meter)), "{name}");
        }
        for other in ["PTU Hour", "Bandwidth", "Data Transfer Out", "Image gen Gl", "gpt 4o FT Trng Tokens"] {
            assert_eq!(meter_of(other), None, "{other}");
        }
        assert_eq!([tokens_of("1K"), tokens_of("1M"), tokens_of("1000"), tokens_of("1 Hour")], [Some(1e3), Some(1e6), Some(1e3), None]);
    }
}
