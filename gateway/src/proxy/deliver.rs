//! Hands an upstream's answer to the caller: whole or as a stream, byte for byte.
//!
//! Before the commit point (the first content byte sent to the caller) an answer that breaks is
//! thrown away and the attempt replaced. After it, the caller gets an error event in its API's own
//! shape and an unfinished transfer, so that a part never looks like the whole.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, Version, header};
use pingora::protocols::http::HttpTask;
use pingora::proxy::Session;
use smallvec::SmallVec;
use spillway_plugins::json::Reader;
use spillway_plugins::retry::{self, Credentials};
use spillway_plugins::stream::StreamWatch;
use spillway_plugins::tokens::{Metered, Reported, UsageTail, read_end};

use super::attempt::Attempt;
use super::ctx::RequestCtx;
use super::drain::Reading;
use super::exchange::{Broken, Exchange, Next};
use super::progress::Progress;
use super::{headers, metering, respond, stored};
use crate::balance::circuit::ErrorKind;
use crate::balance::target::Outcome;
use crate::clock::Tick;
use crate::config::OnDisconnect;

/// What came of handing an answer over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The caller has all of it.
    Complete,
    /// The caller has all of an answer that is no success.
    Refusal(StatusCode),
    /// Nothing reached the caller: another target can take over.
    Replace(Fault),
    /// It broke after the commit point; the caller was told.
    Cut(ErrorKind),
    /// The caller is gone.
    CallerLeft,
}

/// Why an answer must be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    RateLimited,
    OutOfQuota,
    NoDeployment,
    Failed,
    Broken(Broken),
}

/// Most of a plain answer that is held until it is whole, so that a cut one can be replaced.
const HOLD_PLAIN: usize = 256 * 1024;
/// Most of a stream that is held until its first output.
const HOLD_STREAM: usize = 256 * 1024;
/// Silence after which a comment keeps the caller's side alive.
const COMMENT_AFTER: Duration = Duration::from_secs(15);
/// How long a stream whose answer is complete may take to say so.
const LINGER: Duration = Duration::from_secs(2);

/// How long an HTTP/2 connection gets to send what is queued before a stream is reset.
const BEFORE_RESET: Duration = Duration::from_millis(20);

/// Hands an answer over. `prefix` is what was read of its body already.
pub(super) async fn deliver(
    session: &mut Session,
    ctx: &mut RequestCtx,
    progress: &mut Progress,
    attempt: &mut Attempt<'_>,
    exchange: &mut Exchange,
    prefix: SmallVec<[Bytes; 4]>,
) -> Delivery {
    let Some(head) = exchange.head() else { return Delivery::Replace(Fault::Broken(Broken::Upstream(ErrorKind::Reset))) };
    let is = |kind: &[u8]| {
        head.headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().trim_ascii_start().to_ascii_lowercase().starts_with(kind))
    };
    let readable = !head.headers.contains_key(header::CONTENT_ENCODING);
    let status = head.status;
    let success = status.is_success();
    let json = is(b"application/json") && readable;
    let stream = success && readable && is(b"text/event-stream");
    let mut delivery =
        Deliverer { session, ctx, progress, attempt, exchange, tail: (success && json).then(UsageTail::default), committed: false };
    if stream {
        delivery.ctx.streamed = true;
        return delivery.stream().await;
    }
    let delivered = delivery.plain(prefix, json).await;
    if delivered == Delivery::CallerLeft && delivery.drains() {
        delivery.ctx.reading = delivery.tail.take().map(Reading::Plain);
    }
    if delivered == Delivery::Complete && !success { Delivery::Refusal(status) } else { delivered }
}

struct Deliverer<'a, 'g> {
    session: &'a mut Session,
    ctx: &'a mut RequestCtx,
    progress: &'a mut Progress,
    attempt: &'a mut Attempt<'g>,
    exchange: &'a mut Exchange,
    /// The end of a plain answer, where its usage stands.
    tail: Option<UsageTail>,
    committed: bool,
}

type Held = SmallVec<[Bytes; 4]>;

impl Deliverer<'_, '_> {
    fn now(&self) -> Tick {
        self.attempt.gateway.clock.now()
    }

