//! Requests that refer to objects that a backend stores: they go to that backend, and only for the object's owner.

use std::sync::Arc;

use crate::downstream::Session;
use memchr::memmem;
use spillway_plugins::api::Api;
use spillway_plugins::objects::{Made, References};
use spillway_plugins::request::{RequestFields, read_fields};

use super::admit::admit;
use super::body::{BodySink, expectation, hand_on, read_body};
use super::ctx::RequestCtx;
use super::identify::{may_use_api, may_use_every_pool, may_use_pool};
use super::intake_outcome::{IntakeError, IntakeOutcome};
use super::offload::on_buffer;
use super::refusal::Refusal;
use super::{guardrails, headers, media};
use crate::gateway::Gateway;
use crate::objects::{Known, ObjectLocation, sealed_name};
use crate::operation::ObjectOperation;
use crate::request::{BodyBuffer, Facts, ModelRequest};
use crate::runtime::{Model, Pool, Runtime};

/// The header by which a caller chooses the pool for requests that name no model: files, conversations.
const POOL: &str = "x-spillway-pool";

/// Directs a request that refers to a stored object to the backend that stores it, and a request with encrypted content
/// to one that can decrypt it, if that is known.
pub(super) async fn refer(
    gateway: &Gateway,
    facts: &Facts,
    model_request: &mut ModelRequest,
    mut buffer: BodyBuffer,
) -> Result<BodyBuffer, Refusal> {
    model_request.stores = model_request.part.is_none() && model_request.fields.references.store_the_answer(model_request.api);
    let found = if model_request.fields.may_refer_deeper() {
        let fields = std::mem::take(&mut model_request.fields);
        let read = move |buffer: &mut BodyBuffer| (fields.references_in(buffer.as_slice()), fields);
        let (back, (found, fields)) = on_buffer(&gateway.turns, || facts.owner(), buffer, read).await?;
        buffer = back;
        model_request.fields = fields;
        found
    } else {
        model_request.fields.references_in(buffer.as_slice())
    };
    refer_to(gateway, facts, model_request, found).await?;
    Ok(buffer)
}

/// Directs a request to the backend that stores the objects it refers to.
async fn refer_to(gateway: &Gateway, facts: &Facts, model_request: &mut ModelRequest, mut found: References) -> Result<(), Refusal> {
    let sealed = std::mem::take(&mut found.sealed);
    let names = names(found)?;
    if names.is_empty() && sealed.is_empty() {
        return Ok(());
    }
    let pin = locate(gateway, facts, &names).await?;
    let reader = if pin.is_none() { gateway.objects.reader_of(&sealed, gateway.clock.now()).await } else { None };
    let runtime = Arc::clone(&facts.runtime);
    model_request.sealed = pin.is_none() && !sealed.is_empty();
    model_request.elsewhere = match (pin, reader) {
        (Some(pin), _) => Some(excluded(&runtime, &model_request.model, model_request.api, &pin.backend)?),
        // If that backend doesn't serve the model, the others are tried.
        (None, Some(backend)) => excluded(&runtime, &model_request.model, model_request.api, &backend).ok(),
        (None, None) => None,
    };
    Ok(())
}

