//! The usage of an answer: the counts that a backend reports, in any of their forms, or estimates.
//!
//! Sources: the OpenAI and Anthropic SDKs' usage types. Anthropic doesn't include cached input in `input_tokens`, the
//! others do; here it is always included.

mod answer;
mod bound;
mod estimate;
mod output;
mod socket;
mod steps;
#[cfg(test)]
mod tests;
mod tokenizer;

pub use answer::{AnswerUsage, read_whole};
pub use bound::input_bound;
pub use estimate::{answer_tokens, may_reason, prompt_tokens};
pub use output::OutputMeter;
pub use socket::{SocketEvent, SocketTap};
pub use steps::Part;
pub use tokenizer::{Encoding, Tokenizer, Unloadable};

use std::sync::Arc;

use serde::Serialize;

use crate::api::Api;
use crate::json::{Kind, Reader, Value};
use crate::service_tier::ServiceTier;
use steps::Steps;

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

/// Counts as reported; the largest value of each: a stream's counts are cumulative, and a later report may omit some,
/// or have zeros.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reported {
    input: Option<u64>,
    output: Option<u64>,
    /// Output that was reported before there was any: it is not the total.
    early_output: Option<u64>,
    cached_input: Option<u64>,
    cache_write: Option<u64>,
    reasoning: Option<u64>,
    input_audio: Option<u64>,
    output_audio: Option<u64>,
    input_image: Option<u64>,
    output_image: Option<u64>,
    cache_write_long: Option<u64>,
    milliseconds: Option<u64>,
    cached_audio: Option<u64>,
    image_tool: ImageTool,
    /// On the heap, because few answers have them.
    steps: Option<Box<Steps>>,
    service_tier: Option<ServiceTier>,
    /// The tier that the answer's speed means.
    speed: Option<ServiceTier>,
}

/// The usage of image generation within a response, which is not in the response's own counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct ImageTool {
    input: Option<u64>,
    output: Option<u64>,
    input_image: Option<u64>,
    output_image: Option<u64>,
}

impl Reported {
    /// Reads a member of an answer, or of the response in an event, if it contains counts.
    pub fn read_member(&mut self, text: &[u8], key: &[u8], value: &Value) {
        match key {
            b"usage" => self.read(text, value),
            b"service_tier" => self.read_service_tier(text, value),
            b"tool_usage" => counts(text, value, |key, value, _| {
                if key == b"image_gen" {
                    self.image_tool.read(text, value);
                }
            }),
            _ => {}
        }
    }

    /// Reads the service tier that an answer names. The last one counts: a response's first events may not know it yet.
    pub fn read_service_tier(&mut self, text: &[u8], value: &Value) {
        let named = value.as_str(text).and_then(|name| ServiceTier::read(&name));
        self.service_tier = named.or(self.service_tier);
    }

    /// The service tier that served the request, if the answer names it.
    pub fn service_tier(&self) -> Option<ServiceTier> {
        self.speed.or(self.service_tier)
    }

    /// Reads a `usage` object. Counts that are missing, null, or lower don't change the earlier ones.
    pub fn read(&mut self, text: &[u8], usage: &Value) {
        counts(text, usage, |key, value, number| match key {
            b"iterations" => {
                let steps = Steps::read(text, value);
                // A later list has all of the earlier one's.
                if steps.tokens() > 0 && self.steps.as_ref().is_none_or(|known| known.tokens() <= steps.tokens()) {
                    self.steps = Some(Box::new(steps));
                }
            }
            _ => self.read_count(text, key, value, number),
        });
    }

