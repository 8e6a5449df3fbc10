//! What a call adds to a PTU's level, in seconds of configured capacity: what is expected when it is sent, and what it
//! used. Cached tokens of the prompt weigh nothing; a token of the completion weighs as much as several of the prompt.

/// Prompts up to this length are never cached.
const CACHED_ABOVE: u64 = 1024;
/// How fast an average follows.
const FOLLOWS: f64 = 0.03;
/// Entries of a table of averages: at first, and at most; powers of two.
const ENTRIES: (usize, usize) = (16, 1024);

/// What a deployment takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    /// Input tokens per second.
    pub per_second: f64,
    /// How many input tokens one output token weighs.
    pub output_ratio: f64,
}

/// A call before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Tokens of the prompt.
    pub prompt: u64,
    /// The cap of one completion, if the call has one.
    pub cap: Option<u64>,
    /// How many completions it asks for.
    pub choices: u64,
}

/// What a call used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Tokens of the prompt, cached ones included.
    pub prompt: u64,
    /// Those of them that were cached.
    pub cached: u64,
    /// Tokens of all completions.
    pub output: u64,
}

impl Ask {
    /// The most tokens of all its completions, each with so many if it has no cap.
    fn completions(&self, without_cap: u64) -> u64 {
        self.cap.unwrap_or(without_cap).saturating_mul(self.choices.max(1))
    }

    /// The tokens of its completions that are expected: a usual one, if that is shorter than its cap.
    pub fn expected_output(&self, usual: Usual) -> f64 {
        usual.output.min(self.completions(u64::MAX) as f64)
    }
}

impl Capacity {
    /// The load that is booked for a call. `cached`: the expected share of the prompt that is cached. `assumed`: the tokens
    /// of a completion without a cap.
    pub fn booked(&self, ask: &Ask, cached: f64, assumed: u64) -> f64 {
        self.seconds(ask.prompt as f64 * (1.0 - cached.clamp(0.0, 1.0)), ask.completions(assumed) as f64)
    }

    /// The load that a call was.
    pub fn used(&self, used: &Used) -> f64 {
        self.seconds(used.prompt.saturating_sub(used.cached) as f64, used.output as f64)
    }

    /// The load that is expected of a call in the end: with a usual completion, if that is shorter than its cap.
    pub fn expected(&self, ask: &Ask, usual: Usual) -> f64 {
        self.seconds(ask.prompt as f64 * (1.0 - usual.cached), ask.expected_output(usual))
    }

    /// The loads of a call's completions: as long as its cap if it has one, and with so many tokens each if it has none.
    pub fn completions(&self, ask: &Ask, without_cap: u64) -> [f64; 2] {
        let load = self.seconds(0.0, ask.completions(without_cap) as f64);
        if ask.cap.is_some() { [load, 0.0] } else { [0.0, load] }
    }

    fn seconds(&self, input: f64, output: f64) -> f64 {
        let seconds = (input + self.output_ratio * output) / self.per_second;
        if seconds.is_finite() { seconds.max(0.0) } else { 0.0 }
    }
}

/// What is usual for calls of one kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usual {
    /// Share of the prompt that is cached.
    pub cached: f64,
    /// Tokens of the completions.
    pub output: f64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: u64,
    usual: Usual,
}

/// Averages by a key that the caller makes (consumer and model, say). Most deployments have few keys, and a gateway may have
/// many deployments, so the table is small at first and grows. It is bounded: where two keys share an entry of the largest
/// table, the later one takes it.
#[derive(Debug, Clone)]
pub struct Averages {
    entries: Vec<Option<Entry>>,
    /// Of all keys; what is expected of a new one.
    all: Usual,
}

impl Default for Averages {
    fn default() -> Self {
        Averages { entries: vec![None; ENTRIES.0], all: Usual { cached: 0.0, output: 300.0 } }
    }
}

impl Averages {
    /// What is usual for calls with this key and a prompt of this length.
    pub fn usual(&self, key: u64, prompt: u64) -> Usual {
        let entry = self.entries[index(key, self.entries.len())].filter(|entry| entry.key == key);
        let usual = entry.map_or(self.all, |entry| entry.usual);
        if prompt > CACHED_ABOVE { usual } else { Usual { cached: 0.0, ..usual } }
    }

    /// Learns from what a call used.
    pub fn learn(&mut self, key: u64, used: &Used) {
        follow(&mut self.all, used);
        if let Some(other) = self.entries[index(key, self.entries.len())].filter(|entry| entry.key != key) {
            self.grow_until_apart(key, other.key);
        }
        let place = index(key, self.entries.len());
        let entry = self.entries[place].filter(|entry| entry.key == key);
        let mut usual = entry.map_or(self.all, |entry| entry.usual);
        follow(&mut usual, used);
        self.entries[place] = Some(Entry { key, usual });
    }

    /// Grows the table until two keys have an entry each; not at all if no table is large enough for that.
    fn grow_until_apart(&mut self, key: u64, other: u64) {
        let sizes = std::iter::successors(Some(self.entries.len() * 2), |size| Some(size * 2)).take_while(|size| *size <= ENTRIES.1);
        let Some(size) = sizes.into_iter().find(|size| index(key, *size) != index(other, *size)) else { return };
        let old = std::mem::replace(&mut self.entries, vec![None; size]);
        // Keys that were apart stay apart: a larger table only looks at more bits.
        old.into_iter().flatten().for_each(|entry| self.entries[index(entry.key, size)] = Some(entry));
    }
}