/// A request about a stored object: it names no model, but a backend that stores the object or will.
pub(super) async fn take_in(
    gateway: &Gateway,
    session: &mut Session<'_>,
    ctx: &mut RequestCtx,
    call: ObjectOperation,
) -> Result<IntakeOutcome, IntakeError> {
    ctx.facts.api = Some(call.api);
    may_use_api(&ctx.facts, call.api)?;
    guardrails::may_pass_unread(&ctx.facts, call.api)?;
    may_batch(&ctx.facts, &call)?;
    media::uncompressed(&session.req_header().headers)?;
    expectation(session).await?;
    let mut buffer = BodyBuffer::new(&gateway.buffered).of(ctx.facts.buffered());
    let upload = call.api == Api::Files && call.name.is_none();
    let small = !upload
        || headers::content_length(&session.req_header().headers).is_some_and(|length| length <= ctx.facts.runtime.config.server.max_body);
    // For every method: bytes that are not read would be taken for the next request.
    let whole = read_body(
        gateway,
        session,
        &ctx.facts.runtime.config.server,
        BodySink { body: &mut ctx.body, timing: &mut ctx.timing, buffer: &mut buffer },
        small,
        |bytes| !small && !bytes.is_empty(),
    )
    .await?;
    let mut named: Vec<String> = call.name.iter().cloned().collect();
    if !upload && !buffer.as_slice().is_empty() {
        media::json(&session.req_header().headers)?;
        // A backend may be able to read what the gateway can't.
        let found;
        let read = |buffer: &mut BodyBuffer| read_fields(buffer.as_slice()).map(|fields| fields.references_in(buffer.as_slice()));
        (buffer, found) = on_buffer(&gateway.turns, || ctx.facts.owner(), buffer, read).await?;
        named.extend(names(found.map_err(Refusal::from)?)?);
    }
    let pin = locate(gateway, &ctx.facts, &named).await?;
    let runtime = Arc::clone(&ctx.facts.runtime);
    let model = match &pin {
        // A backend that the caller may use; else one that gives the reason for a refusal.
        Some(pin) => runtime
            .model_at(&pin.backend, |pool| may_use_pool(&ctx.facts, call.api, pool).is_ok())
            .or_else(|| runtime.model_at(&pin.backend, |_| true)),
        None => pool(&runtime, session, &ctx.facts, &call)?.models().first(),
    };
    let model = model.ok_or(Refusal::NoneAvailable { model: call.api.label().to_owned(), retry_after: None })?;
    let pool = &runtime.pools[model.pool];
    may_use_pool(&ctx.facts, call.api, &pool.config)?;
    let model_request = ctx.model_request.insert(Box::new(ModelRequest {
        api: call.api,
        model: Arc::clone(model),
        pool: Arc::clone(pool),
        part: None,
        fields: RequestFields::default(),
        affinity_key: 0,
        elsewhere: pin.map(|pin| excluded(&runtime, model, call.api, &pin.backend)).transpose()?,
        // Only a backend's answer about its own objects names them; a file's content could contain anything.
        stores: call.name.is_none() || call.api == Api::Batches || is_response(&call),
        sealed: false,
        object: Some(call.path),
    }));
    admit(gateway, &ctx.facts, model_request, &mut ctx.timing, &[], ctx.body.bytes).await?.reserve(&mut ctx.body, &mut ctx.metering);
    Ok(hand_on(&mut ctx.body, &mut ctx.tunnel, buffer, whole, None))
}

/// Whether the answer is a response itself, which lists its items: a background response has them only later.
fn is_response(call: &ObjectOperation) -> bool {
    call.api == Api::Responses && call.path.matches('/').count() == 1
}

/// A batch's file names its models, and the gateway can't check them. So a caller that may not use all models needs
/// explicit permission for batches.
fn may_batch(facts: &Facts, call: &ObjectOperation) -> Result<(), Refusal> {
    let Some(caller) = facts.caller.as_ref().filter(|_| call.api == Api::Batches) else { return Ok(()) };
    match (caller.has_some_models(), &caller.consumer.rights.apis, &call.model) {
        (true, _, Some(model)) if !caller.allows_model(model) => Err(Refusal::ModelNotAllowed { model: model.clone() }),
        (true, None, _) => Err(Refusal::ApiNotAllowed { api: call.api.label() }),
        (false, None, _) if !may_use_every_pool(facts) => Err(Refusal::ApiNotAllowed { api: call.api.label() }),
        _ => Ok(()),
    }
}

/// The backend that stores the objects with these names, if there are any.
///
/// # Errors
/// 404 for names that are unknown or another caller's, 400 for objects at different backends.
pub(super) async fn locate(gateway: &Gateway, facts: &Facts, names: &[String]) -> Result<Option<ObjectLocation>, Refusal> {
    let owner = facts.owner();
    let mut at: Option<ObjectLocation> = None;
    for name in names {
        let pin = match gateway.objects.find(name, gateway.clock.now()).await {
            Known::At(pin) if pin.consumer == owner => pin,
            // The same answer for both: a caller must not learn whether an object of another one exists.
            Known::At(_) | Known::Nothing => return Err(Refusal::UnknownObject { name: name.clone() }),
            Known::Unsure => return Err(Refusal::Overloaded { what: "the shared memory of stored objects" }),
        };
        if at.as_ref().is_some_and(|before| before.backend != pin.backend) {
            return Err(Refusal::ObjectsApart);
        }
        at = Some(pin);
    }
    Ok(at)
}

