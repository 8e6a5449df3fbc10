//! What one unit of provisioned throughput takes of each model, by Azure's documentation of 2026-11-28.

/// The least number of units of a deployment, and the step in which it grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Units {
    /// The least.
    pub least: u32,
    /// The step.
    pub step: u32,
}

/// What a model takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// The model's name, without its date.
    pub model: &'static str,
    /// Input tokens per minute that one unit takes.
    pub input_per_unit: u32,
    /// How many input tokens one output token weighs.
    pub output_ratio: f64,
    /// Units of a global deployment or one of a data zone.
    pub global: Units,
    /// Units of a regional deployment; `None` if there are none.
    pub regional: Option<Units>,
}

impl Rate {
    /// Input tokens per second that a deployment of so many units takes.
    pub fn per_second(&self, units: u32) -> f64 {
        f64::from(units) * f64::from(self.input_per_unit) / 60.0
    }
}

const fn units(least: u32, step: u32) -> Units {
    Units { least, step }
}

/// A model of OpenAI's: 15 units at least, in steps of 5; a regional one has its own `least` and `step`.
const fn openai(model: &'static str, input_per_unit: u32, output_ratio: f64, least: u32, step: u32) -> Rate {
    Rate { model, input_per_unit, output_ratio, global: units(15, 5), regional: Some(units(least, step)) }
}

const fn open_weights(model: &'static str, input_per_unit: u32, least: u32, step: u32) -> Rate {
    Rate { model, input_per_unit, output_ratio: 4.0, global: units(least, step), regional: None }
}

/// The table.
pub const RATES: &[Rate] = &[
    openai("gpt-5.6-sol", 1_200, 6.0, 50, 50),
    openai("gpt-5.5", 1_200, 6.0, 50, 50),
    openai("gpt-5.4", 2_400, 6.0, 50, 50),
    openai("gpt-5.3-codex", 3_400, 8.0, 50, 50),
    openai("gpt-5.2", 3_400, 8.0, 50, 50),
    openai("gpt-5.2-codex", 3_400, 8.0, 50, 50),
    openai("gpt-5.1", 4_750, 8.0, 50, 50),
    openai("gpt-5.1-codex", 4_750, 8.0, 50, 50),
    openai("gpt-5", 4_750, 8.0, 50, 50),
    openai("gpt-5-mini", 23_750, 8.0, 25, 25),
    openai("gpt-4.1", 3_000, 4.0, 50, 50),
    openai("o3", 3_000, 4.0, 50, 50),
    openai("gpt-4.1-mini", 14_900, 4.0, 25, 25),
    openai("gpt-4.1-nano", 59_400, 4.0, 25, 25),
    openai("gpt-4o", 2_500, 4.0, 50, 50),
    openai("o3-mini", 2_500, 4.0, 25, 25),
    openai("gpt-4o-mini", 37_000, 4.0, 25, 25),
    openai("o4-mini", 5_400, 4.0, 25, 25),
    openai("o1", 230, 4.0, 25, 50),
    open_weights("llama-3.3-70b", 8_450, 100, 100),
    open_weights("deepseek-r1", 4_000, 100, 100),
    open_weights("deepseek-v3-0324", 4_000, 100, 100),
];

/// Parts of a name that make it another model.
const OTHER_MODELS: [&str; 5] = ["mini", "nano", "pro", "codex", "chat"];

/// The rate of a model: the longest name in the table that is the model's, or all of its first parts
/// (`gpt-5.1-2025-11-13` is `gpt-5.1`; `gpt-5.1-nano` is not).
pub fn rate_of(model: &str) -> Option<&'static Rate> {
    let is_it = |rate: &&Rate| {
        let Some((head, rest)) = model.split_at_checked(rate.model.len()) else { return false };
        head.eq_ignore_ascii_case(rate.model)
            && (rest.is_empty()
                || rest.strip_prefix('-').is_some_and(|rest| {
                    let part = rest.split('-').next().unwrap_or_default();
                    !OTHER_MODELS.iter().any(|other| part.eq_ignore_ascii_case(other))
                }))
    };
    RATES.iter().filter(is_it).max_by_key(|rate| rate.model.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str) -> Option<&'static str> {
        rate_of(name).map(|rate| rate.model)
    }

    #[test]
    fn the_longest_name_of_whole_parts_wins() {
        assert_eq!(model("gpt-5.1"), Some("gpt-5.1"));
        assert_eq!(model("GPT-5.1-2025-11-13"), Some("gpt-5.1"));
        assert_eq!(model("gpt-5-mini-2025-08-07"), Some("gpt-5-mini"));
        assert_eq!(model("gpt-5.1-codex-max"), Some("gpt-5.1-codex"));
        assert_eq!(model("Llama-3.3-70B-Instruct"), Some("llama-3.3-70b"));
    }

    #[test]
    fn a_model_that_is_only_alike_has_none() {
        for name in ["", "gpt", "gpt-5.9", "gpt-50", "gpt-5-nano", "gpt-5-pro", "o3x", "größe-5", "gpt-4ö"] {
            assert_eq!(model(name), None, "{name}");
        }
    }

    #[test]
    fn the_documented_example_comes_out() {
        // 60 calls a minute of 2,000 tokens in, half of them cached, and 300 out.
        let rate = rate_of("gpt-5.1").unwrap();
        let normalised = 60.0 * (1_000.0 + rate.output_ratio * 300.0);
        let needed = normalised / f64::from(rate.input_per_unit);
        assert!((42.9..43.0).contains(&needed), "{needed}");
        assert_eq!(rate.per_second(300), 23_750.0);
    }

    #[test]
    fn each_row_can_be_bought() {
        for (index, rate) in RATES.iter().enumerate() {
            assert!(rate.input_per_unit > 0 && rate.output_ratio >= 1.0 && rate.global.least > 0 && rate.global.step > 0, "{}", rate.model);
            assert!(RATES[index + 1..].iter().all(|other| other.model != rate.model), "{} twice", rate.model);
        }
    }
}