fn follow(usual: &mut Usual, used: &Used) {
    if used.prompt > CACHED_ABOVE {
        let cached = (used.cached as f64 / used.prompt as f64).min(1.0);
        usual.cached += FOLLOWS * (cached - usual.cached);
    }
    usual.output += FOLLOWS * (used.output as f64 - usual.output);
}

/// The place of a key in a table of this size, a power of two.
fn index(key: u64, size: usize) -> usize {
    // The upper bits of a product depend on all bits of the key.
    (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - size.trailing_zeros())) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GPT_5_1: Capacity = Capacity { per_second: 23_750.0, output_ratio: 8.0 };

    fn is(load: f64, tokens: f64) -> bool {
        (load * GPT_5_1.per_second - tokens).abs() < 1e-6
    }

    #[test]
    fn a_load_is_what_the_documentation_counts() {
        let ask = Ask { prompt: 2_000, cap: Some(300), choices: 1 };
        assert!(is(GPT_5_1.booked(&ask, 0.5, 1_000), 1_000.0 + 2_400.0));
        assert!(is(GPT_5_1.booked(&Ask { cap: None, choices: 2, ..ask }, 0.0, 1_000), 2_000.0 + 16_000.0));
        assert!(is(GPT_5_1.used(&Used { prompt: 2_000, cached: 1_500, output: 100 }), 1_300.0));
    }

    #[test]
    fn the_cached_share_is_learned_by_key() {
        let mut averages = Averages::default();
        for _ in 0..200 {
            averages.learn(7, &Used { prompt: 10_000, cached: 9_000, output: 100 });
            averages.learn(8, &Used { prompt: 10_000, cached: 0, output: 900 });
        }
        let (seven, eight) = (averages.usual(7, 10_000), averages.usual(8, 10_000));
        assert!(seven.cached > 0.85 && seven.output < 110.0, "{seven:?}");
        assert!(eight.cached < 0.1 && eight.output > 850.0, "{eight:?}");
        assert_eq!(averages.usual(7, 1_000).cached, 0.0, "a short prompt is never cached");
        let new = averages.usual(9, 10_000);
        assert!((0.3..0.6).contains(&new.cached), "the mean of all: {new:?}");
    }

    #[test]
    fn a_table_of_averages_grows_with_its_keys_and_no_further_than_its_bound() {
        let used = |key: u64| Used { prompt: 0, cached: 0, output: key };
        let mut averages = Averages::default();
        averages.learn(1, &used(100));
        assert_eq!(averages.entries.len(), ENTRIES.0);
        for key in 1..=24 {
            (0..300).for_each(|_| averages.learn(key, &used(key)));
        }
        for key in 1..=24 {
            assert!((averages.usual(key, 0).output - key as f64).abs() < 0.5, "{key}: {averages:?}");
        }
        assert!(averages.entries.len() < ENTRIES.1, "two dozen keys don't need the largest table");
        (0..100_000).for_each(|key| averages.learn(key, &used(key)));
        assert_eq!(averages.entries.len(), ENTRIES.1);
    }

    #[test]
    fn keys_that_no_table_can_tell_apart_do_not_make_it_grow() {
        // The inverse of the factor: these keys' products differ in their lowest bits only.
        let inverse = 0xF1DE_83E1_9937_733D_u64;
        assert_eq!(inverse.wrapping_mul(0x9E37_79B9_7F4A_7C15), 1);
        let mut averages = Averages::default();
        for product in 1..100_u64 {
            averages.learn(inverse.wrapping_mul(product), &Used { prompt: 0, cached: 0, output: 1 });
        }
        assert_eq!(averages.entries.len(), ENTRIES.0);
    }

    #[test]
    fn a_call_is_expected_to_stay_below_its_cap() {
        let usual = Usual { cached: 0.0, output: 500.0 };
        let ask = Ask { prompt: 0, cap: Some(100), choices: 1 };
        assert!(is(GPT_5_1.expected(&ask, usual), 800.0));
        assert!(is(GPT_5_1.expected(&Ask { cap: None, ..ask }, usual), 4_000.0));
    }

    proptest! {
        #[test]
        fn a_load_is_a_number(prompt: u64, cap: Option<u64>, choices: u64, cached: f64, rate: f64, ratio: f64, output: u64, taken: u64) {
            let capacity = Capacity { per_second: rate, output_ratio: ratio };
            let ask = Ask { prompt, cap, choices };
            let used = Used { prompt, cached: taken, output };
            let mut averages = Averages::default();
            averages.learn(prompt, &used);
            let usual = averages.usual(prompt, u64::MAX);
            prop_assert!((0.0..=1.0).contains(&usual.cached) && usual.output.is_finite());
            for load in [capacity.booked(&ask, cached, 256), capacity.used(&used), capacity.expected(&ask, usual)] {
                prop_assert!(load.is_finite() && load >= 0.0, "{}", load);
            }
        }
    }
}
