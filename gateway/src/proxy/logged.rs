//! What the prompt log gets of a request.

use std::borrow::Cow;

use bytes::Bytes;
use spillway_plugins::api::Api;
use spillway_plugins::prompt_log::Level;

use super::ctx::RequestCtx;
use super::record::Record;
use super::replay::ReplayBody;
use crate::config::ConsumerLog;
use crate::prompt_log::{Entry, LONGEST_ANSWER, LONGEST_REQUEST, PromptLog};
use crate::telemetry::access_log::RequestLine;

/// A request that is written down.
#[derive(Debug)]
pub struct Logged {
    level: Level,
    /// The answer as it goes out.
    record: Option<Record>,
    /// The request's body, once it is over.
    body: Option<ReplayBody>,
}

/// Decides whether a request is written down, and how much of it.
pub(super) fn decide(ctx: &mut RequestCtx) {
    let Some(log) = ctx.runtime.prompt_log.as_ref().filter(|_| !ctx.internal) else { return };
    let own = ctx.consumer().map_or_else(ConsumerLog::default, |consumer| consumer.prompt_log);
    let level = own.level.unwrap_or(log.rules.level);
    let share = own.sample.unwrap_or(log.rules.sample);
    if level == Level::Off || (share < 1.0 && super::with_rng(|rng| rng.f64()) >= share) {
        return;
    }
    let record = level.has_content().then(|| Record::new(LONGEST_ANSWER));
    ctx.logged = Some(Box::new(Logged { level, record, body: None }));
}

/// Whether a request's body is wanted when it is over.
pub(super) fn wants_body(ctx: &RequestCtx) -> bool {
    let short = |body: &ReplayBody| body.bytes().len() <= LONGEST_REQUEST;
    ctx.logged.as_ref().is_some_and(|logged| logged.level.has_content()) && ctx.body.as_ref().is_some_and(short)
}

/// Takes a piece of an answer as it goes out.
pub(super) fn record(ctx: &mut RequestCtx, piece: &Bytes) {
    if let Some(record) = ctx.logged.as_mut().and_then(|logged| logged.record.as_mut()) {
        record.push(piece);
    }
}

/// Takes out of a request that is over what the log gets of it, its body included.
pub(super) fn take(ctx: &mut RequestCtx) -> Option<Logged> {
    let wanted = wants_body(ctx);
    let mut logged = ctx.logged.take()?;
    logged.body = ctx.body.take().filter(|_| wanted);
    Some(*logged)
}

/// Hands a request to the log; `line` is what else is known of it.
pub(super) fn write(log: &PromptLog, logged: Logged, api: Api, streamed: bool, line: &RequestLine<'_>) {
    let mut line = line.clone();
    // A caller chooses its id: it may be anything.
    if logged.level != Level::Full && matches!(log.rules.redactor.redact(line.id), Cow::Owned(_)) {
        line.id = "[redacted]";
    }
    // Numbers and texts can always be written.
    let Ok(facts) = serde_json::to_vec(&line) else { return };
    let answer = logged.record.filter(|record| !record.is_empty()).map(|record| (record.bytes(), streamed));
    // The share of the room for bodies goes back: the log has a bound of its own.
    let body = logged.body.map(|body| body.bytes().clone());
    log.write(Entry { level: logged.level, facts, api, body, answer });
}
