//! Answers a request with a refusal of the gateway itself.

use super::books::OwnAnswer;
use super::refusal::Refusal;
use super::{gateway_headers, headers, respond};
use crate::downstream::{ReplyHead, Session};
use crate::gateway::Gateway;
use crate::request::{End, RefusedBy};

/// Answers with a refusal.
pub(super) async fn refuse(gateway: &Gateway, session: &mut Session<'_>, own: OwnAnswer<'_>, refusal: &Refusal) -> pingora::Result<()> {
    let shape = refusal.shape();
    gateway.metrics.requests.rejection(shape.code);
    own.reply.end = End::Refused(shape.code);
    own.reply.status = Some(shape.status.as_u16());
    if let Refusal::Limit(denied) = refusal {
        own.reply.limit = Some(Box::new(RefusedBy { owner: denied.scope.clone(), id: denied.id, demand: denied.demand }));
    }
    own.timing.note_first(own.facts.arrived, gateway.clock.now());
    let complete = |head: &mut ReplyHead| {
        headers::rate_limits(head, &refusal.remaining().unwrap_or(own.remaining));
        gateway_headers::describe(own.facts, own.timing, own.copies, head, None, own.attempts.records.len());
    };
    own.reply.bytes_out = respond::refuse(session, refusal, own.facts.dialect, &own.facts.id, &gateway.clock, complete).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
