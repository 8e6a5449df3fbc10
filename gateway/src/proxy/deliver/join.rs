//! Another answer that continues a stream of which a part was already sent.

use bytes::Bytes;
use spillway_plugins::rescue::Continuation;
use spillway_plugins::stream::StreamWatch;

use super::Deliverer;
use super::stream::{COMMENT_AFTER, has_failed};
use crate::balance::circuit::ErrorKind;
use crate::balance::target::Outcome;
use crate::proxy::delivery::{Delivery, Withheld};
use crate::proxy::exchange::{BodyEvent, Broken};
use crate::proxy::output_timeout;

/// Sent at the end of a stream that was continued.
const TRAILER: &[u8] = b": x-spillway-rescued: 1\n";

impl Deliverer<'_, '_, '_> {
    /// Passes on the part of the other answer after what was sent. `Blocked` if it differs.
    pub(super) async fn join(&mut self, continuation: &mut Continuation) -> Delivery {
        let model_request = self.attempt.model_request;
        let mut watch = StreamWatch::new(model_request.api, model_request.fields.choices.unwrap_or(1), self.attempt.asked_usage);
        let delivery = self.join_events(continuation, &mut watch).await;
        if !self.ctx.metering.booked {
            self.note_stream(&mut watch);
        }
        delivery
    }

    async fn join_events(&mut self, continuation: &mut Continuation, watch: &mut StreamWatch) -> Delivery {
        let idle = self.attempt.model_request.pool.config.timeouts.idle;
        let mut give_up = self.attempt.state.began + output_timeout::first(self.attempt.model_request);
        let mut last_sent = self.now();
        let mut begun = false;
        loop {
            // A complete answer may still report its usage, and doesn't have to say that it ends.
            let finished = watch.state().finished;
            let (events, ended) = match self.next(give_up.min(last_sent + COMMENT_AFTER)).await {
                Ok(BodyEvent::Data(bytes)) => (watch.feed(bytes), false),
                Ok(BodyEvent::End) => (watch.end(), true),
                Ok(BodyEvent::Quiet) if finished && self.now() >= give_up => (Bytes::new(), true),
                Ok(BodyEvent::Quiet) => {
                    last_sent = self.now();
                    if last_sent >= give_up || last_sent >= self.retry_state.deadline {
                        return Delivery::Cut(ErrorKind::Idle);
                    }
                    if !self.write(Bytes::from_static(b": keep-alive\n")).await {
                        return Delivery::CallerLeft;
                    }
                    continue;
                }
                Err(Broken::CallerLeft) => return Delivery::CallerLeft,
                Err(_) if finished => (Bytes::new(), true),
                Err(_) => return Delivery::Cut(ErrorKind::Reset),
            };
            if has_failed(watch.state()) || watch.is_within_event() || self.now() >= self.retry_state.deadline {
                return Delivery::Cut(ErrorKind::Reset);
            }
            if watch.state().content && !std::mem::replace(&mut begun, true) {
                let first = self.now().since(self.attempt.state.began);
                self.attempt.record(Outcome::Success { first, signal: self.attempt.state.signal });
            }
            give_up = if begun { self.now() + idle } else { give_up };
            let over = watch.state().done || (ended && watch.state().finished);
            if ended && !over {
                return Delivery::Cut(ErrorKind::Reset);
            }
            let Ok(mut out) = continuation.feed(events) else { return Delivery::Blocked(Withheld::Unreadable) };
            if over {
                match continuation.end() {
                    Ok(rest) if rest.is_empty() => {}
                    Ok(rest) => out = [out, rest].concat().into(),
                    Err(_) => return Delivery::Blocked(Withheld::Unreadable),
                }
            }
            if over {
                self.book_stream(watch).await;
            }
            self.record(&out);
            if !out.is_empty() {
                last_sent = self.now();
                if !self.write(out).await {
                    return Delivery::CallerLeft;
                }
            }
            if over {
                return if self.write(Bytes::from_static(TRAILER)).await { self.finish().await } else { Delivery::CallerLeft };
            }
        }
    }
}
