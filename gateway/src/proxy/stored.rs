//! Requests that refer to what a backend stores: they go where it is, and only its owner's.

use pingora::proxy::Session;
use spillway_plugins::api::Api;
use spillway_plugins::objects::{References, made};

use super::Gateway;
use super::call::ObjectCall;
use super::ctx::RequestCtx;
use super::refusal::Refusal;
use crate::objects::{Known, Pin};
use crate::runtime::{Model, Pool, Runtime};

/// The header by which a caller chooses the pool for what has no model: files, conversations.
const POOL: &str = "x-spillway-pool";

/// Where the things with these names live, if there are any.
///
/// # Errors
/// 404 for names that are nobody's or another's, 400 for things that live apart.
pub(super) async fn locate(gateway: &Gateway, ctx: &RequestCtx, names: &[String]) -> Result<Option<Pin>, Refusal> {
    let owner = ctx.consumer().map(|consumer| consumer.name.clone());
    let mut at: Option<Pin> = None;
    for name in names {
        let pin = match gateway.objects.find(name).await {
            Known::At(pin) if pin.consumer == owner => pin,
            // The same answer for both: whose it is, and whether it is, is nobody else's business.
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

/// What a body refers to, as names to be found.
///
/// # Errors
/// 404 for a name that can't be one.
pub(super) fn names(references: References) -> Result<Vec<String>, Refusal> {
    match references.malformed {
        true => Err(Refusal::UnknownObject { name: "in this request".to_owned() }),
        false => Ok(references.names),
    }
}

/// Members of a model that can't serve a request that belongs to `pin`'s backend: all others.
///
/// # Errors
/// If that backend doesn't serve the model.
pub(super) fn excluded(runtime: &Runtime, model: &Model, api: Api, pin: &Pin) -> Result<Vec<usize>, Refusal> {
    let elsewhere = |index: &usize| runtime.backends[model.route.members()[*index].backend].config.name != pin.backend;
    let others: Vec<usize> =
        (0..model.route.members().len()).filter(|index| elsewhere(index) || model.excluded(api).contains(index)).collect();
    match others.len() == model.route.members().len() {
        true => Err(Refusal::ObjectElsewhere { model: model.name.clone() }),
        false => Ok(others),
    }
}

/// The pool for a request that names no model: the one that the path's model or the caller's header
/// says, else the first that this caller may use.
///
/// # Errors
/// If there is none.
pub(super) fn pool<'r>(runtime: &'r Runtime, session: &Session, ctx: &RequestCtx, call: &ObjectCall) -> Result<&'r Pool, Refusal> {
    if let Some(name) = &call.model {
        let model = runtime.model(name).ok_or_else(|| Refusal::UnknownModel { model: name.clone() })?;
        return Ok(&runtime.pools[model.pool]);
    }
    let wanted = session.req_header().headers.get(POOL).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let serves = |pool: &Pool| pool.models().first().is_some_and(|model| model.serves(call.api));
    let found = runtime.pools.iter().find(|pool| match &wanted {
        Some(name) => *pool.config.name == **name,
        None => serves(pool) && super::identify::may_use_pool(ctx, call.api, &pool.config).is_ok(),
    });
    let pool = found.ok_or(Refusal::NoPoolForObjects { header: POOL })?;
    if serves(pool) { Ok(pool) } else { Err(Refusal::NoPoolForObjects { header: POOL }) }
}

/// Remembers what an answer made, from the beginning of its body (or of its first event's response).
pub(super) fn remember(gateway: &Gateway, ctx: &RequestCtx, backend: &std::sync::Arc<str>, beginning: &[u8]) {
    for name in made(beginning) {
        remember_name(gateway, ctx, backend, name);
    }
}

/// Remembers one thing.
pub(super) fn remember_name(gateway: &Gateway, ctx: &RequestCtx, backend: &std::sync::Arc<str>, name: String) {
    let consumer = ctx.consumer().map(|consumer| consumer.name.clone());
    gateway.objects.pin(name, Pin { backend: std::sync::Arc::clone(backend), consumer });
}
