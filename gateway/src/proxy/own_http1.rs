//! Runs a request on a connection of the gateway's own through the stages, as Pingora's phases do for its sessions.

use pingora::proxy::ProxyHttp as _;

use super::ctx::RequestCtx;
use super::intake_outcome::IntakeOutcome;
use super::{finish, intake, metering, retry_loop};
use crate::clock::Tick;
use crate::downstream::{Http1Session, Session};
use crate::gateway::Gateway;
use crate::request::End;

/// Serves the request whose head was read. Returns whether the connection may carry another one, and when it ended.
pub(crate) async fn serve(gateway: &Gateway, http1: &mut Http1Session) -> (bool, Tick) {
    let mut ctx: Box<RequestCtx> = gateway.new_ctx();
    let mut session = Session::Http1(http1);
    let whole = match intake::take_in(gateway, &mut session, &mut ctx).await {
        Ok(IntakeOutcome::Attempt) => {
            ctx.reply.end = retry_loop::run(gateway, &mut session, &mut ctx).await;
            !matches!(ctx.reply.end, End::CallerLeft | End::Cut)
        }
        Ok(IntakeOutcome::Answered) => true,
        // A body that is read to its end needs no tunnel, and an upgrade has another form of head.
        Ok(IntakeOutcome::Tunnel) | Err(_) => false,
    };
    metering::settle(gateway, &ctx.facts, &mut ctx.metering);
    let ended = finish::finish(gateway, &session, &mut ctx);
    (whole && http1.stays(), ended)
}
