//! Is the answer known already? Then it is given at once; otherwise it is kept when it comes.

mod replay;
mod search;

use spillway_plugins::api::Api;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use spillway_plugins::answer::cost;
use spillway_plugins::cache::{Directive, Entry, Owner, Suits, key, may_keep, suits};

use super::copies::{Cached, Copies, PendingEntry};
use super::intake_outcome::IntakeError;
use super::offload::on_bytes;
use super::record::Record;
use super::{guardrails, headers};
use crate::balance::route::Member;
use crate::cache::State;
use crate::config::{BackendAuth, CacheNamespace};
use crate::gateway::Gateway;
use crate::request::{BufferShare, Facts, Metering, ModelRequest, Reply, RequestBody, Timing};
use crate::telemetry::metrics::CacheResult;
pub(super) use replay::{prepare, send};
use search::{Found, Similar, find, is_within, question_of, similar};

/// Whose answers a caller gets; nobody's, if it doesn't want any.
fn owner(facts: &Facts) -> Option<Owner<'_>> {
    let Some(consumer) = facts.consumer() else { return Some(Owner::Anonymous) };
    Some(match consumer.cache.as_ref()? {
        CacheNamespace::Own => Owner::Consumer(&consumer.name),
        CacheNamespace::Shared(name) => Owner::Shared(name),
    })
}

/// Headers that change what is answered.
const SEEN: [&str; 3] = ["anthropic-beta", "anthropic-version", "openai-beta"];

/// The namespace of a request that may be answered from the cache, and whether that is shared.
fn place(session: &Session, facts: &Facts, model_request: &ModelRequest) -> Option<(String, bool)> {
    let owner = owner(facts).filter(|_| !facts.internal)?;
    // Behind one key there may be different people at a backend that tells them apart.
    let passes = |member: &Member| matches!(facts.runtime.backends[member.backend].config.auth, BackendAuth::Passthrough);
    if model_request.model.route.members().iter().any(passes) {
        return None;
    }
    let head = session.req_header();
    let mut seen = format!("{}?", head.uri.query().unwrap_or(""));
    for name in SEEN {
        for value in head.headers.get_all(name) {
            seen += &format!("{name}={:?};", value.as_bytes());
        }
    }
    // What was looked at by other rules, or by none, is for others.
    if let Some(rules) = guardrails::fingerprint(facts) {
        seen += &format!("guard={rules:x};");
    }
    Some((owner.namespace(&seen), owner.is_shared()))
}

/// What looking for an answer led to.
pub(super) struct LookedUp {
    /// How the request stands with the cache.
    pub(super) cached: Box<Cached>,
    /// The answer, if it was found.
    pub(super) answer: Option<Arc<Entry>>,
}

