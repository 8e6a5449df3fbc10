//! How a deployment reacts to a call: as the log says, or as the simulated one does.

use std::time::Duration;

use spillway_plugins::prices::Money;
use spillway_plugins::retry::ThrottleScope;
use spillway_plugins::tokens::Usage;

use super::call::Call;
use super::seen::Said;
use super::shadow::Shadow;
use super::world::Deployment;
use crate::balance::circuit::Failure;
use crate::balance::target::OutageReason;
use crate::clock::Tick;

/// A deployment's reaction to a call.
#[derive(Debug)]
pub(super) struct Reaction {
    pub(super) how: How,
    /// When it comes, or when the call ends; zero if that isn't known.
    pub(super) after: Duration,
    /// What it cost, although the caller did not get it.
    pub(super) used: Option<(Usage, Option<Money>)>,
}

/// What a deployment does.
#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    /// It takes the call.
    Takes {
        /// What it reserves for it.
        reserved: f64,
        /// From the call's end on, nothing is left of its limits for so long.
        exhausted: Option<Duration>,
    },
    /// 429.
    Throttled(Option<Duration>, ThrottleScope),
    /// It fails.
    Failed(Failure, Option<Duration>),
    /// It needs an operator.
    Out(OutageReason),
    /// It can't take this call.
    Passed,
    /// The caller leaves.
    Left,
}

/// The reaction of the deployment with this index.
pub(super) fn reaction(call: &mut Call, index: usize, deployment: &mut Deployment, shadow: Option<&Shadow>, now: Tick) -> Reaction {
    let arrival = call.arrives();
    if let Some(answer) = call.shadowed.answers.take(index) {
        let how = match answer.said {
            // It really took it, whatever the simulated one thinks.
            Said::Served(exhausted) => How::Takes { reserved: deployment.takes.admit(&arrival, now).unwrap_or(0.0), exhausted },
            Said::Throttled(wait, scope) => How::Throttled(wait, scope),
            Said::Failed(failure, wait) => How::Failed(failure, wait),
            Said::Out(reason) => How::Out(reason),
            Said::Passed => How::Passed,
            Said::Cancelled => How::Left,
        };
        return Reaction { how, after: answer.took, used: answer.used };
    }
    let at_once = |how: How| Reaction { how, after: Duration::ZERO, used: None };
    let scope = if deployment.is_provisioned { ThrottleScope::Deployment } else { ThrottleScope::Quota };
    if let Some(wait) = shadow.and_then(|shadow| shadow.evidence.refuses_for(index, now)) {
        return at_once(How::Throttled(Some(wait), scope));
    }
    match deployment.takes.admit(&arrival, now) {
        Ok(reserved) => at_once(How::Takes { reserved, exhausted: None }),
        Err(wait) => at_once(How::Throttled(Some(wait), scope)),
    }
}
