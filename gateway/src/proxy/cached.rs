//! Is the answer known already? Then it is given at once; otherwise it is kept when it comes.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::protocols::http::HttpTask;
use pingora::proxy::Session;
use spillway_plugins::answer;
use spillway_plugins::api::Api;
use spillway_plugins::cache::semantic::{Near, Question, question};
use spillway_plugins::cache::{CacheKey, Directive, Entry, Suits, key, may_keep, suits};
use spillway_plugins::request::StreamOptions;

use super::ctx::{End, Inquiry, RequestCtx};
use super::record::Record;
use super::step::{Next, Stop};
use super::{Gateway, guarded, headers, logged, metering, respond, transformed};
use crate::balance::route::Member;
use crate::cache::semantic::SemanticCache;
use crate::cache::{AnswerCache, Boarding, Flight, State};
use crate::config::{BackendAuth, CacheNamespace};
use crate::telemetry::metrics::CacheResult;

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

/// Whose answers a caller gets, and whether others get them, too. Nobody's, if it doesn't want any.
fn namespace(ctx: &RequestCtx) -> Option<(String, bool)> {
    let Some(consumer) = ctx.consumer() else { return Some(("anonymous:".to_owned(), true)) };
    match consumer.cache.as_ref()? {
        CacheNamespace::Own => Some((format!("consumer:{}", consumer.name), false)),
        CacheNamespace::Shared(name) => Some((format!("shared:{name}"), true)),
    }
}

/// Headers that change what is answered.
const SEEN: [&str; 3] = ["anthropic-beta", "anthropic-version", "openai-beta"];

