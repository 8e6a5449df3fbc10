//! Upper bounds of what a request may use, derived from its fields. They are reserved, and booked if the usage is not
//! reported.

use spillway_plugins::api::Api;
use spillway_plugins::prices::{Money, Price};
use spillway_plugins::tokens::{Usage, input_bound};

use crate::config::DeploymentPrice;
use crate::request::{Facts, ModelRequest, RequestBody};

/// Larger than any limit; sums of it don't overflow.
const MOST: u64 = 1 << 48;

/// Fewest bytes that a second of audio takes, in any format.
const BYTES_PER_SECOND: u64 = 1000;

/// Tokens of speech for so many bytes of text, as a fraction: a model that is billed for them speaks 14 characters a second,
/// of a language with longer ones fewer, and a second is 20 tokens.
const SPOKEN: (u64, u64) = (3, 2);

/// The audio tokens of so many bytes of text, if it is spoken.
pub(super) fn spoken(bytes: u64) -> u64 {
    (bytes.saturating_mul(SPOKEN.0) / SPOKEN.1).min(MOST)
}

/// Whether one of the members may be billed by tokens: it has no price of another `unit`.
fn takes_tokens(model_request: &ModelRequest, unit: fn(&Price) -> Option<Money>) -> bool {
    let by_unit = |price: &DeploymentPrice| price.by_use().and_then(unit).is_some();
    model_request.model.members.iter().any(|member| !member.price.as_ref().is_some_and(by_unit))
}

/// Upper bound of the tokens in the prompt of this body.
pub(super) fn input(model_request: &ModelRequest, body: &[u8]) -> u64 {
    // Files are not text: their content is counted when the answer reports it.
    if model_request.api.is_multipart() { 0 } else { input_bound(body, model_request.fields.encoded) }
}

/// Upper bound for a request with this prompt, and so many bytes in all. It is counted in each unit in which its answer
/// may be billed.
pub(super) fn usage(model_request: &ModelRequest, input: u64, bytes: usize, assumed: u64) -> Usage {
    if model_request.is_free() {
        return Usage::default();
    }
    let api = model_request.api;
    let bytes = bytes as u64;
    let output = match api {
        Api::Speech if takes_tokens(model_request, |price| price.character) => spoken(bytes),
        _ if api.makes_images() && takes_tokens(model_request, |price| price.image) => {
            model_request.fields.completion_cap(api, model_request.fields.picture.tokens()).min(MOST)
        }
        _ => model_request.fields.completion_cap(api, assumed).min(MOST),
    };
    Usage {
        input: input.min(MOST),
        output,
        characters: if api == Api::Speech { bytes } else { 0 },
        images: if api.makes_images() { model_request.fields.choices.unwrap_or(1).max(1) } else { 0 },
        milliseconds: if matches!(api, Api::Transcriptions | Api::Translations) {
            bytes.saturating_mul(1000) / BYTES_PER_SECOND
        } else {
            0
        },
        ..Usage::default()
    }
}

/// The upper bound of a request in progress.
pub(super) fn of(facts: &Facts, request_body: &RequestBody, model_request: &ModelRequest) -> Usage {
    let input = request_body.input_bound.unwrap_or_else(|| request_body.kept.as_ref().map_or(0, |body| input(model_request, body.bytes())));
    usage(model_request, input, request_body.bytes, facts.runtime.config.usage.assume_completion)
}

#[cfg(test)]
mod tests;
