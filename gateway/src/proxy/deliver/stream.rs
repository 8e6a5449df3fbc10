//! Streams: held back until their first output, then whole events as they come.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use pingora::http::ResponseHeader;
use spillway_plugins::guard::Finding;
use spillway_plugins::retry;
use spillway_plugins::sse;
use spillway_plugins::stream::{StreamState, StreamWatch};
use tracing::warn;

use super::Deliverer;
use crate::balance::circuit::ErrorKind;
use crate::proxy::delivery::{Delivery, Fault, broke};
use crate::proxy::exchange::{BodyEvent, Broken};
use crate::proxy::held::Held;
use crate::proxy::rescuable::Rescuable;
use crate::proxy::unfinished::{Reading, Rescue};
use crate::proxy::{last_word, patience, respond, stored, words};

/// Most of a stream that is held until its first output.
const HOLD_STREAM: usize = 256 * 1024;
/// Silence after which a comment keeps the caller's side alive.
pub(super) const COMMENT_AFTER: Duration = Duration::from_secs(15);

impl Deliverer<'_, '_> {
    /// A stream of events, of which `read` was read already.
    pub(super) async fn stream(&mut self, read: Held) -> Delivery {
        let model_request = self.attempt.model_request;
        let mut watch = StreamWatch::new(model_request.api, model_request.fields.choices.unwrap_or(1), self.attempt.asked_usage);
        if self.is_guarded() {
            // What is looked at must be there as a whole.
            watch = watch.keeping(sse::MOST_KEPT);
        }
        let delivery = self.stream_events(&mut watch, read).await;
        self.note_malformed(watch.state().malformed);
        if delivery == Delivery::CallerLeft && self.drains() {
            self.ctx.unfinished.reading = Some(Reading::Stream(Box::new(watch)));
        } else if !self.ctx.metering.booked {
            self.note_stream(&mut watch);
        }
        delivery
    }