    async fn next(&mut self, until: Tick) -> Result<Next, Broken> {
        let gateway = self.attempt.gateway;
        let began = gateway.clock.now();
        let next = self
            .exchange
            .next(until.min(self.progress.deadline), &gateway.clock, &mut self.progress.timer, &mut self.session.downstream_session)
            .await;
        if !self.committed {
            self.ctx.waited += gateway.clock.now().since(began);
        }
        next
    }

    /// JSON is held until it is whole, as far as that is small.
    async fn plain(&mut self, mut held: Held, json: bool) -> Delivery {
        let idle = self.attempt.inquiry.pool.config.timeouts.idle;
        let mut length: usize = held.iter().map(Bytes::len).sum();
        loop {
            let until = self.now() + idle;
            match self.next(until).await {
                Ok(Next::Data(bytes)) => {
                    length += bytes.len();
                    held.push(bytes);
                    let hold = json && length <= HOLD_PLAIN && self.exchange.content_length().is_none_or(|whole| whole <= HOLD_PLAIN);
                    if !hold {
                        break;
                    }
                }
                Ok(Next::End) if self.exchange.ends_with_connection() && json && !is_json(&held) => {
                    return Delivery::Replace(Fault::Broken(Broken::Upstream(ErrorKind::Reset)));
                }
                Ok(Next::End) => return self.commit(held, true).await.err().unwrap_or(Delivery::Complete),
                Ok(Next::Quiet) => return Delivery::Replace(Fault::Broken(Broken::Upstream(ErrorKind::Idle))),
                Err(Broken::CallerLeft) => return Delivery::CallerLeft,
                Err(broken) => return Delivery::Replace(Fault::Broken(broken)),
            }
        }
        // With a length told, the last byte is the end: it must not go before the answer is booked.
        let whole = self.exchange.content_length();
        let mut sent = length;
        if whole == Some(sent) {
            self.read_plain(&held, true).await;
        }
        if let Err(delivery) = self.commit(held, false).await {
            return delivery;
        }
        loop {
            let until = self.now() + idle;
            match self.next(until).await {
                // Data that is there already never lets the timer speak.
                Ok(Next::Data(_)) if self.now() >= self.progress.deadline => return self.cut_off(ErrorKind::Idle).await,
                Ok(Next::Data(bytes)) => {
                    if let Some(tail) = &mut self.tail {
                        tail.push(&bytes);
                    }
                    sent += bytes.len();
                    if whole == Some(sent) {
                        self.book_plain().await;
                    }
                    if !self.write(bytes).await {
                        return Delivery::CallerLeft;
                    }
                }
                Ok(Next::End) => {
                    self.book_plain().await;
                    return self.finish().await;
                }
                Ok(Next::Quiet) => return self.cut_off(ErrorKind::Idle).await,
                Err(Broken::CallerLeft) => return Delivery::CallerLeft,
                Err(_) => return self.cut_off(ErrorKind::Reset).await,
            }
        }
    }

    /// Books a plain answer that has come to its end, by what its last part tells.
    async fn book_plain(&mut self) {
        if !self.ctx.booked {
            self.ctx.usage = self.tail.as_ref().and_then(|tail| self.reported(&tail.read()));
            self.book().await;
        }
    }

    /// Whether an answer is read on when its caller leaves now.
    fn drains(&self) -> bool {
        self.committed && !self.ctx.booked && self.attempt.gateway.usage.on_disconnect != OnDisconnect::Cancel
    }

    fn reported(&self, reported: &Reported) -> Option<Metered> {
        reported.usage(self.attempt.inquiry.api).map(Metered::reported)
    }

    /// Books the answer: its last bytes come next. A refusal costs nothing, unless it is a content filter's.
    async fn book(&mut self) {
        let running = &self.attempt.running;
        if running.filtered || running.status.is_some_and(|status| status.is_success()) {
            metering::book_answer(self.attempt.gateway, self.ctx, self.attempt.inquiry, &self.attempt.running).await;
        }
    }

    /// As [`Deliverer::book`], of a stream.
    async fn book_stream(&mut self, watch: &mut StreamWatch) {
        self.note_stream(watch);
        self.book().await;
    }

