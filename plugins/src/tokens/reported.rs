//! The counts that a backend reports, in any of their forms.
//!
//! An answer of Anthropic's may have taken several steps (`usage.iterations`). Source: the Anthropic SDK's `BetaUsage`. The
//! answer's own counts include neither compactions nor what an advisor used, which is another model. They may have the input
//! of the first step only, so the steps count if their sum is more.

use std::sync::Arc;

use super::Usage;
use crate::api::Api;
use crate::json::{Kind, Reader, Value};
use crate::service_tier::ServiceTier;

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
            api if api.writes_texts() => usage.input > 0 && self.output.is_some(),
            _ => usage.tokens() > 0 || usage.milliseconds > 0,
        };
        all.then_some(usage)
    }

    /// The counts; missing ones are zero.
    pub(super) fn counted(&self, api: Api) -> Usage {
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
        let mut found = Reported::default();
        found.read(text, usage);
        raise(&mut self.input, found.input);
        raise(&mut self.output, found.output);
        raise(&mut self.input_image, found.input_image);
        raise(&mut self.output_image, found.output_image);
    }
}

/// Most parts that are priced one by one; more have the price of the rest.
const MOST_PARTS: usize = 64;

/// A part of an answer's usage that has a price of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The model that did it; `None`: the one that was asked, in a request of its own.
    pub model: Option<Box<str>>,
    /// What it used. It is contained in the answer's usage.
    pub usage: Usage,
}

/// What the steps of an answer used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Steps {
    /// Those that the answer's own counts should include.
    within: Usage,
    /// Those that they don't include.
    beside: Usage,
    /// Those with a price of their own.
    parts: Vec<Part>,
}

impl Steps {
    /// Reads the list of steps.
    fn read(text: &[u8], list: &Value) -> Self {
        let mut steps = Steps::default();
        if list.kind == Kind::Array {
            let _ = Reader::within(text, list).array(|step| steps.read_step(text, &step));
        }
        steps
    }

    fn read_step(&mut self, text: &[u8], step: &Value) {
        let (mut reported, mut beside, mut compaction, mut model) = (Reported::default(), false, false, None);
        counts(text, step, |key, value, number| match key {
            b"type" => {
                let kind = value.as_str(text).unwrap_or_default();
                compaction = kind == "compaction";
                beside = compaction || kind == "advisor_message";
            }
            b"model" => model = value.as_str(text).filter(|name| !name.is_empty()).map(|name| Box::from(&*name)),
            _ => reported.read_count(text, key, value, number),
        });
        let usage = reported.counted(Api::Messages);
        if beside {
            self.beside.add(&usage)
        } else {
            self.within.add(&usage)
        }
        if (compaction || model.is_some()) && self.parts.len() < MOST_PARTS {
            self.parts.push(Part { model, usage });
        }
    }

    /// All that they used.
    fn tokens(&self) -> u64 {
        self.within.tokens().saturating_add(self.beside.tokens())
    }

    /// The usage of an answer with these steps, whose own counts are `own`.
    fn complete(&self, own: &Usage) -> Usage {
        let mut usage = own.most(&self.within);
        usage.add(&self.beside);
        usage
    }

    fn parts(&self) -> Arc<[Part]> {
        self.parts.as_slice().into()
    }
}

/// The largest count that is accepted from one answer: sums of what backends report must not overflow.
pub(super) const MOST: u64 = 1 << 32;

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
