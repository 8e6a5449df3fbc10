//! What an answer cost: the token counts that a backend reports, in whichever of their forms.
//!
//! Sources: the OpenAI and Anthropic SDKs' usage types. Anthropic counts cached input apart from
//! `input_tokens`, the others within it; here it is always within.

mod tail;
#[cfg(test)]
mod tests;

pub use tail::{UsageTail, read_end};

use serde::Serialize;

use crate::api::Api;
use crate::json::{Kind, Reader, Value};

/// Token counts of one answer. What is named after a part (`cached_input`) is contained in its whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// All input, cached and written to the cache included.
    pub input: u64,
    /// All output, reasoning included.
    pub output: u64,
    /// Of the input: read from the provider's cache.
    pub cached_input: u64,
    /// Of the input: written to the provider's cache.
    pub cache_write: u64,
    /// Of the output: reasoning.
    pub reasoning: u64,
    /// Of the input: audio.
    pub input_audio: u64,
    /// Of the output: audio.
    pub output_audio: u64,
}

/// Counts as they are reported, each the latest: a stream's counts are cumulative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reported {
    input: Option<u64>,
    output: Option<u64>,
    cached_input: Option<u64>,
    cache_write: Option<u64>,
    reasoning: Option<u64>,
    input_audio: Option<u64>,
    output_audio: Option<u64>,
}

impl Reported {
    /// Reads a `usage` object. Counts that are not there, or null, leave what was read before.
    pub fn read(&mut self, text: &[u8], usage: &Value) {
        counts(text, usage, |key, value, number| match key {
            "prompt_tokens" | "input_tokens" => self.input = number.or(self.input),
            "completion_tokens" | "output_tokens" => self.output = number.or(self.output),
            "cache_read_input_tokens" => self.cached_input = number.or(self.cached_input),
            "cache_creation_input_tokens" => self.cache_write = number.or(self.cache_write),
            "prompt_tokens_details" | "input_tokens_details" | "input_token_details" => self.read_input(text, value),
            "completion_tokens_details" | "output_tokens_details" | "output_token_details" => self.read_output(text, value),
            _ => {}
        });
    }

    fn read_input(&mut self, text: &[u8], details: &Value) {
        counts(text, details, |key, _, number| match key {
            "cached_tokens" => self.cached_input = number.or(self.cached_input),
            "cache_write_tokens" => self.cache_write = number.or(self.cache_write),
            "audio_tokens" => self.input_audio = number.or(self.input_audio),
            _ => {}
        });
    }

    fn read_output(&mut self, text: &[u8], details: &Value) {
        counts(text, details, |key, _, number| match key {
            "reasoning_tokens" | "thinking_tokens" => self.reasoning = number.or(self.reasoning),
            "audio_tokens" => self.output_audio = number.or(self.output_audio),
            _ => {}
        });
    }

    /// The counts, if any were reported; what is left out counts as none.
    pub fn usage(&self, api: Api) -> Option<Usage> {
        if self.input.is_none() && self.output.is_none() {
            return None;
        }
        let (cached_input, cache_write) = (self.cached_input.unwrap_or(0), self.cache_write.unwrap_or(0));
        let apart = if api == Api::Messages { cached_input.saturating_add(cache_write) } else { 0 };
        Some(Usage {
            input: self.input.unwrap_or(0).saturating_add(apart),
            output: self.output.unwrap_or(0),
            cached_input,
            cache_write,
            reasoning: self.reasoning.unwrap_or(0),
            input_audio: self.input_audio.unwrap_or(0),
            output_audio: self.output_audio.unwrap_or(0),
        })
    }
}

/// Visits the members of `object`, if it is one, each with its number, if it is one.
fn counts(text: &[u8], object: &Value, mut visit: impl FnMut(&str, &Value, Option<u64>)) {
    if object.kind == Kind::Object {
        let _ = Reader::within(text, object).object(|key, value| visit(key, &value, value.as_u64(text)));
    }
}

/// Whether a stream of this API tells its usage only if it is asked to (`stream_options`).
pub fn is_asked_for(api: Api) -> bool {
    matches!(api, Api::Chat | Api::Completions)
}
