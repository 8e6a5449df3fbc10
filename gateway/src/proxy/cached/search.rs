//! Looks for an answer that is known: kept, on its way, or to a question that means the same.

use std::sync::Arc;

use pingora::proxy::Session;
use spillway_plugins::cache::semantic::{Near, question};
use spillway_plugins::cache::{CacheKey, Entry};

use super::Lesson;
use crate::cache::semantic::SemanticCache;
use crate::cache::{AnswerCache, Boarding, Flight, State};
use crate::internal::AsWhom;
use crate::proxy::Gateway;
use crate::proxy::ctx::RequestCtx;
use crate::proxy::offload::on_bytes;
use crate::proxy::step::Stop;

/// What a search came to.
pub(super) enum Found {
    /// The answer.
    Answer(Arc<Entry>),
    /// Nothing: others wait for this request to bring it.
    Lead(Flight),
    /// Nothing, and nobody waits.
    Nothing,
}

pub(super) async fn find(
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
        let entry = fetch(gateway, cache, ctx, &key, now()).await;
        return Ok(entry.filter(|entry| is_within(ctx, entry)).map_or(Found::Nothing, Found::Answer));
    }
    let began = gateway.clock.now();
    loop {
        let mut flight = match cache.board(key) {
            Boarding::Lead(flight) => {
                // It may have landed in between; and another node may have the answer.
                let mut entry = cache.get(&key, now());
                if entry.is_none() {
                    entry = fetch(gateway, cache, ctx, &key, now()).await;
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
        let left = cache.rules.wait.saturating_sub(waiting.since(began));
        let ended = tokio::select! {
            biased;
            state = flight.wait_for(|state| *state != State::Flying) => state.ok().map(|state| *state),
            _ = session.downstream_session.read_body_or_idle(true) => return Err(Stop::CallerLeft),
            () = tokio::time::sleep(left) => Some(State::NotKept),
        };
        ctx.timing.waited += gateway.clock.now().since(waiting);
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

/// What another node has kept.
async fn fetch(gateway: &Gateway, cache: &AnswerCache, ctx: &mut RequestCtx, key: &CacheKey, now: i64) -> Option<Arc<Entry>> {
    let began = gateway.clock.now();
    let entry = cache.fetch(key, now).await;
    ctx.timing.waited += gateway.clock.now().since(began);
    entry
}

/// What a search for similar questions came to.
pub(super) enum Similar {
    /// The answer to one.
    Answer(Near),
    /// None; what is to be learnt once the answer is there.
    Unknown(Option<Lesson>),
}

pub(super) async fn similar(
    gateway: &Gateway,
    cache: &AnswerCache,
    semantic: &SemanticCache,
    session: &mut Session,
    ctx: &mut RequestCtx,
    namespace: &str,
) -> Result<Similar, Stop> {
    let (Some(inquiry), Some(body)) = (&ctx.inquiry, &ctx.body.kept) else { return Ok(Similar::Unknown(None)) };
    let (namespace, api, model, scoping) = (namespace.to_owned(), inquiry.api, Arc::clone(&inquiry.model), semantic.rules.scoping);
    let asked = move |body: &[u8]| question(&namespace, api, &model.name, body, scoping);
    let Some(question) = on_bytes(&gateway.turns, || ctx.facts.owner(), body.bytes(), asked).await? else {
        return Ok(Similar::Unknown(None));
    };
    let began = gateway.clock.now();
    let whom = AsWhom::Itself { caller: ctx.facts.caller.clone(), trace: ctx.facts.trace.as_ref().map(|trace| trace.as_parent()) };
    let embedded = tokio::select! {
        biased;
        embedded = semantic.embed(&gateway.internal, &question.text, whom, &ctx.facts.id) => embedded,
        _ = session.downstream_session.read_body_or_idle(true) => return Err(Stop::CallerLeft),
    };
    ctx.timing.waited += gateway.clock.now().since(began);
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

/// Whether an answer comes from where its model is still served, and its caller may be served from.
fn is_within(ctx: &RequestCtx, entry: &Entry) -> bool {
    let members = ctx.inquiry.as_ref().map_or(&[][..], |inquiry| inquiry.model.route.members());
    let Some(member) = members.iter().find(|member| member.target.id.backend == entry.backend) else { return false };
    let fence = ctx.facts.consumer().and_then(|consumer| consumer.rights.locations.as_ref());
    fence.is_none_or(|allowed| member.location.as_ref().is_some_and(|location| allowed.contains(location)))
}
