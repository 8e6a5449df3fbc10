//! Checks content: prompts before a backend is asked, answers before the caller gets them.

use std::sync::Arc;

use crate::downstream::Session;
use spillway_plugins::api::Api;
use spillway_plugins::guard::Finding;

use super::intake_outcome::IntakeError;
use super::offload::on_bytes;
use super::refusal::Refusal;
use crate::gateway::Gateway;
use crate::guardrails::{Guard, Judgement};
use crate::request::{BufferShare, Facts, ModelRequest, RequestBody, Timing};

/// The guard that checks this request, if one does.
pub(super) fn guard_of(facts: &Facts) -> Option<&Guard> {
    facts.runtime.guard.as_deref().filter(|_| !facts.internal && facts.consumer().is_none_or(|consumer| consumer.guard))
}

/// A hash of the rules by which answers to this caller are checked. A cached answer is only for callers under the same
/// rules.
pub(super) fn fingerprint(facts: &Facts) -> Option<u64> {
    guard_of(facts).filter(|guard| guard.reads_answers()).map(|guard| guard.fingerprint)
}

/// Refuses content that can't be checked: sockets, uploads, and requests about stored objects.
///
/// # Errors
/// 403
pub(super) fn may_pass_unread(facts: &Facts, api: Api) -> Result<(), Refusal> {
    guard_of(facts).and_then(|guard| guard.unread(api)).map_or(Ok(()), |finding| Err(refusal(&finding)))
}

/// Checks a prompt. Stops when the caller leaves.
///
/// # Errors
/// 403 for content that is not allowed; 503 if it can't be checked and unchecked content may not pass, or if there is
/// no memory for it.
pub(super) async fn prompt(
    gateway: &Gateway,
    session: &mut Session<'_>,
    facts: &Facts,
    body: &RequestBody,
    timing: &mut Timing,
    model_request: &ModelRequest,
) -> Result<(), IntakeError> {
    let Some(body) = &body.kept else { return Ok(()) };
    let Some(guard) = guard_of(facts).and(facts.runtime.guard.as_ref()) else { return Ok(()) };
    // While a service checks the texts, they are in memory in addition to the body.
    let mut share = BufferShare::new(&gateway.buffered);
    if guard.asks() && !share.grow(body.bytes().len()) {
        return Err(Refusal::Overloaded { what: "request bodies" }.into());
    }
    let began = gateway.clock.now();
    let owner = facts.owner();
    let (api, looking) = (model_request.api, Arc::clone(guard));
    let seen = on_bytes(&gateway.turns, || facts.owner(), body.bytes(), move |body| looking.request(api, body)).await?;
    let judged = async {
        match seen {
            Err(finding) => Judgement::Blocked(finding),
            Ok(None) => Judgement::Passed,
            Ok(Some(seen)) => guard.ask(seen, &owner, &gateway.clock).await,
        }
    };
    let judgement = tokio::select! {
        biased;
        judgement = judged => judgement,
        _ = session.left() => return Err(IntakeError::CallerLeft),
    };
    timing.waited += gateway.clock.now().since(began);
    match judgement {
        Judgement::Passed | Judgement::Unchecked => Ok(()),
        Judgement::Blocked(finding) => Err(refusal(&finding).into()),
        Judgement::Unknown => Err(Refusal::ContentUnchecked.into()),
    }
}

/// The outcome in the ledger of a request that the guard stopped; `None` if it was not checked.
pub(super) fn booked_as(refusal: &Refusal) -> Option<&'static str> {
    match refusal {
        Refusal::ContentBlocked { .. } => Some("blocked"),
        Refusal::ContentUnchecked | Refusal::AnswerUnreadable => Some("unchecked"),
        _ => None,
    }
}

/// The caller's error: it names the category, never the text.
pub(super) fn refusal(finding: &Finding) -> Refusal {
    Refusal::ContentBlocked { what: finding.to_string() }
}

#[cfg(test)]
mod tests;
