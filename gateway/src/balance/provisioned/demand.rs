//! What a deployment with provisioned throughput is configured to take, and what a request asks of it.

use std::sync::Arc;
use std::time::Duration;

use spillway_plugins::prices::{Money, Price};

use crate::balance::ptu::load::{Ask, Used, Usual};
use crate::balance::ptu::shares::{Caller, Share};
use crate::clock::Tick;

/// The provisioned throughput of a deployment, as it is configured.
#[derive(Debug, Clone, PartialEq)]
pub struct PtuConfig {
    /// Input tokens that it takes per second; `None` if that is to be learned.
    pub per_second: Option<f64>,
    /// How many input tokens an output token weighs.
    pub output_ratio: f64,
    /// How many seconds' worth of tokens it takes in a burst.
    pub depth: Duration,
    /// The share of requests that may meet a 429.
    pub refusals: f64,
    /// Who is guaranteed how much of it.
    pub shares: Arc<[Share]>,
}

/// What tokens cost at the next tier, in USD each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Elsewhere {
    /// A token of the prompt.
    pub input: f64,
    /// A cached token of the prompt.
    pub cached: f64,
    /// A token of the completion.
    pub output: f64,
}

/// What a request is expected to take of provisioned throughput.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// Its tokens.
    pub ask: Ask,
    /// Who sends it. Requests of one consumer are thought to be alike.
    pub caller: Caller,
    /// What it costs at the next tier, if known.
    pub elsewhere: Option<Elsewhere>,
    /// When its answer is needed.
    pub needed_by: Option<Tick>,
    /// How long its answer may take.
    pub takes: Duration,
    /// How long it has waited for room.
    pub waited: Duration,
    /// There is a place for it to wait.
    pub may_wait: bool,
    /// It asks for the first time: it counts as an arrival.
    pub is_new: bool,
}

impl Elsewhere {
    /// The prices of the first tier below the provisioned ones that has any. `members`: each one's tier, whether it has
    /// provisioned throughput, and what it costs by use.
    pub fn below<'p>(members: impl Iterator<Item = (u32, bool, Option<&'p Price>)> + Clone) -> Option<Elsewhere> {
        let provisioned = members.clone().filter(|(_, is_provisioned, _)| *is_provisioned).map(|(tier, ..)| tier).min()?;
        let priced = members.filter_map(|(tier, _, price)| Some((tier, price?))).filter(|(tier, _)| *tier > provisioned);
        let (_, Price { tokens, .. }) = priced.min_by_key(|(tier, _)| *tier)?;
        let usd = |money: Option<Money>| money.map(Money::usd);
        let input = usd(tokens.input)?;
        Some(Elsewhere { input, cached: usd(tokens.cached_input).unwrap_or(input), output: usd(tokens.output).unwrap_or(0.0) })
    }

    fn price(&self, input: f64, cached: f64, output: f64) -> f64 {
        input * self.input + cached * self.cached + output * self.output
    }

    /// What a request that used this would have cost, if as much of its prompt had been cached.
    pub(super) fn of_used(&self, used: &Used) -> f64 {
        let cached = used.cached.min(used.prompt);
        self.price((used.prompt - cached) as f64, cached as f64, used.output as f64)
    }

    /// What a request is expected to cost. Half of what is cached here is thought to be cached there.
    pub(super) fn of(&self, ask: &Ask, usual: Usual) -> f64 {
        let cached = ask.prompt as f64 * usual.cached / 2.0;
        self.price(ask.prompt as f64 - cached, cached, ask.expected_output(usual))
    }
}
