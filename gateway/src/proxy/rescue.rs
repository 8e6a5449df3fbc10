//! A stream broke after its first output: the very same request goes to the next member, and what its answer has beyond
//! what was sent goes to the caller. Once a request, inside its deadline; what is no repetition ends as any broken stream.

use bytes::Bytes;
use http::StatusCode;
use pingora::proxy::Session;
use spillway_plugins::rescue::{Sent, Splice};

use super::asked::{Asked, asked};
use super::attempt::{Attempt, Step};
use super::ctx::{End, Inquiry, RequestCtx};
use super::deliver::{self, Delivery};
use super::progress::{Progress, pick, pick_again};
use super::replay::BufferShare;
use super::{Gateway, attempts, respond};
use crate::balance::circuit::{ErrorKind, Failure};
use crate::balance::route::Pick;

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
pub(super) enum Rescue {
    /// Its stream broke; this continues it.
    Due(Box<(Splice, BufferShare)>),
    /// That was tried, or is.
    Tried,
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
    let Some(Rescue::Due(mut due)) = ctx.rescue.replace(Rescue::Tried) else { return Step::Over(End::Cut) };
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
    let mut exchange = match asked(session, ctx, &mut attempt, progress).await {
        Ok(Asked::Answer(exchange, _)) => match exchange.head() {
            Some(head) if head.status.is_success() && deliver::is_stream(head) => exchange,
            // An answer was made, though not as a stream.
            Some(head) if head.status.is_success() => {
                attempt.failed(ctx, progress, Failure::Status(StatusCode::BAD_GATEWAY), "failed", false);
                return Delivery::Cut(ErrorKind::Reset);
            }
            _ => {
                attempt.finish(ctx, "caller_fault");
                return Delivery::Cut(ErrorKind::Reset);
            }
        },
        unanswered => {
            return match attempts::ended(ctx, progress, attempt, unanswered) {
                Step::Over(End::CallerLeft) => Delivery::CallerLeft,
                _ => Delivery::Cut(ErrorKind::Reset),
            };
        }
    };
    let delivery = deliver::join(session, ctx, progress, &mut attempt, &mut exchange, splice).await;
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
