//! The usage of an answer: the counts that a backend reports, in any of their forms, or estimates.
//!
//! Sources: the OpenAI and Anthropic SDKs' usage types. Anthropic doesn't include cached input in `input_tokens`, the
//! others do; here it is always included.

mod answer;
mod bound;
mod estimate;
mod output;
mod reported;
mod socket;
#[cfg(test)]
mod tests;
mod tokenizer;

pub use answer::{AnswerUsage, read_whole};
pub use bound::input_bound;
pub use estimate::{answer_tokens, may_reason, prompt_tokens};
pub use output::OutputMeter;
pub use reported::{Part, Reported};
pub use socket::{SocketEvent, SocketTap};
pub use tokenizer::{Encoding, Tokenizer, Unloadable};

use serde::Serialize;

use crate::api::Api;

/// The source of a usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// The backend reported it.
    Reported,
    /// Counted or estimated here, because there is no report.
    Estimated,
    /// Unknown.
    Unknown,
}

impl Provenance {
    /// All of them, in order of declaration.
    pub const ALL: [Provenance; 3] = [Provenance::Reported, Provenance::Estimated, Provenance::Unknown];

    /// A short label for metrics and the ledger.
    pub fn label(self) -> &'static str {
        match self {
            Provenance::Reported => "reported",
            Provenance::Estimated => "estimated",
            Provenance::Unknown => "unknown",
        }
    }
}

/// The usage of an answer, and its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Metered {
    /// The counts; all zero if they are unknown.
    #[serde(flatten)]
    pub usage: Usage,
    /// Their source.
    pub source: Provenance,
}

impl Metered {
    /// A usage that the backend reported.
    pub fn reported(usage: Usage) -> Self {
        Metered { usage, source: Provenance::Reported }
    }

    /// A usage that was estimated here.
    pub fn estimated(usage: Usage) -> Self {
        Metered { usage, source: Provenance::Estimated }
    }

    /// An unknown usage.
    pub fn unknown() -> Self {
        Metered { usage: Usage::default(), source: Provenance::Unknown }
    }
}

/// Whether a count is left out of a log line.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The counts of one answer. Counts named after a part (`cached_input`) are contained in their whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// All input, also cached input and input written to the cache.
    pub input: u64,
    /// All output, with reasoning.
    pub output: u64,
    /// Of the input: read from the provider's cache.
    pub cached_input: u64,
    /// Of the input: written to the provider's cache.
    pub cache_write: u64,
    /// Of the output: reasoning.
    pub reasoning: u64,
    /// Of the input: audio.
    #[serde(skip_serializing_if = "is_zero")]
    pub input_audio: u64,
    /// Of the output: audio.
    #[serde(skip_serializing_if = "is_zero")]
    pub output_audio: u64,
    /// Of the input: images.
    #[serde(skip_serializing_if = "is_zero")]
    pub input_image: u64,
    /// Of the output: images.
    #[serde(skip_serializing_if = "is_zero")]
    pub output_image: u64,
    /// Of the input: audio that was read from the provider's cache.
    #[serde(skip_serializing_if = "is_zero")]
    pub cached_audio: u64,
    /// Of what was written to the provider's cache: for an hour (Anthropic) or twelve (OpenAI).
    #[serde(skip_serializing_if = "is_zero")]
    pub cache_write_long: u64,
    /// Audio that is counted by its length, not in tokens.
    #[serde(skip_serializing_if = "is_zero")]
    pub milliseconds: u64,
    /// Text that is counted in characters, not in tokens.
    #[serde(skip_serializing_if = "is_zero")]
    pub characters: u64,
    /// Images that are counted one by one, not in tokens.
    #[serde(skip_serializing_if = "is_zero")]
    pub images: u64,
}

impl Usage {
    /// All tokens: the number for limits and quotas.
    pub fn tokens(&self) -> u64 {
        self.input.saturating_add(self.output)
    }

    /// Adds the usage of a further answer: a socket has many.
    pub fn add(&mut self, other: &Usage) {
        *self = self.with(other, u64::saturating_add);
    }

    /// This usage, multiplied.
    #[must_use]
    pub fn times(&self, count: u64) -> Usage {
        self.with(self, |one, _| one.saturating_mul(count))
    }

    /// This usage without a part of it.
    #[must_use]
    pub fn without(&self, part: &Usage) -> Usage {
        self.with(part, u64::saturating_sub)
    }

    /// The higher one of each count.
    #[must_use]
    pub fn most(&self, other: &Usage) -> Usage {
        self.with(other, u64::max)
    }

    fn with(&self, other: &Usage, of: impl Fn(u64, u64) -> u64) -> Usage {
        Usage {
            input: of(self.input, other.input),
            output: of(self.output, other.output),
            cached_input: of(self.cached_input, other.cached_input),
            cache_write: of(self.cache_write, other.cache_write),
            reasoning: of(self.reasoning, other.reasoning),
            input_audio: of(self.input_audio, other.input_audio),
            output_audio: of(self.output_audio, other.output_audio),
            input_image: of(self.input_image, other.input_image),
            output_image: of(self.output_image, other.output_image),
            cached_audio: of(self.cached_audio, other.cached_audio),
            cache_write_long: of(self.cache_write_long, other.cache_write_long),
            milliseconds: of(self.milliseconds, other.milliseconds),
            characters: of(self.characters, other.characters),
            images: of(self.images, other.images),
        }
    }
}

/// Whether a stream of this API reports usage only if it is asked to (`stream_options`).
pub fn is_asked_for(api: Api) -> bool {
    matches!(api, Api::Chat | Api::Completions)
}
