//! Do the plugins that check requests allow this one? They see a JSON body as it would go on, before anything is reserved.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use spillway_plugins::checks::CheckedRequest;

use super::offload::on_bytes;
use super::refusal::Refusal;
use crate::gateway::Gateway;
use crate::request::{Facts, ModelRequest};

/// Has all of them check a request. The first rejection counts.
///
/// # Errors
/// 400 or 403
pub(super) async fn check(gateway: &Gateway, facts: &Facts, model_request: &mut ModelRequest, body: &Bytes) -> Result<(), Refusal> {
    // What the gateway itself asks was checked as the caller's request.
    if facts.internal {
        return Ok(());
    }
    let fields = mem::take(&mut model_request.fields);
    let (api, part, model) = (model_request.api, model_request.part, Arc::clone(&model_request.model));
    let (runtime, consumer) = (Arc::clone(&facts.runtime), facts.owner());
    let work = move |body: &[u8]| {
        let request = CheckedRequest { api, part, model: &model.name, consumer: consumer.as_deref(), fields: &fields, body };
        let checked = runtime.checks.iter().try_for_each(|one| one.check(&request));
        (fields, checked)
    };
    let (fields, checked) = on_bytes(&gateway.turns, || facts.owner(), body, work).await?;
    model_request.fields = fields;
    Ok(checked?)
}
