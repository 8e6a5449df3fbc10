//! A stream broke after its first output: the very same request goes to the next member, and what its answer has beyond
//! what was sent goes to the caller. Once a request, inside its deadline; what is no repetition ends as any broken stream.

use std::sync::Arc;

use bytes::Bytes;
use http::header;
use pingora::proxy::Session;
use spillway_plugins::rescue::{Sent, Splice};
use spillway_plugins::retry::read_signal;

use super::ask::{Unasked, ask};
use super::attempt::{Attempt, Step};
use super::ctx::{End, Inquiry, RequestCtx};
use super::deliver::{self, Delivery};
use super::exchange::Exchange;
use super::progress::{Progress, pick, pick_again};
use super::replay::BufferShare;
use super::{Gateway, respond};
use crate::balance::circuit::{ErrorKind, Failure};
use crate::balance::route::Pick;
use crate::balance::target::OutageReason;

/// What was sent of a stream that may be continued, and its place in the room for bodies.
pub(super) struct Rescuable {
    sent: Sent,
    share: BufferShare,
}

impl Rescuable {
    /// Of a stream that begins; `None` if it is not to be continued.
    pub(super) fn new(gateway: &Gateway, ctx: &RequestCtx, inquiry: &Inquiry) -> Option<Self> {
        let most = inquiry.pool.config.rescue?;
        // A response that is stored has another name at each backend: what refers to it later must find it.
        let may = ctx.body.is_some()
            && !inquiry.stores
            && ctx.rescue.is_none()
            && inquiry.object.is_none()
            && !inquiry.is_pinned()
            && !inquiry.sealed;
        let sent = Sent::new(inquiry.api, most).filter(|_| may)?;
        Some(Rescuable { sent, share: BufferShare::new(&gateway.buffered) })
    }

    /// Notes what was sent; whether it can still be continued.
    pub(super) fn push(&mut self, events: &Bytes) -> bool {
        self.sent.pass(events.clone());
        self.share.covers(self.sent.size())
    }

    /// What continues it, if anything can, and its place in the room for bodies.
    pub(super) fn splice(self) -> Option<Box<(Splice, BufferShare)>> {
        Some(Box::new((Splice::new(self.sent)?, self.share)))
    }
}

/// How a request stands with being rescued.
#[derive(Default)]
pub(super) enum Rescue {
    /// Its stream broke; this continues it.
    Due(Box<(Splice, BufferShare)>),
    /// The other answer is under way.
    UnderWay,
    /// It is over, with this result.
    #[default]
    Over,
}

/// Continues a broken stream, or tells its caller that it broke.
pub(super) async fn run(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut RequestCtx,
    inquiry: &Inquiry,
    progress: &mut Progress,
    (broken, kind): (usize, ErrorKind),
) -> Step {
    let Some(Rescue::Due(mut due)) = ctx.rescue.replace(Rescue::UnderWay) else { return Step::Over(End::Cut) };
    let splice = &mut due.0;
    let delivery = match next(gateway, ctx, inquiry, progress, broken) {
        Some(pick) => attempt(gateway, session, ctx, inquiry, progress, pick, splice).await,
        None => Delivery::Cut(ErrorKind::Reset),
    };
    let (result, end) = match delivery {
        Delivery::Complete => ("ok", End::Complete),
        Delivery::CallerLeft => ("failed", End::CallerLeft),
        // What it says is not what was begun.
        Delivery::Blocked(_) => ("differs", End::Cut),
        _ => ("failed", End::Cut),
    };
    ctx.rescued = Some(result);
    ctx.rescue = Some(Rescue::Over);
    gateway.metrics.rescued(&inquiry.pool.config.name, result);
    if end == End::Cut {
        let event = respond::error_event(inquiry.api, deliver::broke(kind), "upstream_error", due.0.sequence());
        deliver::cut_off(session, ctx, event).await;
    }
    Step::Over(end)
}

