//! Delivers an upstream's answer to the caller: whole or as a stream, byte for byte.
//!
//! Before the commit point (the first content byte sent to the caller), an answer that breaks is thrown away and
//! another attempt is made. After it, the caller gets an error event in its API's own format and an unfinished
//! transfer, so that a part never looks like a whole answer.

mod join;
mod plain;
mod screen;
mod screened;
mod sniff;
mod stream;
pub(super) mod tap;
mod unanswered;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, Version};
use smallvec::SmallVec;
use spillway_plugins::rescue::Continuation;
use spillway_plugins::retry::{self, Credentials};
use spillway_plugins::stream::StreamWatch;
use spillway_plugins::tokens::{Metered, Reported};

use screen::StreamScreen;
use tap::Tap;

use super::attempt::Attempt;
use super::body_pieces::{BodyPieces, joined};
use super::ctx::RequestCtx;
use super::delivery::{Delivery, ReplaceReason};
use super::exchange::{BodyEvent, Broken, Exchange};
use super::rescuable::Rescuable;
use super::retry_state::RetryState;
use super::unfinished::AnswerReader;
use super::{cached, gateway_headers, headers, logged, metering, respond, stored, transformed, usage_bound};
use crate::balance::circuit::ErrorKind;
use crate::balance::target::Outcome;
use crate::clock::{Clock, Tick};
use crate::config::OnDisconnect;
use crate::downstream::Session;
use crate::http1::answer_head::AnswerHead;
use crate::request::{Facts, Reply};

/// How long an HTTP/2 connection has to send what is queued before a stream is reset.
const BEFORE_RESET: Duration = Duration::from_millis(20);

/// Delivers an answer. `prefix` is the part of its body that was already read.
pub(super) async fn deliver(
    session: &mut Session<'_>,
    ctx: &mut RequestCtx,
    retry_state: &mut RetryState,
    attempt: &mut Attempt<'_>,
    exchange: &mut Exchange,
    prefix: SmallVec<[Bytes; 4]>,
) -> Delivery {
    let Some(head) = exchange.fields() else { return Delivery::Replace(ReplaceReason::Broken(Broken::Upstream(ErrorKind::Reset))) };
    let coded = is_coded(head);
    let status = head.status;
    let success = status.is_success();
    let json = is_of(head, b"application/json") && !coded;
    let mut stream = success && is_stream(head);
    let model_request = attempt.model_request;
    let asked = model_request.fields.stream;
    // A compressed answer is passed on as it comes, even a stream. An answer of any other type may be JSON; if it
    // isn't, no `usage` is found in it.
    let watch = (coded && (asked || is_of(head, STREAM)))
        .then(|| StreamWatch::new(model_request.api, model_request.fields.choices.unwrap_or(1), false));
    let tap = if success { Tap::of(head.get("content-encoding"), watch) } else { None };
    let sniffs = success && !coded && asked && !stream && !json;
    let heard = if prefix.is_empty() { attempt.heard } else { attempt.gateway.clock.now() };
    let mut delivery = Deliverer {
        session,
        ctx,
        retry_state,
        attempt,
        exchange,
        tap,
        hidden: None,
        screen: None,
        committed: false,
        rescuable: None,
        heard,
    };
    let mut prefix = prefix;
    if sniffs {
        match delivery.looks_like_a_stream(&mut prefix).await {
            Ok(looks) => stream = looks,
            Err(delivery) => return delivery,
        }
    }
    // Set again for each answer: an attempt that was replaced may have been of the other kind.
    delivery.ctx.reply.streamed = stream;
    if stream {
        return delivery.stream(prefix).await;
    }
    let is_object = success && !coded && model_request.object.is_none() && model_request.api.answers_with_an_object();
    let delivered = delivery.plain(prefix, json, is_object).await;
    if let Some(tap) = &mut delivery.tap
        && !delivery.ctx.metering.booked
    {
        delivery.ctx.metering.length = tap.length();
    }
    if delivered == Delivery::CallerLeft && delivery.drains() {
        delivery.ctx.unfinished.reading = delivery.tap.take().map(AnswerReader::Plain);
    }
    if delivered == Delivery::Complete && !success { Delivery::Refusal(status) } else { delivered }
}

/// The content type of an event stream.
const STREAM: &[u8] = b"text/event-stream";

/// Whether an answer has this type.
fn is_of(head: &AnswerHead, kind: &[u8]) -> bool {
    let given = head.get("content-type").map(<[u8]>::trim_ascii_start);
    given.and_then(|given| given.get(..kind.len())).is_some_and(|given| given.eq_ignore_ascii_case(kind))
}

/// Whether an answer is compressed.
fn is_coded(head: &AnswerHead) -> bool {
    head.get("content-encoding").is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity"))
}

/// Whether an answer is an event stream that can be read.
pub(super) fn is_stream(head: &AnswerHead) -> bool {
    is_of(head, STREAM) && !is_coded(head)
}

