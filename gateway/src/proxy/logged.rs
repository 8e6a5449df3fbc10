//! What the prompt log records of a request.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use spillway_plugins::api::Api;
use spillway_plugins::prompt_log::{Compact, Level};

use super::answer_copy::AnswerCopy;
use super::copies::{Copied, Copies, Logged};
use super::offload::apart;
use crate::config::ConsumerLog;
use crate::gateway::Gateway;
use crate::prompt_log::{Entry, LONGEST_ANSWER, LONGEST_REQUEST, Part, PromptLog, SHORT};
use crate::request::{BufferShare, Facts, ReplayBody, Reply, RequestBody};
use crate::telemetry::access_log::{AccessLog, RequestLine};

/// Decides whether a request is logged, and how much of it.
pub(super) fn decide(facts: &Facts) -> Option<Box<Logged>> {
    let log = facts.runtime.prompt_log.as_ref().filter(|_| !facts.internal)?;
    let own = facts.consumer().map_or_else(ConsumerLog::default, |consumer| consumer.prompt_log);
    let level = own.level.unwrap_or(log.rules.level);
    let share = own.sample.unwrap_or(log.rules.sample);
    if level == Level::Off || (share < 1.0 && crate::random::with_rng(|rng| rng.f64()) >= share) {
        return None;
    }
    let share = facts.holding().map(|holding| Arc::clone(&holding.logged));
    Some(Box::new(Logged { level, answer: None, body: None, excerpt: None, share }))
}

/// Replaces a body that is too long for the log by an excerpt. This runs on a blocking thread, because it reads the
/// whole body.
pub(super) async fn shorten(gateway: &Gateway, facts: &Facts, request_body: &RequestBody, copies: &mut Copies) {
    let Some(body) = request_body.kept.as_ref().map(|body| body.bytes().clone()) else { return };
    let mut share = BufferShare::new(&gateway.buffered);
    // If there is no memory for it, the prompt is not logged.
    if !share.grow(LONGEST_REQUEST) {
        return;
    }
    let work = move || {
        let mut excerpt = Compact::new(LONGEST_REQUEST);
        excerpt.push(&body);
        excerpt
    };
    let excerpt = apart(&gateway.turns, facts.owner(), work).await;
    if let Some(logged) = &mut copies.logged {
        logged.excerpt = excerpt.ok().map(|excerpt| (excerpt, share));
    }
}

/// Whether a request is logged whose body is too long for the log.
pub(super) fn is_too_long(request_body: &RequestBody, copies: &Copies) -> bool {
    let long = |body: &ReplayBody| body.bytes().len() > LONGEST_REQUEST;
    copies.logged.as_ref().is_some_and(|logged| logged.level.has_content()) && request_body.kept.as_ref().is_some_and(long)
}

/// Whether a request's body is needed at its end.
pub(super) fn wants_body(request_body: &RequestBody, copies: &Copies) -> bool {
    let short = |body: &ReplayBody| body.bytes().len() <= LONGEST_REQUEST;
    copies.logged.as_ref().is_some_and(|logged| logged.level.has_content()) && request_body.kept.as_ref().is_some_and(short)
}

/// Takes an answer that comes in one piece, which is sent next. A short one is recorded when that is done, and needs no copy.
pub(super) fn record_whole(copies: &mut Copies, reply: &Reply, whole: &Bytes) {
    match &mut copies.logged {
        Some(logged) if logged.level.has_content() && logged.answer.is_none() && whole.len() <= SHORT => {
            logged.answer = Some(Copied::Whole(whole.clone()));
        }
        Some(_) => record(copies, reply, whole),
        None => {}
    }
}

/// Takes a piece of an answer as it is sent.
pub(super) fn record(copies: &mut Copies, reply: &Reply, piece: &Bytes) {
    let Some(logged) = copies.logged.as_mut().filter(|logged| logged.level.has_content()) else { return };
    let copied = logged.answer.get_or_insert_with(|| match reply.streamed {
        true => Copied::Stream(AnswerCopy::new(LONGEST_ANSWER)),
        false => Copied::Plain(Compact::new(LONGEST_ANSWER)),
    });
    match copied {
        Copied::Stream(record) => record.push(piece),
        Copied::Plain(compact) => compact.push(piece),
        // It would not be whole.
        Copied::Whole(_) => {}
    }
}

impl Copied {
    fn part(self) -> Option<Part> {
        match self {
            Copied::Stream(record) => {
                let cut = !record.is_whole();
                Some(record).filter(|record| !record.is_empty()).map(|record| Part { bytes: record.bytes(), cut })
            }
            Copied::Whole(bytes) => Some(bytes).filter(|bytes| !bytes.is_empty()).map(|bytes| Part { bytes, cut: false }),
            Copied::Plain(compact) => Some(compact).filter(|compact| !compact.is_empty()).map(part),
        }
    }
}

fn part(compact: Compact) -> Part {
    Part { cut: compact.is_cut(), bytes: compact.into_bytes().into() }
}

/// Takes the log's data, including the body, out of a request that has ended.
pub(super) fn take(body: &mut RequestBody, copies: &mut Copies) -> Option<Logged> {
    let wanted = wants_body(body, copies);
    let mut logged = copies.logged.take()?;
    logged.body = body.kept.take().filter(|_| wanted);
    Some(*logged)
}

/// Sends a request to both logs; `line` has everything else that is known of it. `answer`: the operation, and whether the answer is
/// a stream. `chosen`: the caller has chosen the request's id.
pub(super) fn write(
    log: &PromptLog,
    access_log: &AccessLog,
    logged: Logged,
    (api, streamed): (Api, bool),
    mut line: RequestLine<'_>,
    chosen: bool,
) {
    let answer = logged.answer.and_then(Copied::part);
    // The share of the buffer budget is given back: the log has its own limit.
    let body = logged.body.map(|body| Part { bytes: body.bytes().clone(), cut: false });
    let body = body.or_else(|| logged.excerpt.map(|(excerpt, _)| part(excerpt)));
    let entry = Entry { level: logged.level, api, body, answer, streamed, share: logged.share };
    log.write(entry, |record| {
        access_log.write_json(&line, record);
        // A caller's id may contain anything.
        if chosen && logged.level != Level::Full && matches!(log.rules.redactor.redact(line.id), Cow::Owned(_)) {
            line.id = "[redacted]";
            record.clear();
            line.write_json(record);
        }
    });
}

#[cfg(test)]
mod tests;
