//! Answers a request with a refusal of the gateway's own.

use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::books::OwnAnswer;
use super::refusal::Refusal;
use super::{headers, own_fields, respond};
use crate::gateway::Gateway;
use crate::request::End;

/// Answers with a refusal.
pub(super) async fn refuse(gateway: &Gateway, session: &mut Session, own: OwnAnswer<'_>, refusal: &Refusal) -> pingora::Result<()> {
    let shape = refusal.shape();
    gateway.metrics.rejection(shape.code);
    own.reply.end = End::Refused(shape.code);
    own.reply.status = Some(shape.status.as_u16());
    own.timing.note_first(own.facts.arrived, gateway.clock.now());
    let complete = |head: &mut ResponseHeader| {
        headers::rate_limits(head, &refusal.remaining().unwrap_or(own.remaining));
        own_fields::describe(own.facts, own.timing, own.copies, head, None, own.attempts.made.len());
    };
    own.reply.bytes_out = respond::refuse(&mut session.downstream_session, refusal, own.facts.dialect, &own.facts.id, complete).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
