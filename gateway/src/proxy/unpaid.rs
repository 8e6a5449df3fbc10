//! Records what cost nothing, for replays: attempts that were refused or failed, and requests that the gateway refused.

use std::sync::Arc;

use super::finished_request::FinishedRequest;
use super::metering;
use crate::attempt_outcome::AttemptOutcome;
use crate::clock::{Tick, micros};
use crate::gateway::Gateway;
use crate::ledger::refusals::Refusal;
use crate::ledger::row::RequestId;
use crate::request::{AttemptRecord, ModelRequest};
use spillway_plugins::retry::ThrottleScope;

/// Records them, if the ledger wants them. `input_bound`: upper bound of the tokens in its prompt, if a limit needed it.
pub(super) fn record(gateway: &Gateway, over: &FinishedRequest<'_>, input_bound: Option<u64>) {
    let Some(refusals) = gateway.ledger.as_ref().and_then(|ledger| ledger.refusals()) else { return };
    let Some(model_request) = over.model_request.filter(|asked| asked.object.is_none() && !asked.is_free()) else { return };
    for (index, attempt) in over.attempts.iter().enumerate() {
        // A served attempt is in the ledger, but not that its target has nothing left.
        let is_known = attempt.outcome == AttemptOutcome::Ok && attempt.retry_after.is_none();
        if !is_known && !attempt.stale {
            refusals.write(of_attempt(over, model_request, attempt, index, input_bound));
        }
    }
    if let Some(code) = over.reply.end.code() {
        refusals.write(of_request(over, model_request, code, input_bound));
    }
}

fn common(over: &FinishedRequest<'_>, model_request: &ModelRequest, tokens: Option<u64>) -> Refusal {
    Refusal {
        at: over.facts.arrived_at.timestamp_micros(),
        request: RequestId::from_slice(over.facts.id.as_bytes()),
        attempt: 0,
        consumer: over.facts.consumer().map(|consumer| Arc::clone(&consumer.name)),
        api: Some(model_request.api),
        class: over.facts.class(),
        model: Arc::clone(&model_request.model.name),
        backend: "".into(),
        deployment: "".into(),
        outcome: "".into(),
        owner: "".into(),
        status: Some(over.status),
        retry_after: None,
        of_deployment: false,
        tokens,
        cost: None,
        cap: metering::cap(model_request),
        waited: 0,
        began: 0,
        took: signed(micros(over.took)),
    }
}

fn of_attempt(
    over: &FinishedRequest<'_>,
    model_request: &ModelRequest,
    attempt: &AttemptRecord,
    index: usize,
    input_bound: Option<u64>,
) -> Refusal {
    let since_arrival = |at: Tick| signed(micros(at.since(over.facts.arrived)));
    Refusal {
        attempt: u32::try_from(index + 1).unwrap_or(u32::MAX),
        backend: Arc::clone(&attempt.target.id.backend),
        deployment: Arc::clone(&attempt.target.id.deployment),
        outcome: attempt.outcome.label().into(),
        status: attempt.status,
        retry_after: attempt.retry_after.map(|wait| signed(micros(wait))),
        of_deployment: attempt.scope == ThrottleScope::Deployment,
        waited: signed(micros(attempt.waited)),
        began: since_arrival(attempt.began),
        took: signed(micros(attempt.took)),
        ..common(over, model_request, input_bound)
    }
}

/// The gateway itself answered.
fn of_request(over: &FinishedRequest<'_>, model_request: &ModelRequest, code: &'static str, input_bound: Option<u64>) -> Refusal {
    let common = common(over, model_request, input_bound);
    match &over.reply.limit {
        Some(limit) => Refusal {
            outcome: limit.id.kind.label().into(),
            owner: limit.owner.as_str().into(),
            tokens: Some(limit.demand.tokens),
            cost: Some(limit.demand.cost.0),
            // When it was refused.
            began: over.timing.first.map_or(0, |first| signed(micros(first))),
            ..common
        },
        None => Refusal { outcome: code.into(), ..common },
    }
}

fn signed(micros: u64) -> i64 {
    i64::try_from(micros).unwrap_or(i64::MAX)
}