    async fn stream_events(&mut self, watch: &mut StreamWatch, read: Held) -> Delivery {
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
            // It ended with the upstream's own words: the transfer stays unfinished.
            (true, true) => self.cut_off(ErrorKind::Reset).await,
            (true, false) => Delivery::Complete,
            (false, _) => self.pass_on(watch).await,
        }
    }

    /// The first events, as far as they may go on.
    async fn screened(&mut self, watch: &StreamWatch, held: Held, over: bool) -> Result<Held, Option<Finding>> {
        if !self.is_guarded() {
            return Ok(held);
        }
        self.screen = Some(Box::default());
        let passed = self.screen(watch, held.concat().into(), over).await?;
        Ok(if passed.is_empty() { Held::new() } else { smallvec::smallvec![passed] })
    }

    /// Reads until the first output. Until then nothing has been sent, and a failure that arrives
    /// inside HTTP 200 is still a failure.
    async fn hold_back(&mut self, watch: &mut StreamWatch, read: Held) -> Result<Held, Delivery> {
        let mut until = self.attempt.running.began + patience::first(self.attempt.model_request);
        let after_event = patience::after_event(self.attempt.model_request);
        // Under guard the first look is before the first byte: what it stops can still be refused.
        let window = self.window().unwrap_or(0);
        let enough = |state: &StreamState| state.content && (state.output.bound() >= window || state.finished);
        let (mut held, mut length) = (Held::new(), 0);
        let mut read = read.into_iter();
        loop {
            let next = match read.next() {
                Some(bytes) => Ok(BodyEvent::Data(bytes)),
                None => self.next(until).await,
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
                            return Err(Delivery::Replace(Fault::TooLong));
                        }
                        let Some(fault) = self.replacement(fault) else { return Ok(held) };
                        match fault {
                            Fault::NoDeployment => self.retry_state.last_word = self.said(&held).map(Box::new),
                            Fault::Failed => self.attempt.running.said = self.said(&held).and_then(|(_, body)| words::of(&body)),
                            _ => {}
                        }
                        return Err(Delivery::Replace(fault));
                    }
                    if enough(state) || state.done || length > HOLD_STREAM {
                        return Ok(held);
                    }
                }
                Ok(BodyEvent::End) => {
                    let tail = watch.end();
                    if watch.state().finished || watch.state().done {
                        held.push(tail);
                        return Ok(held);
                    }
                    return Err(Delivery::Replace(Fault::Broken(Broken::Upstream(ErrorKind::Reset))));
                }
                Ok(BodyEvent::Quiet) if watch.state().content => return Ok(held),
                Ok(BodyEvent::Quiet) => return Err(Delivery::Replace(Fault::Broken(Broken::TimedOut))),
                Err(Broken::CallerLeft) => return Err(Delivery::CallerLeft),
                Err(broken) => return Err(Delivery::Replace(Fault::Broken(broken))),
            }
        }
    }

    /// What the events so far say went wrong, as the refusal that it would have been without a stream.
    fn said(&self, held: &Held) -> Option<(ResponseHeader, Bytes)> {
        last_word::of_events(self.exchange.head()?, &held.concat())
    }

    /// Whether the stream says that the prompt is too long there, and others take more.
    fn is_too_long(&mut self, held: &Held) -> bool {
        let Some((mut head, body)) = self.said(held).filter(|(_, body)| retry::is_too_long(body)) else { return false };
        if !self.retry_state.rule_out_smaller(self.attempt.model_request, self.attempt.running.member) {
            return false;
        }
        let _ = head.set_status(http::StatusCode::BAD_REQUEST);
        self.retry_state.last_word = Some(Box::new((head, body)));
        true
    }

    /// After the commit point: whole events as they come.
    async fn pass_on(&mut self, watch: &mut StreamWatch) -> Delivery {
        let idle = self.attempt.model_request.pool.config.timeouts.idle;
        let mut last_heard = self.now();
        let mut last_sent = last_heard;
        loop {
            let finished = watch.state().finished;
            // An answer that is complete may still tell what it used, and only the API's last event says that it has.
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
                        // What came with the error comes again.
                        return Delivery::Broken(ErrorKind::Reset);
                    }
                    let whole = match self.screen(watch, whole, over).await {
                        Ok(whole) => whole,
                        Err(finding) => return self.end_blocked(watch, finding).await,
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
                        // The upstream said itself that it failed, and the caller has its words: no clean end.
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

    /// Counts events that were left out. Told once: such a backend sends more of them.
    fn note_malformed(&self, events: u32) {
        static TOLD: AtomicBool = AtomicBool::new(false);
        if events == 0 {
            return;
        }
        self.attempt.gateway.metrics.malformed_events.inc_by(events.into());
        if !TOLD.swap(true, Ordering::Relaxed) {
            let target = &self.attempt.running.lease.target().id;
            warn!(%target, "sends events that are no JSON: they are left out, and counted in spillway_malformed_events_total");
        }
    }

    /// Ends a stream that is complete, though it doesn't say so.
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

    /// What a stream has told so far.
    pub(super) fn note_stream(&mut self, watch: &mut StreamWatch) {
        self.ctx.metering.whole = watch.state().finished;
        // What is told before the end may be a beginning only.
        if watch.state().finished || watch.state().done {
            self.ctx.metering.usage = self.reported(&watch.state().reported);
        }
        if self.ctx.metering.usage.is_none() {
            self.ctx.metering.so_far = watch.state().reported;
            self.ctx.metering.output = watch.take_output();
        }
    }

    /// As [`Deliverer::book`], of a stream.
    pub(super) async fn book_stream(&mut self, watch: &mut StreamWatch) {
        self.note_stream(watch);
        self.book().await;
    }

    /// Tells the caller that its stream broke, and leaves the transfer unfinished.
    async fn cut_short(&mut self, watch: &mut StreamWatch, kind: ErrorKind) -> Delivery {
        // A part of an event has gone out: whatever follows would be taken for the rest of it. Or the upstream said itself
        // that it failed: the caller has its words.
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

    /// Notes what is sent, where it may have to be continued.
    fn note_sent(&mut self, events: &Bytes, watch: &StreamWatch) {
        if self.rescuable.as_mut().is_some_and(|rescuable| !rescuable.push(events, watch.state())) {
            self.rescuable = None;
        }
    }

    /// Whether another answer may continue what was sent: then it is due.
    fn is_due(&mut self) -> bool {
        let due = self.rescuable.take().and_then(|rescuable| rescuable.continuation());
        due.map(|due| self.ctx.unfinished.rescue = Some(Rescue::Due(due))).is_some()
    }

    /// Remembers what a stream made so far, before its names reach the caller.
    fn remember(&self, watch: &mut StreamWatch) {
        if !watch.state().made.is_empty() {
            stored::keep(self.attempt.gateway, &self.ctx.facts, self.attempt.model_request, self.backend(), watch.take_made());
        }
    }
}

/// Whether the upstream said itself that it failed, and that is not all that there is to say.
pub(super) fn has_failed(state: &StreamState) -> bool {
    !state.finished && state.fault.is_some_and(|fault| !is_whole(fault, state.content))
}

/// Faults after which an answer is all that there is to say: they would be the same at any target, or are the only thing
/// that was said.
fn is_whole(fault: retry::Fault, content: bool) -> bool {
    matches!(fault, retry::Fault::ContentFilter | retry::Fault::Caller) || (fault == retry::Fault::Unknown && !content)
}
