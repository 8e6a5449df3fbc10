//! `GET /v1/usage`: a consumer's own usage, in the same form in which operators get everyone's.

use std::sync::Arc;

use crate::downstream::Session;
use http::StatusCode;

use super::intake_outcome::{IntakeError, IntakeOutcome};
use super::refusal::Refusal;
use super::respond;
use crate::gateway::Gateway;
use crate::ledger::{LedgerError, Reader, request};
use crate::request::{End, Facts, Reply, Timing};

/// Answers.
///
/// # Errors
/// 401 for callers that are not identified, 404 if there is no ledger.
pub(super) async fn answer(
    gateway: &Gateway,
    session: &mut Session<'_>,
    facts: &Facts,
    timing: &mut Timing,
    reply: &mut Reply,
) -> Result<IntakeOutcome, IntakeError> {
    let consumer = facts.consumer().ok_or(Refusal::Unauthorized)?.name.to_string();
    let ledger = Arc::clone(gateway.ledger.as_ref().ok_or(Refusal::NoUsage)?);
    let wrong = |error: LedgerError| Refusal::Report { what: error.to_string() };
    let mut query = request::query(session.req_header().uri.query().unwrap_or(""), gateway.clock.wall_millis()).map_err(wrong)?;
    // The caller gets its own usage, whatever consumer it asks for.
    query.consumer = Some(consumer.clone());
    let began = gateway.clock.now();
    let report = ledger.report(Reader::Consumer(&consumer), query).await;
    timing.waited += gateway.clock.now().since(began);
    let rows = report.map_err(|error| match error {
        LedgerError::Busy => Refusal::Overloaded { what: "reports" },
        _ => Refusal::NoLedger,
    })?;
    reply.status = Some(200);
    respond::json(session, StatusCode::OK, &request::body(&rows), &facts.id, &gateway.clock).await.map_err(|_| IntakeError::CallerLeft)?;
    reply.end = End::Complete;
    Ok(IntakeOutcome::Answered)
}

#[cfg(test)]
mod tests;