    fn read_count(&mut self, text: &[u8], key: &[u8], value: &Value, number: Option<u64>) {
        match key {
            b"prompt_tokens" | b"input_tokens" => raise(&mut self.input, number),
            b"completion_tokens" | b"output_tokens" => raise(&mut self.output, number),
            b"cache_read_input_tokens" => raise(&mut self.cached_input, number),
            b"cache_creation_input_tokens" => raise(&mut self.cache_write, number),
            b"cache_creation" => counts(text, value, |key, _, number| {
                if key == b"ephemeral_1h_input_tokens" {
                    raise(&mut self.cache_write_long, number);
                }
            }),
            b"seconds" if value.kind == Kind::Number => {
                let milliseconds = number_of(text, value).map(|seconds| ((seconds * 1000.0).round() as u64).min(MOST));
                raise(&mut self.milliseconds, milliseconds);
            }
            b"prompt_tokens_details" | b"input_tokens_details" | b"input_token_details" => self.read_input(text, value),
            b"completion_tokens_details" | b"output_tokens_details" | b"output_token_details" => self.read_output(text, value),
            // Anthropic names it here.
            b"service_tier" => self.read_service_tier(text, value),
            b"speed" => self.speed = value.as_str(text).and_then(|speed| ServiceTier::of_speed(&speed)).or(self.speed),
            _ => {}
        }
    }

    fn read_input(&mut self, text: &[u8], details: &Value) {
        counts(text, details, |key, value, number| match key {
            b"cached_tokens" => raise(&mut self.cached_input, number),
            b"cache_write_tokens" => raise(&mut self.cache_write, number),
            b"audio_tokens" => raise(&mut self.input_audio, number),
            b"cached_tokens_details" => counts(text, value, |key, _, number| {
                if key == b"audio_tokens" {
                    raise(&mut self.cached_audio, number);
                }
            }),
            b"image_tokens" => raise(&mut self.input_image, number),
            // The other ones are written for half an hour.
            b"cache_write_tokens_details" => counts(text, value, |key, _, number| {
                if key == b"ttl_12h_tokens" {
                    raise(&mut self.cache_write_long, number);
                }
            }),
            _ => {}
        });
    }

    fn read_output(&mut self, text: &[u8], details: &Value) {
        counts(text, details, |key, _, number| match key {
            b"reasoning_tokens" | b"thinking_tokens" => raise(&mut self.reasoning, number),
            b"audio_tokens" => raise(&mut self.output_audio, number),
            b"image_tokens" => raise(&mut self.output_image, number),
            _ => {}
        });
    }

    /// Adds what a further image of a stream used: each reports its own.
    pub fn add_image(&mut self, text: &[u8], usage: &Value) {
        let mut image = Reported::default();
        image.read(text, usage);
        let add = |sum: &mut Option<u64>, count: Option<u64>| *sum = sum.map_or(count, |sum| Some(sum.saturating_add(count.unwrap_or(0))));
        add(&mut self.input, image.input);
        add(&mut self.output, image.output);
        add(&mut self.cached_input, image.cached_input);
        add(&mut self.input_image, image.input_image);
        add(&mut self.output_image, image.output_image);
        self.service_tier = image.service_tier.or(self.service_tier);
    }

    /// What was reported so far came before any output: its count of output is not the total.
    pub fn precedes_output(&mut self) {
        raise(&mut self.early_output, self.output.take());
    }

    /// The parts of the usage that have prices of their own, if there are any.
    pub fn parts(&self) -> Option<Arc<[Part]>> {
        self.steps.as_ref().map(|steps| steps.parts()).filter(|parts| !parts.is_empty())
    }

    /// Whether the number of output tokens was reported.
    pub fn tells_output(&self) -> bool {
        self.output.is_some_and(|count| count > 0)
    }

    /// The counts of an answer that didn't report all of them, or not to its end (`whole`): what is missing is estimated.
    /// A vendor that reports counts from the beginning (Anthropic) has then reported all of the input, but hardly any of
    /// the output.
    pub fn completed_by(&self, api: Api, estimate: Usage, whole: bool) -> Usage {
        let usage = self.counted(api);
        if usage.tokens() == 0 && usage.milliseconds == 0 {
            return estimate;
        }
        let input = if usage.input == 0 { estimate.input } else { usage.input };
        let output = if whole && self.tells_output() { usage.output } else { usage.output.max(estimate.output) };
        Usage { input, output, ..usage }
    }

