//! Answers from the cache: a cached answer is sent at once; otherwise the answer is cached when it comes.

mod replay;
mod search;
mod sent_on;

use std::fmt::Write as _;
use std::sync::Arc;

use spillway_plugins::api::Api;

use crate::downstream::HeadFields;
use crate::downstream::Session;
use bytes::Bytes;
use spillway_plugins::answer::cost;
use spillway_plugins::cache::{Asked, CacheOwner, Directive, Entry, Suits, may_keep, may_suit};

use super::answer_copy::AnswerCopy;
use super::copies::{Cached, Copies, PendingEntry};
use super::intake_outcome::IntakeError;
use super::offload::{is_short, on_bytes};
use super::{guardrails, headers, transformed};
use crate::balance::route::Member;
use crate::cache::{AnswerCache, FlightState};
use crate::config::{BackendAuth, CacheNamespace};
use crate::gateway::Gateway;
use crate::request::{BufferShare, Facts, Metering, ModelRequest, Reply, RequestBody, Timing};
use crate::telemetry::metrics::CacheResult;
pub(super) use replay::{prepare, send};
use search::{Found, Similar, find, is_within, question_of, similar};

/// Whose cached answers a caller may get; `None` if it wants none.
fn owner(facts: &Facts) -> Option<CacheOwner<'_>> {
    let Some(consumer) = facts.consumer() else { return Some(CacheOwner::Anonymous) };
    Some(match consumer.cache.as_ref()? {
        CacheNamespace::Own => CacheOwner::Consumer(&consumer.name),
        CacheNamespace::Shared(name) => CacheOwner::Shared(name),
    })
}

/// The cache namespace of a request, and whether it is shared; `None` if the request may not be answered from the
/// cache.
fn place(session: &Session<'_>, facts: &Facts, model_request: &ModelRequest) -> Option<(String, bool)> {
    let owner = owner(facts).filter(|_| !facts.internal)?;
    // If the backend identifies users by the caller's credential, one consumer may be several people.
    let passes = |member: &Member| matches!(facts.runtime.backends[member.backend].config.auth, BackendAuth::Passthrough);
    if model_request.model.route.members().iter().any(passes) {
        return None;
    }
    let head = session.req_header();
    let mut namespace = owner.namespace();
    let seen = &mut namespace;
    seen.push_str(head.uri.query().unwrap_or(""));
    // What follows has no such sign: so no query can look like a head.
    seen.push('?');
    sent_on::write(seen, head, facts.allowed_headers());
    seen.extend(transformed::head_changes(facts, model_request));
    // An answer that was checked by other rules, or not at all, is not for this caller.
    if let Some(rules) = guardrails::fingerprint(facts) {
        // Writing to a text can't fail.
        let _ = write!(seen, "guard={rules:x};");
    }
    Some((namespace, owner.is_shared()))
}

/// The result of a cache lookup.
pub(super) struct LookedUp {
    /// What the cache did for the request.
    pub(super) cached: Box<Cached>,
    /// The answer, if it was found.
    pub(super) answer: Option<Arc<Entry>>,
}

/// Looks for an answer: in the cache, or with another request that is asking for it now.
pub(super) async fn look_up(
    gateway: &Gateway,
    session: &mut Session<'_>,
    facts: &Facts,
    request_body: &RequestBody,
    timing: &mut Timing,
    model_request: &ModelRequest,
) -> Result<Option<LookedUp>, IntakeError> {
    let (Some(cache), Some(body)) = (&facts.runtime.cache, &request_body.kept) else { return Ok(None) };
    let directive = Directive::of(&session.req_header().headers);
    let Some((namespace, shared)) = place(session, facts, model_request) else { return Ok(None) };
    let (api, model) = (model_request.api, Arc::clone(&model_request.model));
    let fields = &model_request.fields;
    if !may_suit(api, body.bytes().len(), &fields.references, fields.refers_deeper, shared) {
        return Ok(None);
    }
    let kind = cache.key_kind();
    let asked = move |body: &[u8]| {
        let asked = Asked::read(&kind, &namespace, api, &model.name, body);
        (namespace, asked)
    };
    let (namespace, asked) = on_bytes(&gateway.turns, || facts.owner(), body.bytes(), asked).await?;
    let Some((key, suits)) = asked.map(|asked| (asked.key, asked.offers.suits())).filter(|(_, suits)| *suits != Suits::Not) else {
        return Ok(None);
    };
    let awaited = cache.rules.keeping.tool_calls || suits == Suits::Well;
    let record = directive.write.then(|| AnswerCopy::new(cache.rules.max_answer));
    let result = if directive.read || directive.write { CacheResult::Miss } else { CacheResult::Bypass };
    let mut cached = Box::new(Cached { key, result, score: None, flight: None, record, lesson: None });
    if directive.read {
        match find(gateway, cache, session, (facts, timing), |entry| is_within(facts, model_request, entry), key, awaited).await? {
            Found::Answer(entry) => {
                cached.result = CacheResult::Hit;
                return Ok(Some(LookedUp { cached, answer: Some(entry) }));
            }
            Found::Lead(flight) => cached.flight = Some(flight),
            Found::Nothing => {}
        }
        if let Some(semantic) = &cache.semantic {
            let similar = match question_of(gateway, semantic, facts, body.bytes(), model_request, &namespace).await? {
                Some(question) => {
                    let began = gateway.clock.now();
                    let within = |entry: &Entry| is_within(facts, model_request, entry);
                    let similar = similar(gateway, cache, semantic, session, facts, within, question).await?;
                    timing.waited += gateway.clock.now().since(began);
                    similar
                }
                None => Similar::Unknown(None),
            };
            match similar {
                Similar::Answer(near) => {
                    cached.result = CacheResult::Semantic;
                    cached.score = Some(near.score);
                    // Another question may be more similar to the waiting ones.
                    cached.flight = None;
                    return Ok(Some(LookedUp { cached, answer: Some(near.entry) }));
                }
                Similar::Unknown(lesson) => cached.lesson = lesson,
            }
        }
    }
    cache.metrics.count(result);
    Ok(Some(LookedUp { cached, answer: None }))
}

