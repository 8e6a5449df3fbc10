//! Is the content allowed? Prompts are looked at before anything is asked, answers before the caller gets them.

use std::sync::Arc;

use pingora::proxy::Session;
use spillway_plugins::api::Api;
use spillway_plugins::guard::Finding;

use super::intake_outcome::IntakeError;
use super::offload::on_bytes;
use super::refusal::Refusal;
use crate::gateway::Gateway;
use crate::guard::{Guard, Judgement};
use crate::request::{BufferShare, Facts, ModelRequest, RequestBody, Timing};

/// The guard that looks at a request, if one does.
pub(super) fn guard_of(facts: &Facts) -> Option<&Guard> {
    facts.runtime.guard.as_deref().filter(|_| !facts.internal && facts.consumer().is_none_or(|consumer| consumer.guard))
}

/// By which rules answers to this caller are looked at, if they are: what is kept is for those under the same.
pub(super) fn fingerprint(facts: &Facts) -> Option<u64> {
    guard_of(facts).filter(|guard| guard.reads_answers()).map(|guard| guard.fingerprint)
}

/// Refuses what can't be looked at: sockets, uploads, and all that is about something stored.
///
/// # Errors
/// 403
pub(super) fn may_pass_unread(facts: &Facts, api: Api) -> Result<(), Refusal> {
    guard_of(facts).and_then(|guard| guard.unread(api)).map_or(Ok(()), |finding| Err(refusal(&finding)))
}

/// Looks at a prompt, for as long as its caller is there.
///
/// # Errors
/// 403 for what is not allowed; 503 if nobody can say, and then nothing may pass, or if there is no room.
pub(super) async fn prompt(
    gateway: &Gateway,
    session: &mut Session,
    facts: &Facts,
    body: &RequestBody,
    timing: &mut Timing,
    model_request: &ModelRequest,
) -> Result<(), IntakeError> {
    let Some(body) = &body.kept else { return Ok(()) };
    let Some(guard) = guard_of(facts).and(facts.runtime.guard.as_ref()) else { return Ok(()) };
    // While a service is asked, the texts are held beside the body.
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
        _ = session.downstream_session.read_body_or_idle(true) => return Err(IntakeError::CallerLeft),
    };
    timing.waited += gateway.clock.now().since(began);
    match judgement {
        Judgement::Passed | Judgement::Unchecked => Ok(()),
        Judgement::Blocked(finding) => Err(refusal(&finding).into()),
        Judgement::Unknown => Err(Refusal::ContentUnchecked.into()),
    }
}

/// The outcome of a request that was judged and doesn't pass, in the ledger; `None` if it was not judged.
pub(super) fn booked_as(refusal: &Refusal) -> Option<&'static str> {
    match refusal {
        Refusal::ContentBlocked { .. } => Some("blocked"),
        Refusal::ContentUnchecked => Some("unchecked"),
        _ => None,
    }
}

/// What a caller is told: the category, never the text.
pub(super) fn refusal(finding: &Finding) -> Refusal {
    Refusal::ContentBlocked { what: finding.to_string() }
}

#[cfg(test)]
mod tests;