    /// What a stream has told so far.
    fn note_stream(&mut self, watch: &mut StreamWatch) {
        // What is told before the end may be a beginning only.
        if watch.state().finished || watch.state().done {
            self.ctx.usage = self.reported(&watch.state().reported);
        }
        if self.ctx.usage.is_none() {
            self.ctx.so_far = watch.state().reported;
            self.ctx.output = watch.take_output();
        }
    }

    /// A stream of events.
    async fn stream(&mut self) -> Delivery {
        let inquiry = self.attempt.inquiry;
        let mut watch = StreamWatch::new(inquiry.api, inquiry.fields.choices.unwrap_or(1), self.attempt.asked_usage);
        let delivery = self.stream_events(&mut watch).await;
        if delivery == Delivery::CallerLeft && self.drains() {
            self.ctx.reading = Some(Reading::Stream(Box::new(watch)));
        } else if !self.ctx.booked {
            self.note_stream(&mut watch);
        }
        delivery
    }

    async fn stream_events(&mut self, watch: &mut StreamWatch) -> Delivery {
        let held = match self.hold_back(watch).await {
            Ok(held) => held,
            Err(delivery) => return delivery,
        };
        self.remember(watch);
        let over = watch.state().done;
        if over {
            self.ctx.note_first(self.now());
            self.book_stream(watch).await;
        }
        if let Err(delivery) = self.commit(held, over).await {
            return delivery;
        }
        if over { Delivery::Complete } else { self.pass_on(watch).await }
    }

    /// Reads until the first output. Until then nothing has been sent, and a failure that arrives
    /// inside HTTP 200 is still a failure.
    async fn hold_back(&mut self, watch: &mut StreamWatch) -> Result<Held, Delivery> {
        let until = self.attempt.running.began + self.attempt.inquiry.pool.config.timeouts.first_token;
        let (mut held, mut length) = (Held::new(), 0);
        loop {
            match self.next(until).await {
                Ok(Next::Data(bytes)) => {
                    let whole = watch.feed(bytes);
                    length += whole.len();
                    if !whole.is_empty() {
                        held.push(whole);
                    }
                    let state = watch.state();
                    if let (Some(fault), false) = (state.fault, state.content) {
                        match fault {
                            retry::Fault::RateLimited => return Err(Delivery::Replace(Fault::RateLimited)),
                            retry::Fault::OutOfQuota if self.attempt.credentials == Credentials::Gateway => {
                                return Err(Delivery::Replace(Fault::OutOfQuota));
                            }
                            retry::Fault::NoDeployment => return Err(Delivery::Replace(Fault::NoDeployment)),
                            retry::Fault::Failed => return Err(Delivery::Replace(Fault::Failed)),
                            // The same everywhere: the caller gets it as it is.
                            retry::Fault::OutOfQuota | retry::Fault::ContentFilter | retry::Fault::Caller => return Ok(held),
                        }
                    }
                    if state.content || state.done || length > HOLD_STREAM {
                        return Ok(held);
                    }
                }
                Ok(Next::End) if watch.state().finished => {
                    held.push(watch.take_tail());
                    return Ok(held);
                }
                Ok(Next::End) => return Err(Delivery::Replace(Fault::Broken(Broken::Upstream(ErrorKind::Reset)))),
                Ok(Next::Quiet) => return Err(Delivery::Replace(Fault::Broken(Broken::TimedOut))),
                Err(Broken::CallerLeft) => return Err(Delivery::CallerLeft),
                Err(broken) => return Err(Delivery::Replace(Fault::Broken(broken))),
            }
        }
    }