/// The names of the objects that a body refers to.
///
/// # Errors
/// 404 for a name that can't be valid.
fn names(references: References) -> Result<Vec<String>, Refusal> {
    match references.malformed {
        true => Err(Refusal::UnknownObject { name: "in this request".to_owned() }),
        false => Ok(references.names),
    }
}

/// Members of a model that can't serve a request that belongs to a backend: all at other backends.
///
/// # Errors
/// If that backend doesn't serve the model.
fn excluded(runtime: &Runtime, model: &Model, api: Api, backend: &str) -> Result<Vec<usize>, Refusal> {
    let elsewhere = |index: &usize| *runtime.backends[model.route.members()[*index].backend].config.name != *backend;
    let others: Vec<usize> =
        (0..model.route.members().len()).filter(|index| elsewhere(index) || model.excluded(api).contains(index)).collect();
    match others.len() == model.route.members().len() {
        true => Err(Refusal::ObjectElsewhere { model: model.name.to_string() }),
        false => Ok(others),
    }
}

/// The pool for a request that names no model: the one of the path's model or of the caller's header, else the first
/// that this caller may use.
///
/// # Errors
/// If there is none.
fn pool<'r>(runtime: &'r Runtime, session: &Session<'_>, facts: &Facts, call: &ObjectOperation) -> Result<&'r Pool, Refusal> {
    if let Some(name) = &call.model {
        let model = runtime.model(name).ok_or_else(|| Refusal::UnknownModel { model: name.clone() })?;
        return Ok(&runtime.pools[model.pool]);
    }
    let wanted = session.req_header().headers.get(POOL).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let serves = |pool: &Pool| pool.models().first().is_some_and(|model| model.serves(call.api));
    let serving = || runtime.pools.iter().filter(|pool| serves(pool));
    let found = match &wanted {
        Some(name) => serving().find(|pool| *pool.config.name == **name),
        // A pool that the caller may use; else one that gives the reason for a refusal.
        None => serving().find(|pool| may_use_pool(facts, call.api, &pool.config).is_ok()).or_else(|| serving().next()),
    };
    found.map(|pool| &**pool).ok_or(Refusal::NoPoolForObjects { header: POOL })
}

/// Whether the answer to a request may name an object that is stored.
pub(super) fn may_make(model_request: &ModelRequest) -> bool {
    match model_request.api {
        Api::Chat => model_request.fields.references.sounds,
        Api::Responses | Api::Messages => true,
        _ => model_request.stores,
    }
}

/// Remembers the objects that an answer created, from the beginning of its body.
pub(super) fn remember(gateway: &Gateway, facts: &Facts, model_request: &ModelRequest, backend: &Arc<str>, beginning: &[u8]) {
    // The code container is named there, if there is one. A message itself can only be referred to if it is stored.
    if model_request.api != Api::Messages || model_request.stores || memmem::find(beginning, b"\"container\"").is_some() {
        keep(gateway, facts, model_request, backend, Made::of(model_request.api, beginning));
    }
}

/// Remembers the objects that were created.
pub(super) fn keep(gateway: &Gateway, facts: &Facts, model_request: &ModelRequest, backend: &Arc<str>, made: Made) {
    let now = gateway.clock.now();
    let Made { stored, kept, sealed } = made;
    let stored = if model_request.stores { stored } else { Vec::new() };
    let sealed = sealed.iter().map(|mark| sealed_name(mark));
    for name in stored.into_iter().chain(kept).chain(sealed) {
        gateway.objects.pin(&name, ObjectLocation { backend: Arc::clone(backend), consumer: facts.owner() }, now);
    }
}

#[cfg(test)]
mod tests;
