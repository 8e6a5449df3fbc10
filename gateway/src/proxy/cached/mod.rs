//! Is the answer known already? Then it is given at once; otherwise it is kept when it comes.

mod replay;
mod search;

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use spillway_plugins::answer::cost;
use spillway_plugins::cache::semantic::Question;
use spillway_plugins::cache::{CacheKey, Directive, Entry, Owner, Suits, key, may_keep, suits};

use super::ctx::RequestCtx;
use super::offload::on_bytes;
use super::record::Record;
use super::step::{Next, Stop};
use super::{Gateway, guarded, headers};
use crate::balance::route::Member;
use crate::cache::{Flight, State};
use crate::config::{BackendAuth, CacheNamespace};
use crate::request::BufferShare;
use crate::request::Inquiry;
use crate::telemetry::metrics::CacheResult;
use replay::answer;
use search::{Found, Similar, find, similar};

/// How a request stands with the cache.
#[derive(Debug)]
pub struct Cached {
    key: CacheKey,
    /// What the caller is told.
    pub result: CacheResult,
    /// How near the question was whose answer it gets.
    score: Option<f32>,
    /// Those who wait for the answer.
    flight: Option<Flight>,
    /// The answer as it goes out, if it may be kept.
    record: Option<Record>,
    /// What the semantic cache learns with it.
    lesson: Option<Lesson>,
}

/// A question and its embedding.
#[derive(Debug)]
struct Lesson {
    question: Question,
    vector: Arc<[f32]>,
}

/// Whose answers a caller gets; nobody's, if it doesn't want any.
fn owner(ctx: &RequestCtx) -> Option<Owner<'_>> {
    let Some(consumer) = ctx.facts.consumer() else { return Some(Owner::Anonymous) };
    Some(match consumer.cache.as_ref()? {
        CacheNamespace::Own => Owner::Consumer(&consumer.name),
        CacheNamespace::Shared(name) => Owner::Shared(name),
    })
}

/// Headers that change what is answered.
const SEEN: [&str; 3] = ["anthropic-beta", "anthropic-version", "openai-beta"];

