//! From the head to a request that is ready for attempts: framing, caller, operation, body, model.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::downstream::Session;
use http::StatusCode;
use serde_json::json;
use spillway_plugins::api::Api;
use spillway_plugins::multipart::{FormError, FormFields, FormReader, boundary};
use spillway_plugins::request::{BodyError, RequestFields, read_fields, read_fields_at_once};
use spillway_plugins::service_tier::ServiceTier;

use super::admit::admit;
use super::body::{BodySink, expectation, hand_on, read_body};
use super::ctx::RequestCtx;
use super::framing::framing;
use super::identify::{identify, may_ask_for_tiers, may_name_model, may_use_api, may_use_model};
use super::intake_outcome::{IntakeError, IntakeOutcome};
use super::media::Coding;
use super::offload::apart;
use super::refusal::Refusal;
use super::refuse::refuse;
use super::tunnel::state::Tunnel;
use super::{
    cached, checks, cors, deadline, guardrails, headers, logged, media, metering, own_usage, query_key, request_id, respond,
    responses_socket, stored, traced, transformed,
};
use crate::callers::{LiveConsumer, OneOf};
use crate::gateway::Gateway;
use crate::operation::{self, Inference, Operation};
use crate::request::{BodyBuffer, Counted, End, Facts, ModelRequest, Reply};
use crate::shares::leaves_room;

/// Runs the intake. Refusals are written to the caller here.
///
/// # Errors
/// If the caller has left.
pub(super) async fn take_in(gateway: &Gateway, session: &mut Session<'_>, ctx: &mut RequestCtx) -> pingora::Result<IntakeOutcome> {
    prepare(gateway, session, &mut ctx.facts);
    match steps(gateway, session, ctx).await {
        Ok(next) => Ok(next),
        Err(IntakeError::CallerLeft) => {
            ctx.reply.end = End::CallerLeft;
            Err(super::intake_outcome::already_answered())
        }
        Err(IntakeError::Refuse(refusal)) => {
            refuse(gateway, session, ctx.own_answer(), &refusal).await?;
            Ok(IntakeOutcome::Answered)
        }
    }
}