/// Looks for the answer of a request: in the cache, or with another request that asks for it now.
pub(super) async fn look_up(
    gateway: &Gateway,
    session: &mut Session,
    facts: &Facts,
    request_body: &RequestBody,
    timing: &mut Timing,
    model_request: &ModelRequest,
) -> Result<Option<LookedUp>, IntakeError> {
    let (Some(cache), Some(body)) = (&facts.runtime.cache, &request_body.kept) else { return Ok(None) };
    let directive = Directive::of(&session.req_header().headers);
    let Some((namespace, shared)) = place(session, facts, model_request) else { return Ok(None) };
    let (api, model) = (model_request.api, Arc::clone(&model_request.model));
    let (references, deeper) = (model_request.fields.references.clone(), model_request.fields.refers_deeper);
    let named = move |body: &[u8]| {
        let suits = suits(api, body, &references, deeper, shared);
        let key = key(&namespace, api, &model.name, body).filter(|_| suits != Suits::Not);
        (namespace, suits, key)
    };
    let (namespace, suits, key) = on_bytes(&gateway.turns, || facts.owner(), body.bytes(), named).await?;
    let Some(key) = key else { return Ok(None) };
    let awaited = cache.rules.keeping.tool_calls || suits == Suits::Well;
    let record = directive.write.then(|| Record::new(cache.rules.max_answer));
    let result = if directive.read || directive.write { CacheResult::Miss } else { CacheResult::Bypass };
    let mut cached = Box::new(Cached { key, result, score: None, flight: None, record, lesson: None });
    if directive.read {
        match find(gateway, cache, session, timing, |entry| is_within(facts, model_request, entry), key, awaited).await? {
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
                    // Others may have asked something nearer to them.
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

/// The answer is not to be kept, and those who wait for it ask by themselves.
pub(super) fn forget(copies: &mut Copies) {
    if let Some(cached) = &mut copies.cached {
        cached.record = None;
        if let Some(flight) = cached.flight.take() {
            flight.end(State::NotKept);
        }
    }
}

/// Tells the caller how its request stands with the cache.
pub(super) fn describe(copies: &Copies, head: &mut ResponseHeader) {
    if let Some(cached) = &copies.cached {
        let _ = head.insert_header(headers::X_SPILLWAY_CACHE, HeaderValue::from_static(cached.result.label()));
        if let Some(score) = cached.score {
            let _ = head.insert_header(headers::X_SPILLWAY_CACHE_SCORE, format!("{score:.3}"));
        }
    }
}

/// Takes a piece of an answer as it goes out. One that is too long is not kept.
pub(super) fn record(copies: &mut Copies, piece: &Bytes) {
    let Some(cached) = &mut copies.cached else { return };
    if let Some(record) = &mut cached.record {
        record.push(piece);
    }
    cached.record = cached.record.take().filter(Record::is_whole);
}

/// The answer is whole, and its last bytes go out next: keeps it, and lets those go on who wait for it.
/// `target` is the operation and the backend that answered it; `hidden` is the data of an event that its caller didn't ask for, and another one may.
pub(super) async fn keep(
    gateway: &Gateway,
    facts: &Facts,
    metering: &Metering,
    copies: &mut Copies,
    reply: &Reply,
    target: (Api, &Arc<str>),
    hidden: Option<Bytes>,
) {
    let (api, backend) = target;
    let owner = facts.owner();
    let (Some(cache), Some(cached)) = (&facts.runtime.cache, &mut copies.cached) else { return };
    let (flight, record) = (cached.flight.take(), cached.record.take());
    let whole = record.filter(|record| reply.status == Some(200) && record.is_whole()).map(Record::bytes);
    let whole = whole.map(|body| hidden.map_or_else(|| body.clone(), |data| with_event(&body, &data)));
    let mut share = BufferShare::new(&gateway.buffered);
    let whole = whole.filter(|body| share.grow(cost(body)));
    let body = match whole {
        Some(body) => {
            let (streamed, keeping) = (reply.streamed, cache.rules.keeping);
            let may = on_bytes(&gateway.turns, || owner, &body, move |body| may_keep(api, body, streamed, keeping)).await;
            Some(body).filter(|_| may == Ok(true))
        }
        None => None,
    };
    let state = if body.is_some() { State::Landed } else { State::NotKept };
    if let Some(body) = body {
        let now = gateway.clock.wall().timestamp_millis();
        let usage = metering.usage.map(|metered| metered.usage).unwrap_or_default();
        let entry = Entry {
            streamed: reply.streamed,
            backend: Arc::clone(backend),
            kept_at: now,
            good_until: Entry::until(now, cache.rules.ttl),
            input: usage.input,
            output: usage.output,
            body,
        };
        if let (Some(semantic), Some(PendingEntry { question, vector })) = (&cache.semantic, cached.lesson.take()) {
            semantic.learn(question, vector, &entry, now);
            cache.metrics.questions.set(i64::try_from(semantic.len()).unwrap_or(i64::MAX));
        }
        cache.put(cached.key, entry);
    }
    if let Some(flight) = flight {
        flight.end(state);
    }
}

/// A stream with one more event before its end, where the usage is told.
fn with_event(stream: &[u8], data: &[u8]) -> Bytes {
    let end = memchr::memmem::rfind(stream, b"data: [DONE]").unwrap_or(stream.len());
    [&stream[..end], b"data: ", data, b"\n\n", &stream[end..]].concat().into()
}

#[cfg(test)]
mod tests;