/// The namespace of a request that may be answered from the cache, and whether that is shared.
fn place(session: &Session, ctx: &RequestCtx, inquiry: &Inquiry) -> Option<(String, bool)> {
    let owner = owner(ctx).filter(|_| !ctx.facts.internal)?;
    // Behind one key there may be different people at a backend that tells them apart.
    let passes = |member: &Member| matches!(ctx.facts.runtime.backends[member.backend].config.auth, BackendAuth::Passthrough);
    if inquiry.model.route.members().iter().any(passes) {
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
    if let Some(rules) = guarded::fingerprint(ctx) {
        seen += &format!("guard={rules:x};");
    }
    Some((owner.namespace(&seen), owner.is_shared()))
}

/// Answers a request from the cache, if its answer is there, or comes while another request asks for it.
pub(super) async fn look_up(gateway: &Gateway, session: &mut Session, ctx: &mut RequestCtx) -> Result<Next, Stop> {
    let (Some(cache), Some(inquiry), Some(body)) = (ctx.facts.runtime.cache.clone(), &ctx.inquiry, &ctx.body.kept) else {
        return Ok(Next::Attempt);
    };
    let directive = Directive::of(&session.req_header().headers);
    let Some((namespace, shared)) = place(session, ctx, inquiry) else { return Ok(Next::Attempt) };
    let (api, model) = (inquiry.api, Arc::clone(&inquiry.model));
    let (references, deeper) = (inquiry.fields.references.clone(), inquiry.fields.refers_deeper);
    let named = move |body: &[u8]| {
        let suits = suits(api, body, &references, deeper, shared);
        let key = key(&namespace, api, &model.name, body).filter(|_| suits != Suits::Not);
        (namespace, suits, key)
    };
    let (namespace, suits, key) = on_bytes(&gateway.turns, || ctx.facts.owner(), body.bytes(), named).await?;
    let Some(key) = key else { return Ok(Next::Attempt) };
    let awaited = cache.rules.keeping.tool_calls || suits == Suits::Well;
    let record = directive.write.then(|| Record::new(cache.rules.max_answer));
    let result = if directive.read || directive.write { CacheResult::Miss } else { CacheResult::Bypass };
    let mut cached = Box::new(Cached { key, result, score: None, flight: None, record, lesson: None });
    if directive.read {
        match find(gateway, &cache, session, ctx, key, awaited).await? {
            Found::Answer(entry) => {
                cached.result = CacheResult::Hit;
                ctx.copies.cached = Some(cached);
                return answer(gateway, &cache, session, ctx, &entry).await;
            }
            Found::Lead(flight) => cached.flight = Some(flight),
            Found::Nothing => {}
        }
        if let Some(semantic) = &cache.semantic {
            match similar(gateway, &cache, semantic, session, ctx, &namespace).await? {
                Similar::Answer(near) => {
                    cached.result = CacheResult::Semantic;
                    cached.score = Some(near.score);
                    // Others may have asked something nearer to them.
                    cached.flight = None;
                    ctx.copies.cached = Some(cached);
                    return answer(gateway, &cache, session, ctx, &near.entry).await;
                }
                Similar::Unknown(lesson) => cached.lesson = lesson,
            }
        }
    }
    cache.metrics.count(result);
    ctx.copies.cached = Some(cached);
    Ok(Next::Attempt)
}

/// The answer is not to be kept, and those who wait for it ask by themselves.
pub(super) fn forget(ctx: &mut RequestCtx) {
    if let Some(cached) = &mut ctx.copies.cached {
        cached.record = None;
        if let Some(flight) = cached.flight.take() {
            flight.end(State::NotKept);
        }
    }
}

/// Tells the caller how its request stands with the cache.
pub(super) fn describe(ctx: &RequestCtx, head: &mut ResponseHeader) {
    if let Some(cached) = &ctx.copies.cached {
        let _ = head.insert_header(headers::X_SPILLWAY_CACHE, HeaderValue::from_static(cached.result.label()));
        if let Some(score) = cached.score {
            let _ = head.insert_header(headers::X_SPILLWAY_CACHE_SCORE, format!("{score:.3}"));
        }
    }
}

/// Takes a piece of an answer as it goes out. One that is too long is not kept.
pub(super) fn record(ctx: &mut RequestCtx, piece: &Bytes) {
    let Some(cached) = &mut ctx.copies.cached else { return };
    if let Some(record) = &mut cached.record {
        record.push(piece);
    }
    cached.record = cached.record.take().filter(Record::is_whole);
}

/// The answer is whole, and its last bytes go out next: keeps it, and lets those go on who wait for it.
/// `hidden` is the data of an event that its caller didn't ask for, and another one may.
pub(super) async fn keep(gateway: &Gateway, ctx: &mut RequestCtx, inquiry: &Inquiry, member: usize, hidden: Option<Bytes>) {
    let owner = ctx.facts.owner();
    let (Some(cache), Some(cached)) = (&ctx.facts.runtime.cache, &mut ctx.copies.cached) else { return };
    let (flight, record) = (cached.flight.take(), cached.record.take());
    let whole = record.filter(|record| ctx.reply.status == Some(200) && record.is_whole()).map(Record::bytes);
    let whole = whole.map(|body| hidden.map_or_else(|| body.clone(), |data| with_event(&body, &data)));
    let mut share = BufferShare::new(&gateway.buffered);
    let whole = whole.filter(|body| share.grow(cost(body)));
    let body = match whole {
        Some(body) => {
            let (api, streamed, keeping) = (inquiry.api, ctx.reply.streamed, cache.rules.keeping);
            let may = on_bytes(&gateway.turns, || owner, &body, move |body| may_keep(api, body, streamed, keeping)).await;
            Some(body).filter(|_| may == Ok(true))
        }
        None => None,
    };
    let state = if body.is_some() { State::Landed } else { State::NotKept };
    if let Some(body) = body {
        let member = &inquiry.model.route.members()[member];
        let now = gateway.clock.wall().timestamp_millis();
        let usage = ctx.metering.usage.map(|metered| metered.usage).unwrap_or_default();
        let entry = Entry {
            streamed: ctx.reply.streamed,
            backend: Arc::clone(&member.target.id.backend),
            kept_at: now,
            good_until: Entry::until(now, cache.rules.ttl),
            input: usage.input,
            output: usage.output,
            body,
        };
        if let (Some(semantic), Some(Lesson { question, vector })) = (&cache.semantic, cached.lesson.take()) {
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