    /// After the commit point: whole events as they come.
    async fn pass_on(&mut self, watch: &mut StreamWatch) -> Delivery {
        let idle = self.attempt.inquiry.pool.config.timeouts.idle;
        let mut last_heard = self.now();
        let mut last_sent = last_heard;
        loop {
            let finished = watch.state().finished;
            let give_up = last_heard + if finished { LINGER.min(idle) } else { idle };
            match self.next(give_up.min(last_sent + COMMENT_AFTER)).await {
                Ok(Next::Data(bytes)) => {
                    last_heard = self.now();
                    if last_heard >= self.progress.deadline {
                        return self.cut_short(watch, ErrorKind::Idle).await;
                    }
                    let whole = watch.feed(bytes);
                    self.remember(watch);
                    let over = watch.state().done;
                    if over {
                        self.book_stream(watch).await;
                    }
                    if !whole.is_empty() {
                        last_sent = last_heard;
                        if !self.write(whole).await {
                            return Delivery::CallerLeft;
                        }
                    }
                    if over {
                        return self.finish().await;
                    }
                }
                Ok(Next::End) if !finished && watch.state().fault.is_some_and(|fault| !is_callers(fault)) => {
                    // The upstream said itself that it failed, and the caller has its words: no clean end.
                    return self.cut_off(ErrorKind::Reset).await;
                }
                Ok(Next::End) if finished || watch.state().fault.is_some() => {
                    self.book_stream(watch).await;
                    let tail = watch.take_tail();
                    if !tail.is_empty() && !self.write(tail).await {
                        return Delivery::CallerLeft;
                    }
                    return self.finish().await;
                }
                Ok(Next::End) => return self.cut_short(watch, ErrorKind::Reset).await,
                Ok(Next::Quiet) => {
                    let now = self.now();
                    if now >= give_up && finished {
                        self.book_stream(watch).await;
                        return self.finish().await;
                    }
                    if now >= give_up || now >= self.progress.deadline {
                        return self.cut_short(watch, ErrorKind::Idle).await;
                    }
                    last_sent = now;
                    if watch.at_boundary() && !self.write(Bytes::from_static(b": keep-alive\n\n")).await {
                        return Delivery::CallerLeft;
                    }
                }
                Err(Broken::CallerLeft) => return Delivery::CallerLeft,
                Err(_) if finished => {
                    self.book_stream(watch).await;
                    return self.finish().await;
                }
                Err(_) => return self.cut_short(watch, ErrorKind::Reset).await,
            }
        }
    }

    /// The commit point: head and first bytes in one write. From here on the body is not needed
    /// for another attempt.
    async fn commit(&mut self, held: Held, over: bool) -> Result<(), Delivery> {
        let first = self.now().since(self.attempt.running.began);
        self.read_plain(&held, over).await;
        let Some(upstream) = self.exchange.head() else { return Err(Delivery::Replace(Fault::Broken(Broken::Upstream(ErrorKind::Reset)))) };
        let status = upstream.status;
        let length = held.iter().map(Bytes::len).sum::<usize>();
        let chunked = self.ctx.streamed || (!over && self.exchange.content_length().is_none());
        let http_1_0 = self.session.req_header().version == Version::HTTP_10;
        let Ok(mut head) = headers::for_caller(upstream, &self.ctx.id, chunked && !http_1_0) else {
            return Err(Delivery::Replace(Fault::Broken(Broken::Upstream(ErrorKind::Reset))));
        };
        // RFC 9110, 8.6: these have no length.
        let lengthless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if !chunked && over && !lengthless {
            let _ = head.insert_header(header::CONTENT_LENGTH, length);
        }
        if self.ctx.streamed {
            let _ = head.insert_header(header::CACHE_CONTROL, "no-cache");
            let _ = head.insert_header("x-accel-buffering", "no");
        }
        if status.is_success() && self.attempt.inquiry.stores && !self.ctx.streamed {
            // What names it stands at the beginning.
            stored::remember(
                self.attempt.gateway,
                self.ctx,
                self.backend(),
                &if held.len() == 1 { held[0].clone() } else { held.concat().into() },
            );
        }
        if status.is_success() {
            self.attempt.inquiry.model.metrics[self.attempt.running.member].first_token.observe(first.as_secs_f64());
            self.attempt.record(Outcome::Success { first, signal: self.attempt.running.signal });
        }
        self.ctx.note_first(self.now());
        headers::rate_limits(&mut head, &self.ctx.remaining);
        self.describe(&mut head);
        if self.ctx.body.as_ref().is_some_and(|body| body.bytes().len() > metering::KEPT) {
            self.ctx.body = None;
        }
        self.ctx.status = Some(status.as_u16());
        self.ctx.bytes_out += length;
        self.committed = true;
        let body = match held.len() {
            0 => None,
            1 => held.into_iter().next(),
            _ => Some(held.concat().into()),
        };
        let tasks = vec![HttpTask::Header(head, false), HttpTask::Body(body, over)];
        if self.send(tasks).await { Ok(()) } else { Err(Delivery::CallerLeft) }
    }

