//! Plain answers: held until they are whole, if they are small, so that a broken one can be replaced.

use std::sync::LazyLock;

use bytes::Bytes;
use http::StatusCode;
use memchr::memmem::Finder;
use spillway_plugins::json::{Kind, Reader};
use spillway_plugins::retry;
use spillway_plugins::tokens::{Reported, read_whole};

use super::{Deliverer, Tap, screen, unanswered};
use crate::balance::circuit::ErrorKind;
use crate::clock::Tick;
use crate::proxy::body_pieces::{BodyPieces, joined};
use crate::proxy::delivery::{Delivery, ReplaceReason};
use crate::proxy::exchange::{BodyEvent, Broken};
use crate::proxy::{metering, upstream_message};
use crate::request::BufferShare;

/// Most bytes of a plain answer that are held until it is whole.
const HOLD_PLAIN: usize = 256 * 1024;

impl Deliverer<'_, '_, '_> {
    /// Holds a JSON answer until it is whole, if it is small. If the answer must be an object (`is_object`), anything
    /// else is not accepted as an answer.
    pub(super) async fn plain(&mut self, mut held: BodyPieces, json: bool, is_object: bool) -> Delivery {
        let idle = self.attempt.model_request.pool.config.timeouts.idle;
        let mut length: usize = held.iter().map(Bytes::len).sum();
        let guarded = self.is_guarded();
        let most = if guarded { screen::LONGEST } else { HOLD_PLAIN };
        // The guard holds more than other answers may: these bytes take a share of the buffer budget.
        let mut share = BufferShare::new(&self.attempt.gateway.buffered);
        loop {
            let until = self.heard + idle;
            match self.next(until).await {
                Ok(BodyEvent::Data(bytes)) => {
                    length += bytes.len();
                    let has_room = !guarded || share.grow(bytes.len());
                    held.push(bytes);
                    if is_object && first_byte(&held).is_some_and(|byte| byte != b'{') {
                        return Delivery::Replace(ReplaceReason::NoAnswer);
                    }
                    let hold = (json || is_object || guarded)
                        && has_room
                        && length <= most
                        && self.exchange.content_length().is_none_or(|whole| whole <= most);
                    if !hold {
                        break;
                    }
                }
                Ok(BodyEvent::End) if self.exchange.ends_with_connection() && json && !is_json(&held) => {
                    return Delivery::Replace(ReplaceReason::Broken(Broken::Upstream(ErrorKind::Reset)));
                }
                Ok(BodyEvent::End) if is_object && first_byte(&held) != Some(b'{') => return Delivery::Replace(ReplaceReason::NoAnswer),
                Ok(BodyEvent::End) => {
                    if is_object && let Some(fault) = self.fault_of(&held) {
                        return Delivery::Replace(fault);
                    }
                    if guarded && let Err(delivery) = self.screen_plain(&held, true).await {
                        return delivery;
                    }
                    return self.commit(held, true).await.err().unwrap_or(Delivery::Complete);
                }
                Ok(BodyEvent::Quiet) => return Delivery::Replace(ReplaceReason::Broken(Broken::Upstream(ErrorKind::Idle))),
                Err(Broken::CallerLeft) => {
                    if let Some(tap) = &mut self.tap {
                        held.iter().for_each(|piece| tap.push(piece));
                    }
                    return Delivery::CallerLeft;
                }
                Err(broken) => return Delivery::Replace(ReplaceReason::Broken(broken)),
            }
        }
        if guarded && let Err(delivery) = self.screen_plain(&held, false).await {
            return delivery;
        }
        // If the length is known, the last byte is the end: it must not be sent before the answer is booked.
        let whole = self.exchange.content_length();
        let mut sent = length;
        if whole == Some(sent) {
            let now = self.now();
            self.read_plain(&held, true, now).await;
        }
        if let Err(delivery) = self.commit(held, false).await {
            return delivery;
        }
        loop {
            let until = self.now() + idle;
            match self.next(until).await {
                // If data is always ready, the timer never fires.
                Ok(BodyEvent::Data(_)) if self.now() >= self.retry_state.deadline => return self.cut_off(ErrorKind::Idle).await,
                Ok(BodyEvent::Data(bytes)) => {
                    if let Some(tap) = &mut self.tap {
                        tap.push(&bytes);
                    }
                    self.record(&bytes);
                    sent += bytes.len();
                    if whole == Some(sent) {
                        self.book_plain().await;
                        self.keep(None).await;
                    }
                    if !self.write(bytes).await {
                        return Delivery::CallerLeft;
                    }
                }
                Ok(BodyEvent::End) => {
                    self.book_plain().await;
                    self.keep(None).await;
                    return self.finish().await;
                }
                Ok(BodyEvent::Quiet) => return self.cut_off(ErrorKind::Idle).await,
                Err(Broken::CallerLeft) => return Delivery::CallerLeft,
                Err(_) => return self.cut_off(ErrorKind::Reset).await,
            }
        }
    }

    /// Why an answer with a success status is an error, as a stream can be. `None` if the caller gets it.
    fn fault_of(&mut self, held: &BodyPieces) -> Option<ReplaceReason> {
        static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));
        let whole = joined(held);
        let mut failed = false;
        // Most answers don't contain this word.
        if ERROR.find(&whole).is_some() {
            let read = Reader::new(&whole).object(|key, value| failed |= key == "error" && value.kind != Kind::Null);
            failed &= read.is_ok();
        }
        if !failed {
            let model_request = self.attempt.model_request;
            if model_request.part.is_some() || !unanswered::holds_none(model_request.api, &whole) {
                return None;
            }
            let reported = read_whole(&whole);
            self.ctx.metering.usage = self.reported(&reported);
            return Some(ReplaceReason::NoAnswer);
        }
        let fault = self.replacement(retry::classify_event(&whole))?;
        if fault == ReplaceReason::NoDeployment {
            self.retry_state.last_refusal = self.exchange.head().cloned().and_then(|mut head| {
                head.set_status(StatusCode::NOT_FOUND).ok()?;
                Some(Box::new((head, whole)))
            });
            return Some(fault);
        }
        self.attempt.state.said = upstream_message::of(&whole);
        // What it reports has been paid for. Without that it counts as nothing: the model has written nothing.
        let reported = read_whole(&whole);
        self.ctx.metering.usage = self.reported(&reported);
        Some(if fault == ReplaceReason::Failed { ReplaceReason::NoAnswer } else { fault })
    }

    /// Books a plain answer that has ended, by the usage in its last part.
    async fn book_plain(&mut self) {
        if !self.ctx.metering.booked {
            let reported = self.tap.as_mut().map(Tap::read);
            self.note_plain(reported);
            self.book(self.now()).await;
        }
    }

    /// Notes the usage that an answer reported or, if it didn't report all of it, what else is known.
    fn note_plain(&mut self, reported: Option<Reported>) {
        self.ctx.metering.usage = reported.as_ref().and_then(|reported| self.reported(reported));
        if self.ctx.metering.usage.is_some() {
            return;
        }
        self.ctx.metering.so_far = reported.unwrap_or_default();
        if let Some(tap) = &mut self.tap {
            self.ctx.metering.length = tap.length();
            if let Some(output) = tap.take_output() {
                self.ctx.metering.output = output;
            }
        }
    }

    /// Reads the usage in a plain answer, as far as it has come, and books a whole one, whose last bytes are sent `now`.
    pub(super) async fn read_plain(&mut self, held: &BodyPieces, over: bool, now: Tick) {
        if self.ctx.reply.streamed || self.ctx.metering.booked {
            return;
        }
        let usage = match (&mut self.tap, held.as_slice()) {
            (Some(Tap::Plain(_)), [whole]) if over => whole.trim_ascii_start().starts_with(b"{").then(|| read_whole(whole)),
            (Some(tap), pieces) => {
                pieces.iter().for_each(|piece| tap.push(piece));
                over.then(|| tap.read())
            }
            (None, _) => None,
        };
        self.note_plain(usage);
        self.ctx.metering.whole = over;
        if over {
            let plain = self.tap.as_ref().is_some_and(Tap::is_plain);
            if self.ctx.metering.usage.is_none() && plain && !self.attempt.state.filtered {
                let length = held.iter().map(Bytes::len).sum::<usize>();
                self.ctx.metering.length = length as u64;
                self.ctx.metering.plain = (length <= metering::KEPT).then(|| held.concat().into());
            }
            self.ctx.timing.note_first(self.ctx.facts.arrived, now);
            self.book(now).await;
        }
    }
}

/// The first byte that is not white space.
fn first_byte(held: &BodyPieces) -> Option<u8> {
    held.iter().flat_map(|piece| piece.iter()).copied().find(|byte| !byte.is_ascii_whitespace())
}

fn is_json(held: &BodyPieces) -> bool {
    let whole = joined(held);
    let mut reader = Reader::new(&whole).strict();
    reader.value(0).is_ok() && reader.end().is_ok()
}