/// The answer will not be cached, and requests that wait for it ask by themselves.
pub(super) fn forget(copies: &mut Copies) {
    if let Some(cached) = &mut copies.cached {
        cached.record = None;
        if let Some(flight) = cached.flight.take() {
            flight.end(FlightState::NotKept);
        }
    }
}

/// Adds what the cache did to the caller's answer.
pub(super) fn describe(copies: &Copies, head: &mut impl HeadFields) {
    if let Some(cached) = &copies.cached {
        head.set(&headers::X_SPILLWAY_CACHE, cached.result.label().as_bytes());
        if let Some(score) = cached.score {
            head.set(&headers::X_SPILLWAY_CACHE_SCORE, format!("{score:.3}").as_bytes());
        }
    }
}

/// Takes an answer that comes in one piece, which is sent next.
pub(super) fn record_whole(copies: &mut Copies, whole: &Bytes) {
    if let Some(record) = copies.cached.as_mut().and_then(|cached| cached.record.as_mut()) {
        record.take(whole);
    }
}

/// Takes a piece of an answer as it is sent. An answer that is too long is not cached.
pub(super) fn record(copies: &mut Copies, piece: &Bytes) {
    let Some(cached) = &mut copies.cached else { return };
    if let Some(record) = &mut cached.record {
        record.push(piece);
    }
    cached.record = cached.record.take().filter(AnswerCopy::is_whole);
}

/// A whole answer, and what is known of it.
pub(super) struct Whole<'w> {
    pub(super) facts: &'w Facts,
    pub(super) metering: &'w Metering,
    pub(super) reply: &'w Reply,
    /// The operation.
    pub(super) api: Api,
    /// The backend that answered.
    pub(super) backend: &'w Arc<str>,
}

/// The answer is whole, and its last bytes are sent next: caches it, and lets the requests that wait for it continue.
/// `hidden` is the data of an event that this caller didn't ask for, but another one may.
pub(super) async fn keep(gateway: &Gateway, whole: Whole<'_>, copies: &mut Copies, hidden: Option<Bytes>) {
    let (Some(cache), Some(cached)) = (&whole.facts.runtime.cache, &mut copies.cached) else { return };
    let record = cached.record.take().filter(|record| whole.reply.status == Some(200) && record.is_whole()).map(AnswerCopy::bytes);
    let body = record.map(|body| hidden.map_or_else(|| body.clone(), |data| with_event(&body, &data)));
    let (api, streamed, keeping) = (whole.api, whole.reply.streamed, cache.rules.keeping);
    let may = move |body: &[u8]| may_keep(api, body, streamed, keeping);
    let may_keep = match &body {
        // It is read at once, and becomes no tree of owned values: that takes little memory, and not for long.
        Some(body) if !streamed && is_short(body) => may(body),
        Some(body) => {
            let mut share = BufferShare::new(&gateway.buffered);
            // On the heap, so that short answers don't reserve memory for it.
            share.grow(cost(body)) && Box::pin(on_bytes(&gateway.turns, || whole.facts.owner(), body, may)).await == Ok(true)
        }
        None => false,
    };
    let body = body.filter(|_| may_keep);
    let state = if body.is_some() { FlightState::Stored } else { FlightState::NotKept };
    if let Some(body) = body {
        store(gateway, cache, cached, &whole, body);
    }
    if let Some(flight) = cached.flight.take() {
        flight.end(state);
    }
}

/// Caches an answer.
fn store(gateway: &Gateway, cache: &AnswerCache, cached: &mut Cached, whole: &Whole<'_>, body: Bytes) {
    let now = gateway.clock.wall_millis();
    let usage = whole.metering.usage.map(|metered| metered.usage).unwrap_or_default();
    let mut entry = Entry {
        streamed: whole.reply.streamed,
        backend: Arc::clone(whole.backend),
        kept_at: now,
        good_until: Entry::until(now, cache.rules.ttl),
        input: usage.input,
        output: usage.output,
        body,
    };
    if let (Some(semantic), Some(PendingEntry { question, vector })) = (&cache.semantic, cached.lesson.take()) {
        // It may be a part of something larger, which would be kept with it.
        entry.body = Bytes::copy_from_slice(&entry.body);
        semantic.learn(question, vector, &entry, now);
        cache.metrics.questions.set(i64::try_from(semantic.len()).unwrap_or(i64::MAX));
    }
    cache.put(cached.key, entry);
}

/// A stream with one more event before its end: the one that reports the usage.
fn with_event(stream: &[u8], data: &[u8]) -> Bytes {
    let end = memchr::memmem::rfind(stream, b"data: [DONE]").unwrap_or(stream.len());
    [&stream[..end], b"data: ", data, b"\n\n", &stream[end..]].concat().into()
}

#[cfg(test)]
mod tests;