struct Deliverer<'a, 's, 'g> {
    session: &'a mut Session<'s>,
    ctx: &'a mut RequestCtx,
    retry_state: &'a mut RetryState,
    attempt: &'a mut Attempt<'g>,
    exchange: &'a mut Exchange,
    /// Reads an answer that is not a stream, or is compressed; `None` if it can't be read.
    tap: Option<Tap>,
    /// Events of a stream that its caller didn't ask for.
    hidden: Option<Bytes>,
    /// What is held back of a stream that the guard checks.
    screen: Option<Box<StreamScreen>>,
    committed: bool,
    /// What was sent, if it may be continued after a break.
    rescuable: Option<Rescuable>,
    /// Before the commit point: when the last wait for the upstream ended.
    heard: Tick,
}

/// Continues an answer that broke.
pub(super) async fn join(
    session: &mut Session<'_>,
    ctx: &mut RequestCtx,
    retry_state: &mut RetryState,
    attempt: &mut Attempt<'_>,
    exchange: &mut Exchange,
    continuation: &mut Continuation,
) -> Delivery {
    let (tap, hidden, screen, heard) = (None, None, None, attempt.state.began);
    Deliverer { session, ctx, retry_state, attempt, exchange, tap, hidden, screen, committed: true, rescuable: None, heard }
        .join(continuation)
        .await
}

/// Sends an error event to a caller whose stream broke, and leaves the transfer unfinished.
pub(super) async fn cut_off(session: &mut Session<'_>, facts: &Facts, reply: &mut Reply, event: Bytes, clock: &Clock) {
    reply.bytes_out += event.len();
    let caller = session;
    let _ = respond::send(caller, None, event, false, (facts.runtime.config.server.write_timeout, clock)).await;
    break_off(caller).await;
}

/// Breaks the connection (or the HTTP/2 stream) off, so that the transfer has no end.
async fn break_off(caller: &mut Session<'_>) {
    caller.close_after();
    if caller.is_http2() {
        // A reset drops what is still queued, including the error event: let it be sent first.
        tokio::time::sleep(BEFORE_RESET).await;
    }
    caller.shutdown().await;
}

impl<'g> Deliverer<'_, '_, 'g> {
    /// How to replace an answer in which the upstream reports an error; `None` if the caller gets it unchanged, because
    /// other targets would answer the same, or because this is not known.
    fn replacement(&self, fault: retry::Fault) -> Option<ReplaceReason> {
        match fault {
            retry::Fault::FlexUnavailable if self.attempt.asks_for_flex() => Some(ReplaceReason::FlexUnavailable),
            retry::Fault::RateLimited | retry::Fault::FlexUnavailable => Some(ReplaceReason::RateLimited),
            retry::Fault::OutOfQuota if self.attempt.credentials == Credentials::Gateway => Some(ReplaceReason::OutOfQuota),
            retry::Fault::NoDeployment => Some(ReplaceReason::NoDeployment),
            retry::Fault::Failed => Some(ReplaceReason::Failed),
            retry::Fault::OutOfQuota | retry::Fault::ContentFilter | retry::Fault::Caller | retry::Fault::Unknown => None,
        }
    }

    fn now(&self) -> Tick {
        self.attempt.gateway.clock.now()
    }

    async fn next(&mut self, until: Tick) -> Result<BodyEvent, Broken> {
        let gateway = self.attempt.gateway;
        let next =
            self.exchange.next(until.min(self.retry_state.deadline), &gateway.clock, &mut self.retry_state.timer, self.session).await;
        // What was there already took the gateway's own time.
        if !self.committed && self.exchange.has_waited() {
            let now = gateway.clock.now();
            self.ctx.timing.waited += now.since(self.heard);
            self.heard = now;
        }
        next
    }

    /// Whether the rest of an answer is read if its caller leaves now.
    fn drains(&self) -> bool {
        let begun = self.attempt.state.status.is_some_and(|status| status.is_success());
        begun && !self.ctx.metering.booked && self.ctx.facts.runtime.config.usage.on_disconnect != OnDisconnect::Cancel
    }

    /// Notes how an answer says that it was served. Returns its usage.
    fn reported(&mut self, reported: &Reported) -> Option<Metered> {
        self.ctx.metering.note_served(reported);
        reported.usage(self.attempt.model_request.api).map(Metered::reported)
    }

    /// Books the answer: its last bytes are sent next. An error costs nothing, except one of a content filter.
    async fn book(&mut self, now: Tick) {
        let state = &self.attempt.state;
        let costs = state.filtered || state.status.is_some_and(|status| status.is_success());
        if costs && let Some(safe) = metering::book_answer(self.attempt.gateway, self.ctx.books(), self.attempt.model_request, state, now) {
            safe.await;
        }
    }

