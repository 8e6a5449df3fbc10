//! What a deployment with provisioned throughput is configured to take, and what a request asks of it.

use std::sync::Arc;
use std::time::Duration;

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
}

impl Elsewhere {
    /// What a request that used this would have cost, if as much of its prompt had been cached.
    pub(super) fn of_used(&self, used: &Used) -> f64 {
        let cached = used.cached.min(used.prompt);
        (used.prompt - cached) as f64 * self.input + cached as f64 * self.cached + used.output as f64 * self.output
    }

    /// What a request is expected to cost. Half of what is cached here is thought to be cached there.
    pub(super) fn of(&self, ask: &Ask, usual: Usual) -> f64 {
        let cached = ask.prompt as f64 * usual.cached / 2.0;
        let most = ask.cap.unwrap_or(u64::MAX).saturating_mul(ask.choices.max(1)) as f64;
        (ask.prompt as f64 - cached) * self.input + cached * self.cached + usual.output.min(most) * self.output
    }
}
