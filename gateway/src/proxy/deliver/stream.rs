//! Streams: held back until their first output, then whole events as they come.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use pingora::http::ResponseHeader;
use spillway_plugins::retry;
use spillway_plugins::sse;
use spillway_plugins::stream::{StreamState, StreamWatch};
use spillway_plugins::tokens::Metered;
use tracing::warn;

use super::Deliverer;
use crate::balance::circuit::ErrorKind;
use crate::proxy::body_pieces::BodyPieces;
use crate::proxy::delivery::{Delivery, ReplaceReason, Withheld, broke};
use crate::proxy::exchange::{BodyEvent, Broken};
use crate::proxy::rescuable::Rescuable;
use crate::proxy::unfinished::{AnswerReader, Rescue};
use crate::proxy::{last_refusal, output_timeout, respond, stored, upstream_message};

/// Most bytes of a stream that are held until its first output.
const HOLD_STREAM: usize = 256 * 1024;
/// After this much silence a comment is sent, so that the caller's connection stays open.
pub(super) const COMMENT_AFTER: Duration = Duration::from_secs(15);

impl Deliverer<'_, '_, '_> {
    /// Delivers an event stream, of which `read` was already read.
    pub(super) async fn stream(&mut self, read: BodyPieces) -> Delivery {
        let model_request = self.attempt.model_request;
        let watch = StreamWatch::new(model_request.api, model_request.fields.choices.unwrap_or(1), self.attempt.asked_usage);
        let mut watch = watch.storing(model_request.stores);
        if self.is_guarded() {
            // An event can only be checked as a whole.
            watch = watch.keeping(sse::MOST_KEPT);
        }
        let delivery = self.stream_events(&mut watch, read).await;
        self.note_malformed(watch.state().malformed);
        if delivery == Delivery::CallerLeft && self.drains() {
            self.ctx.unfinished.reading = Some(AnswerReader::Stream(Box::new(watch)));
        } else if !self.ctx.metering.booked {
            self.note_stream(&mut watch);
        }
        delivery
    }

    async fn stream_events(&mut self, watch: &mut StreamWatch, read: BodyPieces) -> Delivery {
        let held = match self.hold_back(watch, read).await {
            Ok(held) => held,
            Err(delivery) => return delivery,
        };
        self.remember(watch);
        let over = watch.state().done;
        let held = match self.screened(watch, held, over).await {
            Ok(held) => held,
            Err(finding) => return self.end_blocked(watch, finding).await,
        };
        if over {
            self.hidden = watch.take_hidden();
            self.ctx.timing.note_first(self.ctx.facts.arrived, self.now());
            self.book_stream(watch).await;
        }
        if !over && !self.is_guarded() {
            self.rescuable = Rescuable::new(self.attempt.gateway, &self.ctx.body, &self.ctx.unfinished, self.attempt.model_request);
            held.iter().for_each(|piece| self.note_sent(piece, watch));
        }
        if let Err(delivery) = self.commit(held, over && !has_failed(watch.state())).await {
            return delivery;
        }
        match (over, has_failed(watch.state())) {
            // The stream ended with the upstream's own error: the transfer stays unfinished.
            (true, true) => self.cut_off(ErrorKind::Reset).await,
            (true, false) => Delivery::Complete,
            (false, _) => self.pass_on(watch).await,
        }
    }

    /// Checks the first events, and returns those that may be sent.
    async fn screened(&mut self, watch: &StreamWatch, held: BodyPieces, over: bool) -> Result<BodyPieces, Withheld> {
        if !self.is_guarded() {
            return Ok(held);
        }
        self.screen = Some(Box::default());
        let passed = self.screen(watch, held.concat().into(), over).await?;
        Ok(if passed.is_empty() { BodyPieces::new() } else { smallvec::smallvec![passed] })
    }

    /// Reads until the first output. Until then nothing has been sent, so an error inside HTTP 200 is still handled as
    /// a failure.
    async fn hold_back(&mut self, watch: &mut StreamWatch, read: BodyPieces) -> Result<BodyPieces, Delivery> {
        let mut until = self.attempt.state.began + output_timeout::first(self.attempt.model_request);
        let after_event = output_timeout::after_event(self.attempt.model_request);
        // The guard checks before the first byte is sent, so that a stopped answer can still be refused.
        let window = self.window().unwrap_or(0);
        let enough = |state: &StreamState| state.content && (state.output.bound() >= window || state.finished);
        let (mut held, mut length) = (BodyPieces::new(), 0);
        let mut read = read.into_iter();
        loop {
            let next = match read.next() {
                Some(bytes) => Ok(BodyEvent::Data(bytes)),
                None => {
                    // What was read since then took the gateway's own time.
                    self.heard = self.now();
                    // Events that are left out don't count: a backend that sends nothing else is as good as silent.
                    let is_over = self.heard >= until.min(self.retry_state.deadline) && !watch.state().content;
                    if is_over { Ok(BodyEvent::Quiet) } else { self.next(until).await }
                }
            };
            match next {
                Ok(BodyEvent::Data(bytes)) => {
                    let whole = watch.feed(bytes);
                    length += whole.len();
                    if !whole.is_empty() {
                        held.push(whole);
                        until = after_event.map_or(until, |wait| until.max(self.now() + wait));
                    }
                    let state = watch.state();
                    if let (Some(fault), false) = (state.fault, state.content) {
                        if fault == retry::Fault::Caller && self.is_too_long(&held) {
                            return Err(Delivery::Replace(ReplaceReason::TooLong));
                        }
                        let Some(fault) = self.replacement(fault) else { return Ok(held) };
                        match fault {
                            ReplaceReason::NoDeployment => self.retry_state.last_refusal = self.said(&held).map(Box::new),
                            ReplaceReason::Failed => {
                                self.attempt.state.said = self.said(&held).and_then(|(_, body)| upstream_message::of(&body))
                            }
                            _ => {}
                        }
                        return Err(Delivery::Replace(fault));
                    }
                    if self.is_unanswered(state) {
                        return Err(Delivery::Replace(ReplaceReason::NoAnswer));
                    }
                    if enough(state) || state.done || length > HOLD_STREAM {
                        return Ok(held);
                    }
                }
                Ok(BodyEvent::End) => {
                    let tail = watch.end();
                    if self.is_unanswered(watch.state()) {
                        return Err(Delivery::Replace(ReplaceReason::NoAnswer));
                    }
                    if watch.state().finished || watch.state().done {
                        held.push(tail);
                        return Ok(held);
                    }
                    return Err(Delivery::Replace(ReplaceReason::Broken(Broken::Upstream(ErrorKind::Reset))));
                }
                Ok(BodyEvent::Quiet) if watch.state().content => return Ok(held),
                Ok(BodyEvent::Quiet) => return Err(Delivery::Replace(ReplaceReason::Broken(Broken::TimedOut))),
                Err(Broken::CallerLeft) => return Err(Delivery::CallerLeft),
                Err(broken) => return Err(Delivery::Replace(ReplaceReason::Broken(broken))),
            }
        }
    }

    /// Whether a model's stream has ended without any output, without a word of why it ended, and without a report that it
    /// wrote anything.
    fn is_unanswered(&self, state: &StreamState) -> bool {
        let model_request = self.attempt.model_request;
        let empty = state.done && !state.content && !state.finished && state.fault.is_none();
        empty
            && model_request.object.is_none()
            && model_request.api.writes_texts()
            && state.usage(model_request.api).is_none_or(|usage| usage.output == 0)
    }

    /// Turns the error in the events so far into the refusal that a request without a stream would have got.
    fn said(&self, held: &BodyPieces) -> Option<(ResponseHeader, Bytes)> {
        last_refusal::of_events(self.exchange.head()?, &held.concat())
    }

    /// Whether the stream reports that the prompt is too long, and other members have a larger context window.
    fn is_too_long(&mut self, held: &BodyPieces) -> bool {
        let Some((mut head, body)) = self.said(held).filter(|(_, body)| retry::is_too_long(body)) else { return false };
        if !self.retry_state.rule_out_smaller(self.attempt.model_request, self.attempt.state.member) {
            return false;
        }
        let _ = head.set_status(http::StatusCode::BAD_REQUEST);
        self.retry_state.last_refusal = Some(Box::new((head, body)));
        true
    }

    /// After the commit point: passes on whole events as they come.
    async fn pass_on(&mut self, watch: &mut StreamWatch) -> Delivery {
        let idle = self.attempt.model_request.pool.config.timeouts.idle;
        if self.screen.is_none() {
            // The guard lets pass what came before the event that it stops: it reads each piece by itself.
            self.exchange.join_short_pieces();
        }
        self.exchange.acknowledge_late();
        let mut last_heard = self.now();
        let mut last_sent = last_heard;
        loop {
            let finished = watch.state().finished;
            // A complete answer may still report its usage, and only the API's last event shows that it has.
            let give_up = last_heard + idle;
            match self.next(give_up.min(last_sent + COMMENT_AFTER)).await {
                Ok(BodyEvent::Data(bytes)) => {
                    last_heard = self.now();
                    if last_heard >= self.retry_state.deadline {
                        return self.cut_short(watch, ErrorKind::Idle).await;
                    }
                    let whole = watch.feed(bytes);
                    self.remember(watch);
                    let over = watch.state().done;
                    if self.rescuable.is_some() && has_failed(watch.state()) && self.is_due() {
                        // The continuation sends again what came together with the error.
                        return Delivery::Broken(ErrorKind::Reset);
                    }
                    let whole = match self.screen {
                        None => whole,
                        Some(_) => match self.screen(watch, whole, over).await {
                            Ok(whole) => whole,
                            Err(finding) => return self.end_blocked(watch, finding).await,
                        },
                    };
                    self.record(&whole);
                    self.note_sent(&whole, watch);
                    if over {
                        self.book_stream(watch).await;
                        if !has_failed(watch.state()) {
                            self.keep(watch.take_hidden()).await;
                        }
                    }
                    if !whole.is_empty() {
                        last_sent = last_heard;
                        if !self.write(whole).await {
                            return Delivery::CallerLeft;
                        }
                    }
                    if over && has_failed(watch.state()) {
                        return self.cut_off(ErrorKind::Reset).await;
                    }
                    if over {
                        return self.finish().await;
                    }
                }
                Ok(BodyEvent::End) => {
                    let tail = watch.end();
                    let state = watch.state();
                    if has_failed(state) {
                        // The upstream reported an error, and the caller has received it: the transfer has no clean
                        // end.
                        return self.cut_off(ErrorKind::Reset).await;
                    }
                    if !(state.finished || state.done || state.fault.is_some()) {
                        return self.cut_short(watch, ErrorKind::Reset).await;
                    }
                    self.remember(watch);
                    let tail = match self.screen(watch, tail, true).await {
                        Ok(tail) => tail,
                        Err(finding) => return self.end_blocked(watch, finding).await,
                    };
                    self.book_stream(watch).await;
                    self.record(&tail);
                    self.keep(watch.take_hidden()).await;
                    if !tail.is_empty() && !self.write(tail).await {
                        return Delivery::CallerLeft;
                    }
                    return self.finish().await;
                }
                Ok(BodyEvent::Quiet) => {
                    let now = self.now();
                    if now >= give_up && finished {
                        return self.end_here(watch).await;
                    }
                    if now >= give_up || now >= self.retry_state.deadline {
                        return self.cut_short(watch, ErrorKind::Idle).await;
                    }
                    last_sent = now;
                    if watch.at_boundary() && !self.write(Bytes::from_static(b": keep-alive\n")).await {
                        return Delivery::CallerLeft;
                    }
                }
                Err(Broken::CallerLeft) => return Delivery::CallerLeft,
                Err(_) if finished => return self.end_here(watch).await,
                Err(_) => return self.cut_short(watch, ErrorKind::Reset).await,
            }
        }
    }

    /// Counts events that were left out. Logged only once, because such a backend sends more of them.
    fn note_malformed(&self, events: u32) {
        static LOGGED: AtomicBool = AtomicBool::new(false);
        if events == 0 {
            return;
        }
        self.attempt.gateway.metrics.requests.malformed_events.inc_by(events.into());
        if !LOGGED.swap(true, Ordering::Relaxed) {
            let target = &self.attempt.state.lease.target().id;
            warn!(%target, "sends events that are not JSON: they are left out, and counted in spillway_malformed_events_total");
        }
    }

    /// Ends a stream that is complete, though its last event is missing.
    async fn end_here(&mut self, watch: &mut StreamWatch) -> Delivery {
        let rest = match self.screen(watch, Bytes::new(), true).await {
            Ok(rest) => rest,
            Err(finding) => return self.end_blocked(watch, finding).await,
        };
        self.book_stream(watch).await;
        if !rest.is_empty() {
            self.record(&rest);
            if !self.write(rest).await {
                return Delivery::CallerLeft;
            }
        }
        self.finish().await
    }

    /// Notes what a stream has reported so far.
    pub(super) fn note_stream(&mut self, watch: &mut StreamWatch) {
        self.ctx.metering.whole = watch.state().finished;
        self.ctx.metering.note_served(&watch.state().reported);
        // What is reported before the end may not be the total.
        if watch.state().finished || watch.state().done {
            self.ctx.metering.usage = watch.state().usage(self.attempt.model_request.api).map(Metered::reported);
        }
        if self.ctx.metering.usage.is_none() {
            self.ctx.metering.so_far = watch.state().reported.clone();
            self.ctx.metering.output = watch.take_output();
        }
    }

    /// Like [`Deliverer::book`], for a stream.
    pub(super) async fn book_stream(&mut self, watch: &mut StreamWatch) {
        self.note_stream(watch);
        self.book(self.now()).await;
    }

    /// Sends the caller an error event, and leaves the transfer unfinished.
    async fn cut_short(&mut self, watch: &mut StreamWatch, kind: ErrorKind) -> Delivery {
        // A part of an event was already sent: whatever follows would be read as the rest of it. Or the upstream's own error
        // event was sent.
        if watch.is_within_event() || has_failed(watch.state()) {
            return self.cut_off(kind).await;
        }
        if self.now() < self.retry_state.deadline && self.is_due() {
            return Delivery::Broken(kind);
        }
        let event = respond::error_event(self.attempt.model_request.api, broke(kind), "upstream_error", watch.state().sequence);
        self.write(event).await;
        self.cut_off(kind).await
    }

    /// Notes what is sent, if the stream may be continued later.
    fn note_sent(&mut self, events: &Bytes, watch: &StreamWatch) {
        if self.rescuable.as_mut().is_some_and(|rescuable| !rescuable.push(events, watch.state())) {
            self.rescuable = None;
        }
    }

    /// Whether another answer may continue the stream: if so, prepares that.
    fn is_due(&mut self) -> bool {
        let due = self.rescuable.take().and_then(|rescuable| rescuable.continuation());
        due.map(|due| self.ctx.unfinished.rescue = Some(Rescue::Due(due))).is_some()
    }

    /// Remembers the objects that a stream has created, before their names are sent to the caller.
    fn remember(&self, watch: &mut StreamWatch) {
        if !watch.state().made.is_empty() {
            stored::keep(self.attempt.gateway, &self.ctx.facts, self.attempt.model_request, self.backend(), watch.take_made());
        }
    }
}

/// Whether the upstream reported an error that is not the whole answer.
pub(super) fn has_failed(state: &StreamState) -> bool {
    !state.finished && state.fault.is_some_and(|fault| !is_whole(fault, state.content))
}

/// Errors that are the whole answer: other targets would answer the same, or the error is all that was sent.
fn is_whole(fault: retry::Fault, content: bool) -> bool {
    matches!(fault, retry::Fault::ContentFilter | retry::Fault::Caller) || (fault == retry::Fault::Unknown && !content)
}
