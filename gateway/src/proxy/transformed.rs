//! Applies the transforms of a request's consumer and pool.

use std::sync::Arc;

use spillway_plugins::request::read_fields;
use spillway_plugins::transform::HeaderChanges;

use super::offload::on_buffer;
use super::refusal::Refusal;
use crate::callers::LiveConsumer;
use crate::config::Transforms;
use crate::downstream::HeadFields;
use crate::gateway::Gateway;
use crate::request::{BodyBuffer, Facts, ModelRequest};
use crate::runtime::Pool;

/// The consumer's transforms, then the pool's, so that the pool's override.
fn wanted<'w>(consumer: Option<&'w LiveConsumer>, pool: &'w Pool) -> impl Iterator<Item = &'w Transforms> {
    consumer.map(|consumer| &consumer.transform).into_iter().chain([&pool.config.transform])
}

/// Changes a body, and the fields that were read from it.
pub(super) async fn body(
    gateway: &Gateway,
    facts: &Facts,
    model_request: &mut ModelRequest,
    buffer: BodyBuffer,
) -> Result<BodyBuffer, Refusal> {
    if facts.internal || wanted(facts.consumer(), &model_request.pool).all(|transforms| transforms.body.is_empty()) {
        return Ok(buffer);
    }
    let (api, consumer, pool) =
        (model_request.api, facts.caller.as_ref().map(|caller| Arc::clone(&caller.consumer)), Arc::clone(&model_request.pool));
    let change = move |buffer: &mut BodyBuffer| {
        let mut changed: Option<Vec<u8>> = None;
        for transforms in wanted(consumer.as_deref(), &pool).filter(|transforms| !transforms.body.is_empty()) {
            let now = changed.as_deref().unwrap_or(buffer.as_slice());
            changed = transforms.body.apply(api, now).or(changed);
        }
        let Some(changed) = changed else { return Ok(None) };
        let fields = read_fields(&changed)?;
        if !buffer.replace(changed) {
            return Err(Refusal::Overloaded { what: "request bodies" });
        }
        Ok(Some(fields))
    };
    let (buffer, fields) = on_buffer(&gateway.turns, || facts.owner(), buffer, change).await?;
    if let Some(fields) = fields? {
        model_request.fields = fields;
    }
    Ok(buffer)
}

/// Changes the head of a request to a backend.
pub(super) fn request(facts: &Facts, model_request: &ModelRequest, head: &mut impl HeadFields) {
    for HeaderChanges { set, remove } in wanted(facts.consumer(), &model_request.pool).map(|transforms| &transforms.request) {
        remove.iter().for_each(|name| head.remove(name));
        set.iter().for_each(|(name, value)| head.set(name, value.as_bytes()));
    }
}

/// What [`request`] does to a head, as a part of the cache's namespace.
pub(super) fn head_changes<'w>(facts: &'w Facts, model_request: &'w ModelRequest) -> impl Iterator<Item = &'w str> {
    wanted(facts.consumer(), &model_request.pool).map(|transforms| &*transforms.request_in_words)
}

/// Changes the head of an answer to a caller.
pub(super) fn response(facts: &Facts, model_request: &ModelRequest, head: &mut impl HeadFields) {
    for HeaderChanges { set, remove } in wanted(facts.consumer(), &model_request.pool).map(|transforms| &transforms.response) {
        remove.iter().for_each(|name| head.remove(name));
        set.iter().for_each(|(name, value)| head.set(name, value.as_bytes()));
    }
}

#[cfg(test)]
mod tests;
