//! How long an attempt may take until its first output.
//!
//! Models think for minutes. Where a stream tells early that it works (Responses, Messages), it gets the short time until
//! then, and the long one from each such event to the next. A chat completion tells nothing before its output, and no more
//! does a plain answer: those that are thought about have the long time from the start.

use std::time::Duration;

use spillway_plugins::api::Api;

use crate::request::ModelRequest;

/// Until the head of a plain answer, or the first event of a stream.
pub(super) fn first(model_request: &ModelRequest) -> Duration {
    let timeouts = &model_request.pool.config.timeouts;
    let long = |short: Duration| short.max(timeouts.thinking);
    match (model_request.fields.stream, model_request.thinks()) {
        (true, true) if is_silent(model_request.api) => long(timeouts.first_token),
        (true, _) => timeouts.first_token,
        (false, true) => long(timeouts.answer),
        (false, false) => timeouts.answer,
    }
}

/// From an event of a stream that is no output to the next one; `None` if such events tell nothing.
pub(super) fn after_event(model_request: &ModelRequest) -> Option<Duration> {
    let timeouts = &model_request.pool.config.timeouts;
    (!is_silent(model_request.api) || model_request.thinks()).then_some(timeouts.thinking.max(timeouts.first_token))
}

/// Whether streams of this API tell nothing while a model thinks. What comes before the output, a role or the filters'
/// results, comes from what stands in front of the model.
fn is_silent(api: Api) -> bool {
    matches!(api, Api::Chat | Api::Completions)
}

#[cfg(test)]
mod tests;