/// The next member, or the very same one where nobody else is left.
fn next(gateway: &Gateway, ctx: &mut RequestCtx, inquiry: &Inquiry, progress: &mut Progress, broken: usize) -> Option<Pick> {
    let now = gateway.clock.now();
    if now >= progress.deadline || !progress.may_retry(inquiry, now) {
        return None;
    }
    match pick(inquiry, ctx, progress, now) {
        Ok(pick) => Some(pick),
        Err(_) => pick_again(inquiry, ctx, progress, broken, now),
    }
}

async fn attempt(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut RequestCtx,
    inquiry: &Inquiry,
    progress: &mut Progress,
    pick: Pick,
    splice: &mut Splice,
) -> Delivery {
    let mut attempt = Attempt::begin(gateway, ctx, inquiry, progress, pick);
    let runtime = Arc::clone(&ctx.runtime);
    let Some(upstream) = runtime.backends[inquiry.model.route.members()[attempt.running.member].backend].upstream.as_ref() else {
        attempt.finish(ctx, "connect");
        return Delivery::Cut(ErrorKind::Connect);
    };
    attempt.credentials = upstream.auth.credentials();
    let mut exchange = match ask(session, ctx, upstream, &mut attempt, progress).await {
        Ok(exchange) => exchange,
        Err(Unasked::Broken(broken)) => {
            return match attempt.broke(ctx, progress, broken) {
                Step::Over(End::CallerLeft) => Delivery::CallerLeft,
                _ => Delivery::Cut(ErrorKind::Reset),
            };
        }
        Err(Unasked::NoCredential | Unasked::Unsendable) => {
            attempt.no_credential(ctx);
            return Delivery::Cut(ErrorKind::Reset);
        }
    };
    let status = exchange.head().map_or(http::StatusCode::BAD_GATEWAY, |head| head.status);
    attempt.running.status = Some(status);
    if let Some(head) = exchange.head() {
        attempt.running.signal = read_signal(&head.headers, || gateway.clock.wall());
    }
    if !status.is_success() || !is_stream(&exchange) {
        match status.as_u16() {
            429 => attempt.throttled(ctx, progress),
            408 | 500.. => attempt.failed(ctx, progress, Failure::Status(status), "failed", false),
            // An answer was made, though not as a stream.
            200..300 => attempt.failed(ctx, progress, Failure::Status(http::StatusCode::BAD_GATEWAY), "failed", false),
            401 | 403 | 404 => attempt.out(ctx, OutageReason::Misconfigured),
            _ => {
                attempt.finish(ctx, "caller_fault");
                Step::Elsewhere
            }
        };
        return Delivery::Cut(ErrorKind::Reset);
    }
    let delivery = deliver::join(session, ctx, progress, &mut attempt, &mut exchange, splice).await;
    // Whatever it is booked as, it is the last one.
    ctx.rescue = Some(Rescue::Over);
    match &delivery {
        Delivery::Complete => {
            attempt.finish(ctx, "ok");
            exchange.release_soon(&gateway.connector).await;
        }
        Delivery::CallerLeft => {
            attempt.finish(ctx, "cancelled");
        }
        Delivery::Blocked(_) => {
            attempt.finish(ctx, "ok");
        }
        _ => {
            attempt.failed(ctx, progress, Failure::Error(ErrorKind::Reset), "reset", false);
        }
    }
    delivery
}

fn is_stream(exchange: &Exchange) -> bool {
    let Some(head) = exchange.head() else { return false };
    let is = |name: &header::HeaderName, begin: &[u8]| {
        head.headers.get(name).is_some_and(|value| value.as_bytes().to_ascii_lowercase().starts_with(begin))
    };
    is(&header::CONTENT_TYPE, b"text/event-stream")
        && (!head.headers.contains_key(header::CONTENT_ENCODING) || is(&header::CONTENT_ENCODING, b"identity"))
}
