//! What a request may use at most, as far as it says: this much is reserved, and booked where nobody reports.

use spillway_plugins::api::Api;
use spillway_plugins::tokens::{Usage, input_bound};

use crate::request::{Facts, ModelRequest, RequestBody};

/// More than any limit; sums of it don't overflow.
const MOST: u64 = 1 << 48;

/// Bytes of audio that last a second at least, whatever its format.
const BYTES_PER_SECOND: u64 = 1000;

/// The bound of the prompt in this body.
pub(super) fn input(model_request: &ModelRequest, body: &[u8]) -> u64 {
    // Files are no text: what stands in them is counted when it is answered.
    if model_request.api.is_multipart() { 0 } else { input_bound(body, model_request.fields.encoded) }
}

/// The bound of a request with this prompt, and so many bytes in all. It is counted in each unit in which its answer
/// may be billed.
pub(super) fn usage(model_request: &ModelRequest, input: u64, bytes: usize, assumed: u64) -> Usage {
    if model_request.is_free() {
        return Usage::default();
    }
    let api = model_request.api;
    let output = model_request.fields.completion_cap(api, assumed).min(MOST);
    let bytes = bytes as u64;
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

/// The bound of a request under way.
pub(super) fn of(facts: &Facts, request_body: &RequestBody, model_request: &ModelRequest) -> Usage {
    let input = request_body.input_bound.unwrap_or_else(|| request_body.kept.as_ref().map_or(0, |body| input(model_request, body.bytes())));
    usage(model_request, input, request_body.bytes, facts.runtime.config.usage.assume_completion)
}

#[cfg(test)]
mod tests;
