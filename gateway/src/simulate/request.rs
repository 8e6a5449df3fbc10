//! One request of the traffic.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use spillway_plugins::api::Api;
use spillway_plugins::limits::Class;
use spillway_plugins::tokens::Usage;

use super::seen::Seen;
use crate::clock::Tick;

/// How long a call takes of which only the tokens are known: this, ...
const FIRST: Duration = Duration::from_millis(500);
/// ... and this for each token of the prompt that is not cached, ...
const BY_INPUT: Duration = Duration::from_micros(50);
/// ... and this for each token of the answer.
const BY_OUTPUT: Duration = Duration::from_millis(20);

/// One request. Names are numbers in [`Names`].
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// When it arrived, in nanoseconds since 1970.
    pub at: Tick,
    /// The model that it asked for.
    pub model: u32,
    /// Who sent it, if known.
    pub consumer: Option<u32>,
    /// The operation.
    pub api: Api,
    /// Its class, if it isn't that of its consumer.
    pub class: Option<Class>,
    /// What it used.
    pub usage: Usage,
    /// The most tokens that it allowed its answers to have together.
    pub cap: Option<u64>,
    /// How long its call took, if known.
    pub took: Option<Duration>,
    /// When its answer began, from the beginning of its call, if known: then the deployment had accepted it.
    pub first: Option<Duration>,
    /// How long it may take in all, if that isn't what its consumer's config says.
    pub deadline: Option<Duration>,
    /// What really came of it, if the log says so. Only a shadow needs it.
    pub seen: Option<Arc<Seen>>,
}

impl Request {
    /// How long its call takes, at any deployment: as long as it took, or by its tokens.
    pub fn takes(&self) -> Duration {
        let by_tokens = || {
            let count = |tokens: u64| u32::try_from(tokens).unwrap_or(u32::MAX);
            let input = BY_INPUT.saturating_mul(count(self.usage.input.saturating_sub(self.usage.cached_input)));
            FIRST.saturating_add(input).saturating_add(BY_OUTPUT.saturating_mul(count(self.usage.output)))
        };
        self.took.unwrap_or_else(by_tokens)
    }
}

/// Names of models and consumers as numbers, so that a request is small.
#[derive(Debug, Default)]
pub struct Names {
    all: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
}

impl Names {
    /// The number of a name; a new one gets the next.
    pub fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        let name: Arc<str> = name.into();
        self.all.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        number
    }

    /// The name with this number.
    pub fn name(&self, number: u32) -> Arc<str> {
        self.all.get(number as usize).map_or_else(|| "".into(), Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_takes_as_long_as_it_took_or_as_its_tokens_say() {
        let usage = Usage { input: 3_000, cached_input: 1_000, output: 100, ..Usage::default() };
        let request = Request {
            at: Tick(0),
            model: 0,
            consumer: None,
            api: Api::Chat,
            class: None,
            usage,
            cap: None,
            took: None,
            first: None,
            deadline: None,
            seen: None,
        };
        assert_eq!(request.takes(), Duration::from_millis(500 + 100 + 2_000));
        assert_eq!(Request { took: Some(Duration::from_secs(7)), ..request }.takes(), Duration::from_secs(7));
    }

    #[test]
    fn a_name_keeps_its_number() {
        let mut names = Names::default();
        assert_eq!((names.number("a"), names.number("b"), names.number("a")), (0, 1, 0));
        assert_eq!(&*names.name(1), "b");
    }
}