    /// The usage, if all of it was reported. A model that answers in text has read something and tells how much it has
    /// written, so one of the two alone, or a zero for the input, is no report.
    pub fn usage(&self, api: Api) -> Option<Usage> {
        if self.input.is_none() && self.output.is_none() && self.milliseconds.is_none() && self.steps.is_none() {
            return None;
        }
        let usage = self.counted(api);
        let all = match api {
            // A response that was cancelled at once has used nothing.
            Api::Realtime => true,
            Api::Chat | Api::Completions | Api::Responses | Api::Messages => usage.input > 0 && self.output.is_some(),
            _ => usage.tokens() > 0 || usage.milliseconds > 0,
        };
        all.then_some(usage)
    }

    /// The counts; missing ones are zero.
    fn counted(&self, api: Api) -> Usage {
        let tool = &self.image_tool;
        let tool_input = tool.input.or(tool.input_image).unwrap_or(0);
        // Its output is images, unless it reports otherwise.
        let tool_output = tool.output.or(tool.output_image).unwrap_or(0);
        let output = self.output.or(self.early_output).unwrap_or(0);
        // The output of the images API is images, unless it reports otherwise.
        let output_image = self.output_image.unwrap_or(if api.makes_images() { output } else { 0 });
        let (cached_input, cache_write) = (self.cached_input.unwrap_or(0), self.cache_write.unwrap_or(0));
        let apart = if api == Api::Messages { cached_input.saturating_add(cache_write) } else { 0 };
        let usage = Usage {
            input: self.input.unwrap_or(0).saturating_add(apart).saturating_add(tool_input),
            output: output.saturating_add(tool_output),
            cached_input,
            cache_write,
            reasoning: self.reasoning.unwrap_or(0),
            input_audio: self.input_audio.unwrap_or(0),
            output_audio: self.output_audio.unwrap_or(0),
            input_image: self.input_image.unwrap_or(0).saturating_add(tool.input_image.unwrap_or(0).min(tool_input)),
            output_image: output_image.saturating_add(tool.output_image.unwrap_or(tool_output).min(tool_output)),
            cache_write_long: self.cache_write_long.unwrap_or(0),
            milliseconds: self.milliseconds.unwrap_or(0),
            cached_audio: self.cached_audio.unwrap_or(0),
            ..Usage::default()
        };
        self.steps.as_ref().map_or(usage, |steps| steps.complete(&usage))
    }
}

impl ImageTool {
    fn read(&mut self, text: &[u8], usage: &Value) {
        let mut told = Reported::default();
        told.read(text, usage);
        raise(&mut self.input, told.input);
        raise(&mut self.output, told.output);
        raise(&mut self.input_image, told.input_image);
        raise(&mut self.output_image, told.output_image);
    }
}

/// The largest count that is accepted from one answer: sums of what backends report must not overflow.
const MOST: u64 = 1 << 32;

/// Raises a count to what was reported, if that is more.
fn raise(count: &mut Option<u64>, reported: Option<u64>) {
    *count = (*count).max(reported);
}

/// Visits the members of `object`, if it is one, each with its number, if it is one.
fn counts(text: &[u8], object: &Value, mut visit: impl FnMut(&[u8], &Value, Option<u64>)) {
    if object.kind == Kind::Object {
        let _ = Reader::within(text, object).members(|key, value| visit(key, &value, count(text, &value)));
    }
}

/// A count. Some servers write it as a decimal fraction (`12.0`).
fn count(text: &[u8], value: &Value) -> Option<u64> {
    let whole = || number_of(text, value).filter(|number| number.fract() == 0.0).map(|number| number as u64);
    value.as_u64(text).or_else(whole).map(|count| count.min(MOST))
}

/// A number that is not negative.
fn number_of(text: &[u8], value: &Value) -> Option<f64> {
    let number = (value.kind == Kind::Number).then(|| value.bytes(text))?;
    std::str::from_utf8(number).ok()?.parse().ok().filter(|number| *number >= 0.0)
}

/// Whether a stream of this API reports usage only if it is asked to (`stream_options`).
pub fn is_asked_for(api: Api) -> bool {
    matches!(api, Api::Chat | Api::Completions)
}