    /// The commit point: sends head and first bytes in one write. From here on the body is not needed for another
    /// attempt.
    async fn commit(&mut self, held: BodyPieces, over: bool) -> Result<(), Delivery> {
        let now = self.now();
        let first = now.since(self.attempt.state.began);
        match held.as_slice() {
            [whole] if over => self.record_whole(whole),
            pieces => pieces.iter().for_each(|piece| self.record(piece)),
        }
        self.read_plain(&held, over, now).await;
        let Some(upstream) = self.exchange.fields() else {
            return Err(Delivery::Replace(ReplaceReason::Broken(Broken::Upstream(ErrorKind::Reset))));
        };
        let status = upstream.status;
        let length = held.iter().map(Bytes::len).sum::<usize>();
        let chunked = self.ctx.reply.streamed || (!over && self.exchange.content_length().is_none());
        let http_1_0 = self.session.req_header().version == Version::HTTP_10;
        // RFC 9110, 8.6: these have no length.
        let lengthless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let sent_in = match chunked {
            true if !http_1_0 => headers::Length::Chunked,
            false if over && !lengthless => headers::Length::Of(length),
            _ => headers::Length::Upstreams,
        };
        let mut head = headers::for_caller(upstream, &self.ctx.facts.id, sent_in, &self.ctx.metering.remaining);
        head.sent_at = Some(self.ctx.facts.wall_at(now).timestamp());
        if self.ctx.reply.streamed {
            headers::never_buffered(&mut head);
        }
        if status.is_success() && !self.ctx.reply.streamed && stored::may_make(self.attempt.model_request) {
            // The object's id is at the beginning.
            stored::remember(self.attempt.gateway, &self.ctx.facts, self.attempt.model_request, self.backend(), &joined(&held));
        }
        if status.is_success() {
            self.attempt.model_request.model.members[self.attempt.state.member].metrics.first_token.observe(first.as_secs_f64());
            self.attempt.record_at(Outcome::Success { first, signal: self.attempt.state.signal }, now);
        }
        self.ctx.timing.note_first(self.ctx.facts.arrived, now);
        transformed::response(&self.ctx.facts, self.attempt.model_request, &mut head);
        gateway_headers::describe(
            &self.ctx.facts,
            &self.ctx.timing,
            &self.ctx.copies,
            &mut head,
            Some(self.backend()),
            self.ctx.attempts.records.len() + 1,
        );
        if self.ctx.body.kept.as_ref().is_some_and(|body| body.bytes().len() > metering::KEPT)
            && !logged::wants_body(&self.ctx.body, &self.ctx.copies)
            && self.rescuable.is_none()
        {
            // The upper bound may still be needed.
            self.ctx.body.input_bound = Some(usage_bound::of(&self.ctx.facts, &self.ctx.body, self.attempt.model_request).input);
            self.ctx.body.kept = None;
        }
        if self.attempt.gateway.is_closing() {
            self.session.close_after();
        }
        self.ctx.reply.status = Some(status.as_u16());
        if over {
            let hidden = self.hidden.take();
            self.keep(hidden).await;
        }
        self.ctx.reply.bytes_out += length;
        self.committed = true;
        let body = if held.len() > 1 { held.concat().into() } else { held.into_iter().next().unwrap_or_default() };
        let sent = respond::send(self.session, Some(head), body, over, self.write_limit()).await;
        sent.map_err(|_| Delivery::CallerLeft)
    }

    fn backend(&self) -> &Arc<str> {
        &self.attempt.model_request.model.route.members()[self.attempt.state.member].target.id.backend
    }

    /// Copies a piece for the cache and the prompt log.
    fn record(&mut self, piece: &Bytes) {
        cached::record(&mut self.ctx.copies, piece);
        logged::record(&mut self.ctx.copies, &self.ctx.reply, piece);
    }

    /// The same, for an answer in one piece that is sent next.
    fn record_whole(&mut self, whole: &Bytes) {
        cached::record_whole(&mut self.ctx.copies, whole);
        logged::record_whole(&mut self.ctx.copies, &self.ctx.reply, whole);
    }

    /// The answer is whole and its last bytes are sent next: it may be cached.
    async fn keep(&mut self, hidden: Option<Bytes>) {
        if self.ctx.copies.cached.is_some() {
            let model_request = self.attempt.model_request;
            let whole = cached::Whole {
                facts: &self.ctx.facts,
                metering: &self.ctx.metering,
                reply: &self.ctx.reply,
                api: model_request.api,
                backend: &model_request.model.route.members()[self.attempt.state.member].target.id.backend,
            };
            cached::keep(self.attempt.gateway, whole, &mut self.ctx.copies, hidden).await;
        }
    }

    async fn write(&mut self, bytes: Bytes) -> bool {
        self.ctx.reply.bytes_out += bytes.len();
        respond::send_body(self.session, bytes, false, self.write_limit()).await.is_ok()
    }

    fn write_limit(&self) -> (Duration, &'g Clock) {
        (self.ctx.facts.runtime.config.server.write_timeout, &self.attempt.gateway.clock)
    }

    async fn finish(&mut self) -> Delivery {
        let sent = respond::send_body(self.session, Bytes::new(), true, self.write_limit()).await;
        if sent.is_ok() { Delivery::Complete } else { Delivery::CallerLeft }
    }

    /// Breaks a transfer off, so that it has no end.
    async fn cut_off(&mut self, kind: ErrorKind) -> Delivery {
        break_off(self.session).await;
        Delivery::Cut(kind)
    }
}

#[cfg(test)]
mod tests;
