//! How long an attempt may take until its first output.
//!
//! Models can reason for minutes. Some streams show early that the model works (Responses, Messages): they get the
//! short timeout until the first event, and the long one from each event to the next. A chat completion shows nothing
//! before its output, and neither does a plain answer: if the model reasons, they have the long timeout from the start.

use std::time::Duration;

use spillway_plugins::api::Api;

use crate::request::ModelRequest;

/// The timeout until the head of a plain answer, or the first event of a stream.
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

/// The timeout from an event without output to the next event; `None` if such events prove nothing.
pub(super) fn after_event(model_request: &ModelRequest) -> Option<Duration> {
    let timeouts = &model_request.pool.config.timeouts;
    (!is_silent(model_request.api) || model_request.thinks()).then_some(timeouts.thinking.max(timeouts.first_token))
}

/// Whether streams of this API send nothing while a model reasons. What they send before the output (a role, filter
/// results) comes from a proxy before the model.
fn is_silent(api: Api) -> bool {
    matches!(api, Api::Chat | Api::Completions)
}

#[cfg(test)]
mod tests;
