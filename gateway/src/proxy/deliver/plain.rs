//! Plain answers: held until they are whole, as far as that is small, so that one that breaks can be replaced.

use std::sync::LazyLock;

use bytes::Bytes;
use http::StatusCode;
use memchr::memmem::Finder;
use spillway_plugins::json::{Kind, Reader};
use spillway_plugins::retry;
use spillway_plugins::tokens::{Reported, read_whole};

use super::{Deliverer, Tap, screen};
use crate::balance::circuit::ErrorKind;
use crate::proxy::delivery::{Delivery, Fault};
use crate::proxy::exchange::{BodyEvent, Broken};
use crate::proxy::held::{Held, joined};
use crate::proxy::{metering, words};
use crate::request::BufferShare;

/// Most of a plain answer that is held until it is whole, so that a cut one can be replaced.
const HOLD_PLAIN: usize = 256 * 1024;

impl Deliverer<'_, '_> {
    /// JSON is held until it is whole, as far as that is small. Where an answer must be an object (`is_object`), what is none
    /// is no answer.
    pub(super) async fn plain(&mut self, mut held: Held, json: bool, is_object: bool) -> Delivery {
        let idle = self.attempt.model_request.pool.config.timeouts.idle;
        let mut length: usize = held.iter().map(Bytes::len).sum();
        let guarded = self.is_guarded();
        let most = if guarded { screen::LONGEST } else { HOLD_PLAIN };
        // What a guard waits for is more than others hold: it has its place in the room for bodies.
        let mut share = BufferShare::new(&self.attempt.gateway.buffered);
        loop {
            let until = self.now() + idle;
            match self.next(until).await {
                Ok(BodyEvent::Data(bytes)) => {
                    length += bytes.len();
                    let has_room = !guarded || share.grow(bytes.len());
                    held.push(bytes);
                    if is_object && first_byte(&held).is_some_and(|byte| byte != b'{') {
                        return Delivery::Replace(Fault::NoAnswer);
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
                    return Delivery::Replace(Fault::Broken(Broken::Upstream(ErrorKind::Reset)));
                }
                Ok(BodyEvent::End) if is_object && first_byte(&held) != Some(b'{') => return Delivery::Replace(Fault::NoAnswer),
                Ok(BodyEvent::End) => {
                    if is_object && let Some(fault) = self.fault_of(&held) {
                        return Delivery::Replace(fault);
                    }
                    if guarded && let Err(delivery) = self.screen_plain(&held, true).await {
                        return delivery;
                    }
                    return self.commit(held, true).await.err().unwrap_or(Delivery::Complete);
                }
                Ok(BodyEvent::Quiet) => return Delivery::Replace(Fault::Broken(Broken::Upstream(ErrorKind::Idle))),
                Err(Broken::CallerLeft) => {
                    if let Some(tap) = &mut self.tap {
                        held.iter().for_each(|piece| tap.push(piece));
                    }
                    return Delivery::CallerLeft;
                }
                Err(broken) => return Delivery::Replace(Fault::Broken(broken)),
            }
        }
        if guarded && let Err(delivery) = self.screen_plain(&held, false).await {
            return delivery;
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

    /// Why an answer whose status is a success is none: it is an error, as in a stream. `None` if the caller gets it.
    fn fault_of(&mut self, held: &Held) -> Option<Fault> {
        static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));
        let whole = joined(held);
        // Most have no such word at all.
        ERROR.find(&whole)?;
        let mut failed = false;
        Reader::new(&whole).object(|key, value| failed |= key == "error" && value.kind != Kind::Null).ok()?;
        if !failed {
            return None;
        }
        let fault = self.replacement(retry::classify_event(&whole))?;
        if fault == Fault::NoDeployment {
            self.retry_state.last_word = self.exchange.head().cloned().and_then(|mut head| {
                head.set_status(StatusCode::NOT_FOUND).ok()?;
                Some(Box::new((head, whole)))
            });
            return Some(fault);
        }
        self.attempt.running.said = words::of(&whole);
        // There is no part of an answer that has been paid for.
        Some(if fault == Fault::Failed { Fault::NoAnswer } else { fault })
    }

    /// Books a plain answer that has come to its end, by what its last part tells.
    async fn book_plain(&mut self) {
        if !self.ctx.metering.booked {
            let reported = self.tap.as_mut().map(Tap::read);
            self.note_plain(reported);
            self.book().await;
        }
    }

    /// Notes what an answer reported, and, if it didn't, what a compressed stream has told.
    fn note_plain(&mut self, reported: Option<Reported>) {
        self.ctx.metering.usage = reported.and_then(|reported| self.reported(&reported));
        if self.ctx.metering.usage.is_none()
            && let Some(output) = self.tap.as_mut().and_then(Tap::take_output)
        {
            self.ctx.metering.output = output;
        }
    }

    /// Reads what a plain answer reports, as far as it has come, and books a whole one.
    pub(super) async fn read_plain(&mut self, held: &Held, over: bool) {
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
            if self.ctx.metering.usage.is_none()
                && plain
                && !self.attempt.running.filtered
                && held.iter().map(Bytes::len).sum::<usize>() <= metering::KEPT
            {
                self.ctx.metering.plain = Some(held.concat().into());
            }
            self.ctx.timing.note_first(self.ctx.facts.arrived, self.now());
            self.book().await;
        }
    }
}

/// The first byte that is no space.
fn first_byte(held: &Held) -> Option<u8> {
    held.iter().flat_map(|piece| piece.iter()).copied().find(|byte| !byte.is_ascii_whitespace())
}

fn is_json(held: &Held) -> bool {
    let whole = joined(held);
    let mut reader = Reader::new(&whole);
    reader.value(0).is_ok() && reader.end().is_ok()
}