/// The namespace of a request that may be answered from the cache, and whether others may wait for its answer.
fn place(session: &Session, ctx: &RequestCtx, inquiry: &Inquiry, body: &[u8], tools: bool) -> Option<(String, bool)> {
    let (namespace, shared) = namespace(ctx).filter(|_| !ctx.internal)?;
    let fields = &inquiry.fields;
    let suits = suits(inquiry.api, body, &fields.references, fields.refers_deeper, shared);
    // Behind one key there may be different people at a backend that tells them apart.
    let passes = |member: &Member| matches!(ctx.runtime.backends[member.backend].config.auth, BackendAuth::Passthrough);
    if suits == Suits::Not || inquiry.model.route.members().iter().any(passes) {
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
    let guard = guarded::fingerprint(ctx).map_or_else(String::new, |rules| format!("guard:{rules:x}:"));
    Some((format!("{guard}{seen}{namespace}"), tools || suits == Suits::Well))
}

/// Answers a request from the cache, if its answer is there, or comes while another request asks for it.
pub(super) async fn look_up(gateway: &Gateway, session: &mut Session, ctx: &mut RequestCtx) -> Result<Next, Stop> {
    let (Some(cache), Some(inquiry), Some(body)) = (&gateway.cache, &ctx.inquiry, &ctx.body) else { return Ok(Next::Attempt) };
    let directive = Directive::of(&session.req_header().headers);
    let placed = place(session, ctx, inquiry, body.bytes(), cache.rules.keeping.tool_calls);
    let Some((namespace, awaited)) = placed else { return Ok(Next::Attempt) };
    let Some(key) = key(&namespace, inquiry.api, &inquiry.model.name, body.bytes()) else { return Ok(Next::Attempt) };
    let record = directive.write.then(|| Record::new(cache.rules.max_answer));
    let result = if directive.read || directive.write { CacheResult::Miss } else { CacheResult::Bypass };
    let mut cached = Box::new(Cached { key, result, score: None, flight: None, record, lesson: None });
    if directive.read {
        match find(gateway, cache, session, ctx, key, awaited).await? {
            Found::Answer(entry) => {
                cached.result = CacheResult::Hit;
                ctx.cached = Some(cached);
                return answer(gateway, cache, session, ctx, &entry).await;
            }
            Found::Lead(flight) => cached.flight = Some(flight),
            Found::Nothing => {}
        }
        if let Some(semantic) = &cache.semantic {
            match similar(gateway, cache, semantic, session, ctx, &namespace).await? {
                Similar::Answer(near) => {
                    cached.result = CacheResult::Semantic;
                    cached.score = Some(near.score);
                    // Others may have asked something nearer to them.
                    cached.flight = None;
                    ctx.cached = Some(cached);
                    return answer(gateway, cache, session, ctx, &near.entry).await;
                }
                Similar::Unknown(lesson) => cached.lesson = lesson,
            }
        }
    }
    cache.metrics.count(result);
    ctx.cached = Some(cached);
    Ok(Next::Attempt)
}

/// What a search for similar questions came to.
enum Similar {
    /// The answer to one.
    Answer(Near),
    /// None; what is to be learnt once the answer is there.
    Unknown(Option<Lesson>),
}

async fn similar(
    gateway: &Gateway,
    cache: &AnswerCache,
    semantic: &SemanticCache,
    session: &mut Session,
    ctx: &mut RequestCtx,
    namespace: &str,
) -> Result<Similar, Stop> {
    let (Some(inquiry), Some(body)) = (&ctx.inquiry, &ctx.body) else { return Ok(Similar::Unknown(None)) };
    let question = question(namespace, inquiry.api, &inquiry.model.name, body.bytes(), semantic.rules.scoping);
    let Some(question) = question else { return Ok(Similar::Unknown(None)) };
    let began = gateway.clock.now();
    let embedded = tokio::select! {
        biased;
        embedded = semantic.embed(&gateway.internal, &question.text, ctx.caller.clone(), &ctx.id) => embedded,
        _ = session.downstream_session.read_body_or_idle(true) => return Err(Stop::CallerLeft),
    };
    ctx.waited += gateway.clock.now().since(began);
    match embedded {
        Ok(vector) => {
            let now = gateway.clock.wall().timestamp_millis();
            let near = semantic.find(&question, &vector, now, &cache.metrics, |entry| is_within(ctx, entry));
            Ok(near.map_or(Similar::Unknown(Some(Lesson { question, vector })), Similar::Answer))
        }
        Err(error) => {
            semantic.embedding_failed(&error, &cache.metrics);
            Ok(Similar::Unknown(None))
        }
    }
}

/// What a search came to.
enum Found {
    /// The answer.
    Answer(Arc<Entry>),
    /// Nothing: others wait for this request to bring it.
    Lead(Flight),
    /// Nothing, and nobody waits.
    Nothing,
}

async fn find(
    gateway: &Gateway,
    cache: &AnswerCache,
    session: &mut Session,
    ctx: &mut RequestCtx,
    key: CacheKey,
    awaited: bool,
) -> Result<Found, Stop> {
    let now = || gateway.clock.wall().timestamp_millis();
    if let Some(entry) = cache.get(&key, now()).filter(|entry| is_within(ctx, entry)) {
        return Ok(Found::Answer(entry));
    }
    if !awaited {
        let entry = if cache.is_shared() { cache.fetch(&key, now()).await } else { None };
        return Ok(entry.filter(|entry| is_within(ctx, entry)).map_or(Found::Nothing, Found::Answer));
    }
    let began = gateway.clock.now();
    let patience = cache.patience();
    loop {
        let mut flight = match cache.board(key) {
            Boarding::Lead(flight) => {
                // It may have landed in between; and another node may have the answer.
                let mut entry = cache.get(&key, now());
                if entry.is_none() && cache.is_shared() {
                    let began = gateway.clock.now();
                    entry = cache.fetch(&key, now()).await;
                    ctx.waited += gateway.clock.now().since(began);
                }
                return Ok(match entry.filter(|entry| is_within(ctx, entry)) {
                    Some(entry) => {
                        flight.end(State::Landed);
                        Found::Answer(entry)
                    }
                    None => Found::Lead(flight),
                });
            }
            Boarding::Follow(flight) => flight,
        };
        let waiting = gateway.clock.now();
        let left = patience.saturating_sub(waiting.since(began));
        let ended = tokio::select! {
            biased;
            state = flight.wait_for(|state| *state != State::Flying) => state.ok().map(|state| *state),
            _ = session.downstream_session.read_body_or_idle(true) => return Err(Stop::CallerLeft),
            () = tokio::time::sleep(left) => Some(State::NotKept),
        };
        ctx.waited += gateway.clock.now().since(waiting);
        match ended {
            Some(State::Landed) => {
                let entry = cache.get(&key, now()).filter(|entry| is_within(ctx, entry));
                return Ok(entry.map_or(Found::Nothing, Found::Answer));
            }
            Some(State::NotKept | State::Flying) => return Ok(Found::Nothing),
            // The one who asked gave up: somebody else does.
            None => {}
        }
    }
}

/// The answer is not to be kept, and those who wait for it ask by themselves.
pub(super) fn forget(ctx: &mut RequestCtx) {
    if let Some(cached) = &mut ctx.cached {
        cached.record = None;
        if let Some(flight) = cached.flight.take() {
            flight.end(State::NotKept);
        }
    }
}

/// Whether an answer comes from where its model is still served, and its caller may be served from.
fn is_within(ctx: &RequestCtx, entry: &Entry) -> bool {
    let members = ctx.inquiry.as_ref().map_or(&[][..], |inquiry| inquiry.model.route.members());
    let Some(member) = members.iter().find(|member| member.target.id.backend == entry.backend) else { return false };
    let fence = ctx.consumer().and_then(|consumer| consumer.rights.locations.as_ref());
    fence.is_none_or(|allowed| member.location.as_ref().is_some_and(|location| allowed.contains(location)))
}

/// Whether the caller wants a stream's usage told.
fn wants_usage(inquiry: &Inquiry) -> bool {
    inquiry.fields.stream_options == StreamOptions::UsageAsked
}

/// The kept answer in the form that this caller asked for, if it can be had from what is kept.
fn replay(inquiry: &Inquiry, entry: &Entry) -> Option<Bytes> {
    let (api, body) = (inquiry.api, &entry.body);
    match (entry.streamed, inquiry.fields.stream) {
        (false, false) => Some(body.clone()),
        (false, true) if api == Api::Embeddings => Some(body.clone()),
        (false, true) => answer::to_stream(api, body, wants_usage(inquiry)),
        (true, true) => answer::with_usage(api, body, wants_usage(inquiry)),
        // Who asks plainly is told the usage, too.
        (true, false) => answer::with_usage(api, body, true).and_then(|body| answer::to_plain(api, &body)),
    }
}

/// Gives the caller a kept answer.
async fn answer(gateway: &Gateway, cache: &AnswerCache, session: &mut Session, ctx: &mut RequestCtx, entry: &Entry) -> Result<Next, Stop> {
    let Some(inquiry) = &ctx.inquiry else { return Ok(Next::Attempt) };
    let Some(body) = replay(inquiry, entry) else {
        // Not in this form: it is asked for, and kept in its place.
        if let Some(cached) = &mut ctx.cached {
            cached.result = CacheResult::Miss;
            cached.score = None;
        }
        cache.metrics.count(CacheResult::Miss);
        return Ok(Next::Attempt);
    };
    let streamed = inquiry.fields.stream && inquiry.api != Api::Embeddings;
    let result = ctx.cached.as_ref().map_or(CacheResult::Hit, |cached| cached.result);
    cache.metrics.count(result);
    cache.metrics.saved(entry.input, entry.output);
    ctx.streamed = streamed;
    ctx.status = Some(StatusCode::OK.as_u16());
    ctx.bytes_out = body.len();
    logged::record(ctx, &body);
    ctx.note_first(gateway.clock.now());
    metering::book_cached(gateway, ctx, if result == CacheResult::Semantic { "semantic" } else { "exact" }).await;
    let mut head = head(ctx, streamed, body.len()).map_err(|_| Stop::CallerLeft)?;
    if gateway.server.response_headers {
        let age = entry.age(gateway.clock.wall().timestamp_millis());
        let _ = head.insert_header(header::AGE, age);
        let _ = headers::describe(&mut head, Some(&entry.backend), 0, ctx.overhead);
        describe(ctx, &mut head);
    }
    let tasks = vec![HttpTask::Header(head, false), HttpTask::Body(Some(body), true)];
    respond::send(&mut session.downstream_session, tasks, gateway.server.write_timeout).await.map_err(|_| Stop::CallerLeft)?;
    ctx.end = End::Complete;
    Ok(Next::Answered)
}

fn head(ctx: &RequestCtx, streamed: bool, length: usize) -> pingora::Result<Box<ResponseHeader>> {
    let kind = if streamed { "text/event-stream" } else { "application/json" };
    let mut head = respond::head(StatusCode::OK, kind, Some(length), &ctx.id)?;
    if streamed {
        head.insert_header(header::CACHE_CONTROL, "no-cache")?;
        head.insert_header("x-accel-buffering", "no")?;
    }
    headers::rate_limits(&mut head, &ctx.remaining);
    if let Some(inquiry) = &ctx.inquiry {
        transformed::response(ctx, inquiry, &mut head);
    }
    Ok(head)
}

/// Tells the caller how its request stands with the cache.
pub(super) fn describe(ctx: &RequestCtx, head: &mut ResponseHeader) {
    if let Some(cached) = &ctx.cached {
        let _ = head.insert_header(headers::X_SPILLWAY_CACHE, HeaderValue::from_static(cached.result.label()));
        if let Some(score) = cached.score {
            let _ = head.insert_header(headers::X_SPILLWAY_CACHE_SCORE, format!("{score:.3}"));
        }
    }
}

/// Takes a piece of an answer as it goes out. One that is too long is not kept.
pub(super) fn record(ctx: &mut RequestCtx, piece: &Bytes) {
    let Some(cached) = &mut ctx.cached else { return };
    if let Some(record) = &mut cached.record {
        record.push(piece);
    }
    cached.record = cached.record.take().filter(Record::is_whole);
}

/// The answer is whole, and its last bytes go out next: keeps it, and lets those go on who wait for it.
pub(super) fn keep(gateway: &Gateway, ctx: &mut RequestCtx, inquiry: &Inquiry, member: usize) {
    let (Some(cache), Some(cached)) = (&gateway.cache, &mut ctx.cached) else { return };
    let (flight, record) = (cached.flight.take(), cached.record.take());
    let whole = record.filter(|record| ctx.status == Some(200) && record.is_whole()).map(|record| record.bytes());
    let body = whole.filter(|body| may_keep(inquiry.api, body, ctx.streamed, cache.rules.keeping));
    let state = if body.is_some() { State::Landed } else { State::NotKept };
    if let Some(body) = body {
        let member = &inquiry.model.route.members()[member];
        let now = gateway.clock.wall().timestamp_millis();
        let ttl = i64::try_from(cache.rules.ttl.as_millis()).unwrap_or(i64::MAX);
        let usage = ctx.usage.map(|metered| metered.usage).unwrap_or_default();
        let entry = Entry {
            streamed: ctx.streamed,
            backend: Arc::clone(&member.target.id.backend),
            kept_at: now,
            good_until: now.saturating_add(ttl),
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