/// Sets limits and the request's id, before anything else is read.
fn prepare(gateway: &Gateway, session: &mut Session<'_>, facts: &mut Facts) {
    let server = &facts.runtime.config.server;
    session.set_limits(server.body_timeout, server.write_timeout);
    if gateway.is_closing() {
        session.close_after();
    }
    cors::take_in(session, server);
    let head = session.req_header();
    facts.dialect = operation::dialect_of(head.uri.path());
    facts.id = session
        .rare_field(&headers::X_REQUEST_ID)
        .and_then(|id| id.to_str().ok())
        .filter(|id| (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')))
        .map_or_else(request_id::new, str::to_owned);
    traced::join(gateway, &head.headers, facts);
}

/// Longest path and query. The paths of all APIs are far shorter, and a rewritten one must still be valid.
const MAX_TARGET: usize = 8 * 1024;

async fn steps(gateway: &Gateway, session: &mut Session<'_>, ctx: &mut RequestCtx) -> Result<IntakeOutcome, IntakeError> {
    framing(session)?;
    if session.req_header().raw_path().len() > MAX_TARGET {
        return Err(Refusal::TargetTooLong { limit: MAX_TARGET }.into());
    }
    if let Some(found) = query_key::found(session.req_header()) {
        query_key::to_header(session.req_header_mut(), found).map_err(|_| Refusal::Head { what: "the request's query can't be read" })?;
    }
    if gateway.in_flight_now() > ctx.facts.runtime.config.server.max_in_flight {
        return Err(Refusal::Overloaded { what: "requests in flight" }.into());
    }
    if cors::is_preflight(session) {
        ctx.reply.status = Some(204);
        let head = cors::preflight(session, &ctx.facts.id);
        respond::bodiless(session, head, &gateway.clock).await.map_err(|_| IntakeError::CallerLeft)?;
        ctx.reply.end = End::Complete;
        return Ok(IntakeOutcome::Answered);
    }
    identify(gateway, session, &mut ctx.facts, &mut ctx.timing).await?;
    has_room(gateway, &ctx.facts, &mut ctx.counted)?;
    ctx.facts.needed_by = deadline::read(session.rare_field(&deadline::HEADER), &ctx.facts)?;
    ctx.facts.tags = metering::tags(&ctx.facts.runtime.config.usage, &session.req_header().headers);
    if let Some(socket) = session.pingora().filter(|session| responses_socket::is_asked(session)) {
        return Box::pin(responses_socket::serve(gateway, socket, &mut ctx.facts, &mut ctx.timing, &mut ctx.counted, &mut ctx.reply)).await;
    }
    let head = session.req_header();
    let inference = match operation::read(&head.method, head.uri.path(), head.uri.query())? {
        Operation::Inference(inference) => inference,
        Operation::Object(object) => return stored::take_in(gateway, session, ctx, object).await,
        Operation::Usage => return Box::pin(own_usage::answer(gateway, session, &ctx.facts, &mut ctx.timing, &mut ctx.reply)).await,
        listing => return models(gateway, session, &ctx.facts, &mut ctx.reply, &listing).await,
    };
    ctx.facts.api = Some(inference.api);
    may_use_api(&ctx.facts, inference.api)?;
    if inference.api == Api::Realtime || inference.api.is_multipart() {
        guardrails::may_pass_unread(&ctx.facts, inference.api)?;
    }
    if inference.api == Api::Realtime {
        asks_for_socket(session)?;
        let model_request = ctx.model_request.insert(resolve_model(session, &mut ctx.facts, &inference, RequestFields::default(), &[])?);
        admit(gateway, &ctx.facts, model_request, &mut ctx.timing, &[], 0).await?.reserve(&mut ctx.body, &mut ctx.metering);
        // A socket may be silent for as long as both sides like; keep-alives detect a dead peer.
        session.clear_read_timeout();
        ctx.tunnel = Some(Box::new(Tunnel::web_socket()));
        return Ok(IntakeOutcome::Tunnel);
    }
    expectation(session).await?;
    if inference.api.is_multipart() {
        form(gateway, session, ctx, inference).await
    } else {
        json_body(gateway, session, ctx, inference).await
    }
}

/// Whether this consumer may have one more request in flight.
///
/// # Errors
/// 503
fn has_room(gateway: &Gateway, facts: &Facts, counted: &mut Counted) -> Result<(), Refusal> {
    let Some(holding) = facts.holding() else { return Ok(()) };
    let (one, count) = OneOf::of(holding);
    counted.one_of = Some(one);
    let room = (facts.runtime.config.server.max_in_flight + 1).saturating_sub(gateway.in_flight_now());
    match leaves_room(count, room) {
        true => Ok(()),
        false => Err(Refusal::Overloaded { what: "requests of this consumer in flight" }),
    }
}

/// `GET /v1/models`, from the config: the models that this caller may use.
async fn models(
    gateway: &Gateway,
    session: &mut Session<'_>,
    facts: &Facts,
    reply: &mut Reply,
    call: &Operation,
) -> Result<IntakeOutcome, IntakeError> {
    let allowed = |name: &str| {
        let model = facts.runtime.model(name);
        model.is_some_and(|model| may_use_model(facts, Api::Chat, name, &facts.runtime.pools[model.pool].config).is_ok())
    };
    // Anthropic's clients always send it.
    let anthropic = session.rare_field(&headers::ANTHROPIC_VERSION).is_some();
    let entry = |name: &str| match anthropic {
        true => json!({ "type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z" }),
        false => json!({ "id": name, "object": "model", "created": 0, "owned_by": "spillway" }),
    };
    let body = match call {
        Operation::GetModel(_, id) if !allowed(id) => {
            return Err(Refusal::UnknownModel { model: id.clone() }.into());
        }
        Operation::GetModel(_, id) => entry(id),
        _ => {
            let names: Vec<_> = facts.runtime.model_names.iter().filter(|name| allowed(name)).collect();
            let list: Vec<_> = names.iter().map(|name| entry(name)).collect();
            match anthropic {
                true => json!({ "data": list, "has_more": false, "first_id": names.first(), "last_id": names.last() }),
                false => json!({ "object": "list", "data": list }),
            }
        }
    };
    reply.status = Some(200);
    respond::json(session, StatusCode::OK, &body, &facts.id, &gateway.clock).await.map_err(|_| IntakeError::CallerLeft)?;
    reply.end = End::Complete;
    Ok(IntakeOutcome::Answered)
}

/// A WebSocket: no body, one attempt at a time in Pingora's own loop.
///
/// # Errors
/// 426
fn asks_for_socket(session: &Session<'_>) -> Result<(), Refusal> {
    if !session.is_upgrade() || !headers::asks_for_websocket(&session.req_header().headers) {
        return Err(Refusal::UpgradeRequired);
    }
    Ok(())
}

async fn json_body(
    gateway: &Gateway,
    session: &mut Session<'_>,
    ctx: &mut RequestCtx,
    inference: Inference,
) -> Result<IntakeOutcome, IntakeError> {
    media::json(&session.req_header().headers)?;
    let coding = media::coding(&session.req_header().headers)?;
    let mut buffer = BodyBuffer::new(&gateway.buffered).of(ctx.facts.buffered());
    read_body(
        gateway,
        session,
        &ctx.facts.runtime.config.server,
        BodySink { body: &mut ctx.body, timing: &mut ctx.timing, buffer: &mut buffer },
        true,
        |_| false,
    )
    .await?;
    if coding != Coding::Identity {
        buffer = Box::pin(media::plain(gateway, &ctx.facts, buffer, coding)).await?;
    }
    let fields = match read_fields_at_once(buffer.as_slice()) {
        Some(fields) => fields,
        None => {
            let read = move || (read_fields(buffer.as_slice()), buffer);
            let fields;
            (fields, buffer) = Box::pin(apart(&gateway.turns, ctx.facts.owner(), read)).await?;
            fields
        }
    };
    let fields = fields.map_err(Refusal::from)?;
    let prompt = fields.prompt_at.and_then(|at| buffer.as_slice().get(at..)).unwrap_or_default();
    let prompt = &prompt[..prompt.len().min(PROMPT_PREFIX)];
    let model_request = ctx.model_request.insert(resolve_model(session, &mut ctx.facts, &inference, fields, prompt)?);
    buffer = transformed::body(gateway, &ctx.facts, model_request, buffer).await?;
    buffer = stored::refer(gateway, &ctx.facts, model_request, buffer).await?;
    ctx.copies.logged = logged::decide(&ctx.facts);
    // Kept for the prompt log, in case it is refused.
    let kept = ctx.body.kept.insert(buffer.finish()).bytes();
    let mut allowed = Ok(());
    if !ctx.facts.runtime.checks.is_empty() {
        allowed = Box::pin(checks::check(gateway, &ctx.facts, model_request, kept)).await;
    }
    let admitted = match allowed {
        Ok(()) => admit(gateway, &ctx.facts, model_request, &mut ctx.timing, kept, ctx.body.bytes).await,
        Err(refusal) => Err(refusal),
    };
    if logged::is_too_long(&ctx.body, &ctx.copies) {
        Box::pin(logged::shorten(gateway, &ctx.facts, &ctx.body, &mut ctx.copies)).await;
    }
    admitted?.reserve(&mut ctx.body, &mut ctx.metering);
    let Some(model_request) = ctx.model_request.take() else { return Ok(IntakeOutcome::Attempt) };
    let next = judge_and_look_up(gateway, session, ctx, &model_request).await;
    ctx.model_request = Some(model_request);
    next
}

/// Checks the prompt, and looks in the cache.
async fn judge_and_look_up(
    gateway: &Gateway,
    session: &mut Session<'_>,
    ctx: &mut RequestCtx,
    model_request: &ModelRequest,
) -> Result<IntakeOutcome, IntakeError> {
    let runtime = Arc::clone(&ctx.facts.runtime);
    if runtime.guard.is_some() {
        let judged = Box::pin(guardrails::prompt(gateway, session, &ctx.facts, &ctx.body, &mut ctx.timing, model_request)).await;
        if let Err(IntakeError::Refuse(refusal)) = &judged
            && let Some(outcome) = guardrails::booked_as(refusal)
        {
            metering::book_judged(gateway, ctx.books(), model_request, outcome).await;
        }
        judged?;
    }
    if runtime.cache.is_none() || model_request.part.is_some() {
        return Ok(IntakeOutcome::Attempt);
    }
    // On the heap, so that requests without a cache don't reserve memory for it.
    let found = Box::pin(cached::look_up(gateway, session, &ctx.facts, &ctx.body, &mut ctx.timing, model_request)).await?;
    let Some(cached::LookedUp { cached, answer }) = found else { return Ok(IntakeOutcome::Attempt) };
    ctx.copies.cached = Some(cached);
    let Some(entry) = answer else { return Ok(IntakeOutcome::Attempt) };
    let Some(kept) = cached::prepare(gateway, &mut ctx.own_answer(), model_request, &entry) else { return Ok(IntakeOutcome::Attempt) };
    metering::book_cached(gateway, ctx.books(), model_request, kept.how).await;
    Box::pin(cached::send(gateway, session, ctx.own_answer(), model_request, &entry, kept)).await?;
    Ok(IntakeOutcome::Answered)
}

/// Uploads: small ones are kept and can be sent several times, like JSON. Large ones are streamed through Pingora's
/// loop as soon as the model is known.
async fn form(
    gateway: &Gateway,
    session: &mut Session<'_>,
    ctx: &mut RequestCtx,
    inference: Inference,
) -> Result<IntakeOutcome, IntakeError> {
    let refuse = |FormError(what)| Refusal::Form { what };
    let head = &session.req_header().headers;
    media::uncompressed(head)?;
    let content_type = media::content_type(head)?.unwrap_or_default().to_owned();
    let boundary = boundary(&content_type).map_err(refuse)?.ok_or(Refusal::MediaType { expected: "multipart/form-data" })?;
    let small = headers::content_length(head).is_some_and(|length| length <= ctx.facts.runtime.config.server.max_body);
    let named = inference.model.is_some();
    let mut buffer = BodyBuffer::new(&gateway.buffered).of(ctx.facts.buffered());
    let mut form = FormReader::new(boundary);
    let (mut pushed, mut length) = (Ok(()), 0);
    let enough = |piece: &[u8]| {
        if pushed.is_ok() {
            pushed = form.push(piece);
        }
        length += piece.len();
        // A malformed form is read to its end if the end is near: otherwise its caller would not read the answer.
        !small && (pushed.is_err() || (named && length >= FORM_HEAD) || form.fields().model.is_some())
    };
    let whole = read_body(
        gateway,
        session,
        &ctx.facts.runtime.config.server,
        BodySink { body: &mut ctx.body, timing: &mut ctx.timing, buffer: &mut buffer },
        small,
        enough,
    )
    .await?;
    pushed.map_err(refuse)?;
    let read = form.fields().clone();
    if whole && !read.complete {
        return Err(Refusal::Form { what: "the form has no closing boundary" }.into());
    }
    let FormFields { model, model_range, stream, choices, .. } = read;
    let fields = RequestFields { model, model_range, stream, choices, ..RequestFields::default() };
    let model_request = ctx.model_request.insert(resolve_model(session, &mut ctx.facts, &inference, fields, &[])?);
    // Files are not text: their content is counted when the answer reports it.
    admit(gateway, &ctx.facts, model_request, &mut ctx.timing, &[], ctx.body.bytes).await?.reserve(&mut ctx.body, &mut ctx.metering);
    Ok(hand_on(&mut ctx.body, &mut ctx.tunnel, buffer, whole, Some(form)))
}

/// How far a form is searched for its model if the path already names it.
const FORM_HEAD: usize = 64 * 1024;

/// Most letters of a model's name that are logged.
const SHOWN: usize = 128;

/// Finds the model, and checks whether this caller may use it.
fn resolve_model(
    session: &Session<'_>,
    facts: &mut Facts,
    inference: &Inference,
    fields: RequestFields,
    prompt: &[u8],
) -> Result<Box<ModelRequest>, Refusal> {
    let name = inference.model.as_ref().or(fields.model.as_ref()).ok_or(BodyError::NoModel)?;
    // For the log. The text comes from the caller: shorten it.
    facts.asked_for = Some(if name.len() <= SHOWN { name.clone() } else { name.chars().take(SHOWN).collect() });
    let runtime = Arc::clone(&facts.runtime);
    let model = runtime.model(name).ok_or_else(|| Refusal::UnknownModel { model: name.clone() })?;
    let pool = &runtime.pools[model.pool];
    may_use_model(facts, inference.api, name, &pool.config)?;
    if !model.serves(inference.api) && pool.last_resort.is_none() {
        return Err(Refusal::ApiNotServed { model: name.clone() });
    }
    for further in &fields.further_models {
        may_name_model(facts, inference.api, further)?;
    }
    let sends_tier = facts.allowed_headers().contains(&headers::X_MS_SERVICE_TIER);
    if sends_tier && session.req_header().headers.get_all(headers::X_MS_SERVICE_TIER).iter().count() > 1 {
        return Err(Refusal::Head { what: "x-ms-service-tier must not be repeated" });
    }
    let by_header = sends_tier.then(|| tier_in(session)).flatten();
    // Who may be served before others may be served faster.
    let by_speed = fields.speed.map(|_| ServiceTier::Priority);
    may_ask_for_tiers(facts, [fields.service_tier, by_speed, by_header])?;
    let affinity_key = if pool.config.policy.uses_key() { affinity_key(session, facts.consumer(), &fields, prompt) } else { 0 };
    Ok(Box::new(ModelRequest {
        api: inference.api,
        part: inference.part,
        model: Arc::clone(model),
        pool: Arc::clone(pool),
        fields,
        affinity_key,
        object: None,
        elsewhere: None,
        stores: false,
        sealed: false,
    }))
}

/// The service tier that a header asks for.
fn tier_in(session: &Session<'_>) -> Option<ServiceTier> {
    let value = session.req_header().headers.get(headers::X_MS_SERVICE_TIER)?;
    ServiceTier::read(value.to_str().unwrap_or("?").trim())
}

/// Bytes of a prompt by which conversations are distinguished.
const PROMPT_PREFIX: usize = 1024;

/// The same for all requests of one conversation: computed from the caller and its session header, its cache key or the
/// beginning of its prompt.
fn affinity_key(session: &Session<'_>, consumer: Option<&LiveConsumer>, fields: &RequestFields, prompt: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    consumer.map(|consumer| &consumer.name).hash(&mut hasher);
    match (session.req_header().headers.get("x-session-id"), &fields.prompt_cache_key) {
        (Some(id), _) => id.as_bytes().hash(&mut hasher),
        (None, Some(key)) => key.hash(&mut hasher),
        (None, None) => prompt.hash(&mut hasher),
    }
    hasher.finish()
}

#[cfg(test)]
mod tests;