    /// Reads what a plain answer reports, as far as it has come, and books a whole one.
    async fn read_plain(&mut self, held: &Held, over: bool) {
        if self.ctx.streamed || self.ctx.booked {
            return;
        }
        let usage = match (&mut self.tail, held.as_slice()) {
            (Some(_), [whole]) if over => Some(read_end(whole)),
            (Some(tail), pieces) => {
                pieces.iter().for_each(|piece| tail.push(piece));
                over.then(|| tail.read())
            }
            (None, _) => None,
        };
        self.ctx.usage = usage.and_then(|reported| self.reported(&reported));
        if over {
            if self.ctx.usage.is_none() && !self.attempt.running.filtered && held.iter().map(Bytes::len).sum::<usize>() <= metering::KEPT {
                self.ctx.answer = Some(held.concat().into());
            }
            self.ctx.note_first(self.now());
            self.book().await;
        }
    }

    /// Remembers what a stream made so far, before its names reach the caller.
    fn remember(&self, watch: &mut StreamWatch) {
        if watch.state().made.is_empty() {
            return;
        }
        for name in watch.take_made() {
            if self.attempt.inquiry.stores {
                stored::remember_name(self.attempt.gateway, self.ctx, self.backend(), name);
            }
        }
    }

    fn backend(&self) -> &Arc<str> {
        &self.attempt.inquiry.model.route.members()[self.attempt.running.member].target.id.backend
    }

    /// The headers that tell where an answer came from.
    fn describe(&self, head: &mut pingora::http::ResponseHeader) {
        if !self.attempt.gateway.server.response_headers {
            return;
        }
        let _ = headers::describe(head, Some(self.backend()), self.ctx.attempts.len() + 1, self.ctx.overhead);
    }

    async fn write(&mut self, bytes: Bytes) -> bool {
        self.ctx.bytes_out += bytes.len();
        self.send(vec![HttpTask::Body(Some(bytes), false)]).await
    }

    async fn send(&mut self, tasks: Vec<HttpTask>) -> bool {
        respond::send(&mut self.session.downstream_session, tasks, self.attempt.gateway.server.write_timeout).await.is_ok()
    }

    async fn finish(&mut self) -> Delivery {
        if self.send(vec![HttpTask::Done]).await { Delivery::Complete } else { Delivery::CallerLeft }
    }

    /// Tells the caller that its stream broke, and leaves the transfer unfinished.
    async fn cut_short(&mut self, watch: &mut StreamWatch, kind: ErrorKind) -> Delivery {
        let message = match kind {
            ErrorKind::Idle => "The upstream stopped sending before the answer was complete.",
            _ => "The upstream closed the connection before the answer was complete.",
        };
        let event = respond::error_event(self.attempt.inquiry.api, message, "upstream_error", watch.state().sequence);
        self.write(event).await;
        self.cut_off(kind).await
    }

    /// Ends a transfer without its end: the connection (or HTTP/2 stream) is broken off.
    async fn cut_off(&mut self, kind: ErrorKind) -> Delivery {
        let caller = &mut self.session.downstream_session;
        caller.set_keepalive(None);
        if caller.is_http2() {
            // A reset drops what is still queued, the error event with it: let it go out first.
            tokio::time::sleep(BEFORE_RESET).await;
        }
        caller.shutdown().await;
        Delivery::Cut(kind)
    }
}

/// Faults that would be the same at any target.
fn is_callers(fault: retry::Fault) -> bool {
    matches!(fault, retry::Fault::ContentFilter | retry::Fault::Caller)
}

fn is_json(held: &Held) -> bool {
    let whole: Bytes = if held.len() == 1 { held[0].clone() } else { held.concat().into() };
    let mut reader = Reader::new(&whole);
    reader.value(0).is_ok() && reader.end().is_ok()
}
