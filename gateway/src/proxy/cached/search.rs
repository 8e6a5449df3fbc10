//! Looks for an answer: in the cache, in another request that is in flight, or for a similar question.

use bytes::Bytes;
use spillway_plugins::cache::semantic::Question;
use std::sync::Arc;

use crate::downstream::Session;
use spillway_plugins::cache::semantic::{Near, question};
use spillway_plugins::cache::{CacheKey, Entry};

use crate::cache::semantic::SemanticCache;
use crate::cache::{AnswerCache, Flight, FlightRole, FlightState};
use crate::gateway::Gateway;
use crate::proxy::copies::PendingEntry;
use crate::proxy::intake_outcome::IntakeError;
use crate::proxy::offload::on_bytes;
use crate::proxy::refusal::Refusal;
use crate::request::{Facts, ModelRequest, Timing};
use crate::self_request::OnBehalfOf;

/// The result of a search.
pub(super) enum Found {
    /// The answer.
    Answer(Arc<Entry>),
    /// No answer: others wait for this request to bring it.
    Lead(Flight),
    /// No answer, and no other request waits.
    Nothing,
}

pub(super) async fn find(
    gateway: &Gateway,
    cache: &AnswerCache,
    session: &mut Session<'_>,
    (facts, timing): (&Facts, &mut Timing),
    within: impl Fn(&Entry) -> bool,
    key: CacheKey,
    awaited: bool,
) -> Result<Found, IntakeError> {
    let now = || gateway.clock.wall_millis();
    let ended = cache.flights_ended();
    if let Some(entry) = cache.get(&key, facts.arrived_at.timestamp_millis()).filter(|entry| within(entry)) {
        return Ok(Found::Answer(entry));
    }
    if !awaited {
        let entry = fetch(gateway, cache, timing, &key).await;
        return Ok(entry.filter(|entry| within(entry)).map_or(Found::Nothing, Found::Answer));
    }
    let mut began = None;
    loop {
        let mut flight = match cache.board(key) {
            FlightRole::Lead(flight) => {
                // It may have been cached in between, or another node may have the answer.
                let mut entry = if cache.flights_ended() == ended { None } else { cache.get(&key, now()) };
                if entry.is_none() {
                    entry = fetch(gateway, cache, timing, &key).await;
                }
                return Ok(match entry.filter(|entry| within(entry)) {
                    Some(entry) => {
                        flight.end(FlightState::Stored);
                        Found::Answer(entry)
                    }
                    None => Found::Lead(flight),
                });
            }
            FlightRole::Follow(flight) => flight,
        };
        let waiting = gateway.clock.now();
        let left = cache.rules.wait.saturating_sub(waiting.since(*began.get_or_insert(waiting)));
        let ended = tokio::select! {
            biased;
            state = flight.wait_for(|state| *state != FlightState::InFlight) => state.ok().map(|state| *state),
            _ = session.left() => return Err(IntakeError::CallerLeft),
            () = tokio::time::sleep(left) => Some(FlightState::NotKept),
        };
        timing.waited += gateway.clock.now().since(waiting);
        match ended {
            Some(FlightState::Stored) => {
                let entry = cache.get(&key, now()).filter(|entry| within(entry));
                return Ok(entry.map_or(Found::Nothing, Found::Answer));
            }
            Some(FlightState::NotKept | FlightState::InFlight) => return Ok(Found::Nothing),
            // The request that asked gave up: another one asks.
            None => {}
        }
    }
}

/// The answer that another node has cached.
async fn fetch(gateway: &Gateway, cache: &AnswerCache, timing: &mut Timing, key: &CacheKey) -> Option<Arc<Entry>> {
    if !cache.is_shared() {
        return None;
    }
    let began = gateway.clock.now();
    let entry = cache.fetch(key, gateway.clock.wall_millis()).await;
    timing.waited += gateway.clock.now().since(began);
    entry
}

/// The result of a search for similar questions.
pub(super) enum Similar {
    /// The answer to a similar question.
    Answer(Near),
    /// None; this is stored when the answer comes.
    Unknown(Option<PendingEntry>),
}

/// The question that a request asks, if an answer to a similar one is good enough.
pub(super) async fn question_of(
    gateway: &Gateway,
    semantic: &SemanticCache,
    facts: &Facts,
    body: &Bytes,
    model_request: &ModelRequest,
    namespace: &str,
) -> Result<Option<Question>, Refusal> {
    let (namespace, api, model, scoping) =
        (namespace.to_owned(), model_request.api, Arc::clone(&model_request.model), semantic.rules.scoping);
    let asked = move |body: &[u8]| question(&namespace, api, &model.name, body, scoping);
    on_bytes(&gateway.turns, || facts.owner(), body, asked).await
}

/// Looks for a cached answer to a similar question.
pub(super) async fn similar(
    gateway: &Gateway,
    cache: &AnswerCache,
    semantic: &SemanticCache,
    session: &mut Session<'_>,
    facts: &Facts,
    within: impl Fn(&Entry) -> bool,
    question: Question,
) -> Result<Similar, IntakeError> {
    let _began = gateway.clock.now();
    let whom = OnBehalfOf::Itself { caller: facts.caller.clone(), trace: facts.trace.as_ref().map(|trace| trace.as_parent()) };
    let embedded = tokio::select! {
        biased;
        embedded = semantic.embed(&gateway.internal, &question.text, whom, &facts.id) => embedded,
        _ = session.left() => return Err(IntakeError::CallerLeft),
    };
    match embedded {
        Ok(vector) => {
            let now = gateway.clock.wall_millis();
            let near = semantic.find(&question, &vector, now, &cache.metrics, |entry| within(entry));
            Ok(near.map_or(Similar::Unknown(Some(PendingEntry { question, vector })), Similar::Answer))
        }
        Err(error) => {
            semantic.embedding_failed(&error, &cache.metrics);
            Ok(Similar::Unknown(None))
        }
    }
}

/// Whether an answer comes from a backend that still serves its model, and that the caller may use.
pub(super) fn is_within(facts: &Facts, model_request: &ModelRequest, entry: &Entry) -> bool {
    let members = model_request.model.route.members();
    let Some(member) = members.iter().find(|member| member.target.id.backend == entry.backend) else { return false };
    let fence = facts.consumer().and_then(|consumer| consumer.rights.locations.as_ref());
    fence.is_none_or(|allowed| member.location.as_ref().is_some_and(|location| allowed.contains(location)))
}
