//! Pingora's phases; each calls the stage that does the work.
//!
//! ```text
//! new_ctx                → ctx        a request has arrived
//! request_filter         → intake     framing, caller, call, rights, body, model, limits | refusal
//! proxy_upstream_filter  → attempts   pick → exchange → judge → deliver, looped | refusal, last resort
//! upstream_peer …        → tunnel     the same for WebSockets and large uploads
//! logging                → finish     what is still reserved, counters, access log
//! ```

mod cors;
pub mod ctx;
pub mod headers;
pub(crate) mod own_http1;
pub mod refusal;
mod request_id;
mod rescuable;
mod rescue;
pub mod respond;
mod responses_socket;
pub mod tunnel;
mod upstream_message;

mod abandoned;
mod admit;
mod answer_copy;
mod attempt;
mod attempt_state;
mod body;
mod body_pieces;
mod books;
mod cached;
mod checks;
mod copies;
mod deadline;
mod deliver;
mod delivery;
mod demand;
mod exchange;
mod failover;
mod finish;
mod finished_request;
#[cfg(test)]
mod fixtures;
mod framing;
mod gateway_headers;
mod guardrails;
mod identify;
mod intake;
mod intake_outcome;
mod last_refusal;
mod last_resort;
mod logged;
mod media;
mod metering;
mod offload;
mod output_timeout;
mod own_usage;
mod query_key;
mod refuse;
mod retry_loop;
mod retry_state;
mod send;
mod spillover;
mod stored;
mod traced;
mod transformed;
mod unfinished;
mod unpaid;
mod upstream_reply;
mod upstream_request;
mod usage_bound;

use std::os::fd::RawFd;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{BError, Error, ErrorType};

use crate::connection_phase as connection;
use crate::gateway::Gateway;
use crate::request::{End, InFlight};
use ctx::RequestCtx;
use refusal::Refusal;
use refuse::refuse;

#[async_trait]
impl ProxyHttp for Gateway {
    // On the heap: Pingora moves it several times.
    type CTX = Box<RequestCtx>;

    fn new_ctx(&self) -> Box<RequestCtx> {
        connection::request_begins();
        let in_flight = InFlight::new(&self.metrics.requests.in_flight);
        Box::new(RequestCtx::new(self.clock.now(), self.clock.wall(), self.runtime.load_full(), in_flight))
    }

    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> pingora::Result<bool> {
        Ok(intake::take_in(self, &mut session.into(), ctx).await? == intake_outcome::IntakeOutcome::Answered)
    }

    async fn proxy_upstream_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> pingora::Result<bool> {
        if ctx.tunnel.is_some() {
            return Ok(true);
        }
        ctx.reply.end = retry_loop::run(self, &mut session.into(), ctx).await;
        match ctx.reply.end {
            End::CallerLeft | End::Cut => Err(intake_outcome::already_answered()),
            End::Complete | End::Refused(_) | End::LastResort => Ok(false),
        }
    }

    async fn upstream_peer(&self, _: &mut Session, ctx: &mut Self::CTX) -> pingora::Result<Box<HttpPeer>> {
        tunnel::peer(self, ctx.tunnelled()).await
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Self::CTX,
    ) -> pingora::Result<()> {
        ctx.tunnelled().map_or(Ok(()), |tunnelled| tunnel::request(self, session, request, tunnelled))
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Self::CTX,
    ) -> pingora::Result<()> {
        match ctx.tunnelled() {
            Some(tunnelled) => tunnel::body(self, session, body, end, tunnelled).await,
            None => Ok(()),
        }
    }

    async fn upstream_response_filter(&self, _: &mut Session, head: &mut ResponseHeader, ctx: &mut Self::CTX) -> pingora::Result<()> {
        ctx.tunnelled().map_or(Ok(()), |tunnelled| tunnel::judge_head(self, head, tunnelled))
    }

    async fn response_filter(&self, session: &mut Session, head: &mut ResponseHeader, ctx: &mut Self::CTX) -> pingora::Result<()> {
        ctx.tunnelled().map_or(Ok(()), |tunnelled| tunnel::response(session, head, &tunnelled))
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Self::CTX,
    ) -> pingora::Result<Option<Duration>> {
        if let Some(tunnelled) = ctx.tunnelled() {
            tunnel::answer(self, session, body, end, tunnelled)?;
        }
        ctx.reply.bytes_out += body.as_ref().map_or(0, Bytes::len);
        Ok(None)
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        reused: bool,
        _: &HttpPeer,
        _: RawFd,
        _: Option<&Digest>,
        ctx: &mut Self::CTX,
    ) -> pingora::Result<()> {
        tunnel::connected(ctx.tunnelled(), reused);
        Ok(())
    }

    fn fail_to_connect(&self, _: &mut Session, _: &HttpPeer, ctx: &mut Self::CTX, error: BError) -> BError {
        tunnel::broke(self, ctx.tunnelled(), error, true)
    }

    fn error_while_proxy(&self, _: &HttpPeer, _: &mut Session, error: BError, ctx: &mut Self::CTX, _: bool) -> BError {
        tunnel::broke(self, ctx.tunnelled(), error, false)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Self::CTX) -> FailToProxy {
        let nothing = FailToProxy { error_code: 0, can_reuse_downstream: false };
        let downstream = *error.esource() == pingora::ErrorSource::Downstream;
        // A 100 Continue is not an answer yet.
        if session.response_written().is_some_and(|head| !head.status.is_informational() || head.status == 101) {
            // A part must not look like a whole answer.
            session.downstream_session.shutdown().await;
            return nothing;
        }
        let refusal = match error.etype() {
            ErrorType::ReadTimedout if downstream => Refusal::BodyTimeout,
            _ if downstream && body::is_broken_framing(error) => tunnel::refusal(self, ctx.tunnelled()).unwrap_or(body::BROKEN_FRAMING),
            _ if downstream => return nothing,
            _ => tunnel::refusal(self, ctx.tunnelled()).unwrap_or(Refusal::Internal),
        };
        match refuse(self, &mut session.into(), ctx.own_answer(), &refusal).await {
            Ok(()) => FailToProxy { error_code: refusal.shape().status.as_u16(), can_reuse_downstream: !refusal.closes() },
            Err(_) => nothing,
        }
    }

    fn suppress_error_log(&self, _: &Session, _: &Self::CTX, _: &Error) -> bool {
        true
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Self::CTX) {
        if let Some(tunnelled) = ctx.tunnelled() {
            tunnel::finish(self, tunnelled, error);
        }
        metering::settle(self, &ctx.facts, &mut ctx.metering);
        let _ = finish::finish(self, &session.into(), ctx);
    }
}

#[cfg(test)]
mod tests;
