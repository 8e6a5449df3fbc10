//! Reads the few fields of a request body that the gateway uses, and their positions.

mod picture;

use std::ops::Range;

use crate::api::Api;
use crate::json::{Encoded, JsonError, Kind, Reader, Value};
use crate::names::{Ambiguity, REQUEST};
use crate::objects::{self, DEEPER, References};
use crate::service_tier::ServiceTier;
pub use picture::Picture;

/// Why a request body was refused. Every variant becomes a 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The body is not JSON.
    #[error("the body is not valid JSON: {0}")]
    Syntax(#[from] JsonError),
    /// The body is not UTF-8.
    #[error("the body is not valid UTF-8 (byte {at})")]
    Encoding {
        /// Offset of the first bad byte.
        at: usize,
    },
    /// The body is JSON, but not an object.
    #[error("the body must be a JSON object")]
    NotAnObject,
    /// A field has a type that no API allows.
    #[error("'{field}' must be {expected}")]
    WrongType {
        /// The field's name.
        field: &'static str,
        /// The expected type.
        expected: &'static str,
    },
    /// A field that the gateway reads occurs twice, so two readers could read it differently.
    #[error("'{field}' is given more than once")]
    Duplicate {
        /// The field's name.
        field: &'static str,
    },
    /// A name that two readers could read in different ways.
    #[error("{0}")]
    Ambiguous(Ambiguity),
    /// No model in the body, and none in the path.
    #[error("you must provide a 'model'")]
    NoModel,
}

/// The caller's `stream_options`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum StreamOptions {
    /// None.
    #[default]
    Absent,
    /// The usage is requested.
    UsageAsked,
    /// The usage is not requested: replace `range` by `insert` to request it.
    UsageNotAsked {
        /// The range.
        range: Range<usize>,
        /// The replacement.
        insert: &'static str,
    },
    /// A value that can't be edited.
    Odd,
}

/// Reads `stream_options`, and how to request the usage in it.
fn stream_options(text: &[u8], value: &Value) -> StreamOptions {
    const ASKED: &str = "{\"include_usage\":true}";
    if value.kind == Kind::Null {
        return StreamOptions::UsageNotAsked { range: value.range.clone(), insert: ASKED };
    }
    if value.kind != Kind::Object {
        return StreamOptions::Odd;
    }
    let mut given = None;
    let mut twice = false;
    let _ = Reader::within(text, value).object(|key, value| {
        if key == "include_usage" {
            twice |= given.is_some();
            given = Some(value);
        }
    });
    let after_brace = value.range.start + 1..value.range.start + 1;
    match given {
        _ if twice => StreamOptions::Odd,
        Some(value) if value.as_bool(text) == Some(true) => StreamOptions::UsageAsked,
        Some(value) if value.as_bool(text) == Some(false) || value.kind == Kind::Null => {
            StreamOptions::UsageNotAsked { range: value.range, insert: "true" }
        }
        Some(_) => StreamOptions::Odd,
        None if value.is_filled(text) => StreamOptions::UsageNotAsked { range: after_brace, insert: "\"include_usage\":true," },
        None => StreamOptions::UsageNotAsked { range: value.range.clone(), insert: ASKED },
    }
}

/// What the gateway has read of a JSON request body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestFields {
    /// The model's name, decoded.
    pub model: Option<String>,
    /// The range of the quoted model name in the body; or of another value in its place, if the path may name the
    /// model.
    pub model_range: Option<Range<usize>>,
    /// Further models that it names: for a tool, or as fallbacks.
    pub further_models: Vec<String>,
    /// Whether the caller asked for a stream.
    pub stream: bool,
    /// The completion cap of all APIs except Responses: `max_tokens`.
    pub max_tokens: Option<u64>,
    /// The one of chat, in addition to the other: `max_completion_tokens`.
    pub max_completion_tokens: Option<u64>,
    /// The one of the Responses API: `max_output_tokens`.
    pub max_output_tokens: Option<u64>,
    /// The service tier that the caller asks for; `None` leaves it to the backend.
    pub service_tier: Option<ServiceTier>,
    /// The range of that value in the body, whatever it is.
    pub service_tier_range: Option<Range<usize>>,
    /// The tier that `speed` asks for (Anthropic).
    pub speed: Option<ServiceTier>,
    /// What it says of the images that it asks for.
    pub picture: Picture,
    /// The number of completions (`n`).
    pub choices: Option<u64>,
    /// The number of prompts, if `prompt` is a list: each is completed.
    pub prompts: u64,
    /// Whether the caller asks for reasoning before the answer, in any API's form; `None` if not specified.
    pub reasoning: Option<bool>,
    /// `prompt_cache_key`, a hint for affinity.
    pub prompt_cache_key: Option<String>,
    /// The caller's `stream_options`.
    pub stream_options: StreamOptions,
    /// The references at its top level; see [`crate::objects`] for those in inner objects.
    pub references: References,
    /// Whether there may be references in inner objects.
    pub refers_deeper: bool,
    /// The items of a conversation, if it has a list of them.
    pub items: Option<Value>,
    /// Images and other encoded bytes in it.
    pub encoded: Encoded,
    /// Offset of the first byte of `messages`, `input` or `prompt`: where the prompt starts.
    pub prompt_at: Option<usize>,
}

impl RequestFields {
    /// Whether [`RequestFields::references_in`] reads the body again.
    pub fn may_refer_deeper(&self) -> bool {
        self.refers_deeper || self.items.is_some()
    }

    /// All references of the request, including those in inner objects of its `body`.
    pub fn references_in(&self, body: &[u8]) -> References {
        objects::deeper(self.references.clone(), self.items.as_ref(), self.refers_deeper, body)
    }

    /// The most tokens that one completion may have, if the request sets it in any API's form.
    pub fn cap(&self) -> Option<u64> {
        self.max_tokens.max(self.max_completion_tokens).max(self.max_output_tokens)
    }

    /// The most tokens that the completions of a request of this API may have together; one without a cap counts as
    /// `assumed`. The cap of another API doesn't count here, but if it is larger, a lenient backend may use it.
    pub fn completion_cap(&self, api: Api, assumed: u64) -> u64 {
        let (own, other) = match api {
            Api::Embeddings | Api::Speech => return 0,
            Api::Responses => (self.max_output_tokens, self.max_tokens.max(self.max_completion_tokens)),
            Api::Chat => (self.max_tokens.max(self.max_completion_tokens), self.max_output_tokens),
            _ => (self.max_tokens, self.max_completion_tokens.max(self.max_output_tokens)),
        };
        let prompts = if api == Api::Completions { self.prompts.max(1) } else { 1 };
        own.unwrap_or(assumed).max(other.unwrap_or(0)).saturating_mul(self.choices.unwrap_or(1).max(1)).saturating_mul(prompts)
    }
}

/// Whether this asks for reasoning: an effort, a switch, or an object with one of them. `None` for null.
fn asks_for_reasoning(text: &[u8], value: &Value) -> Option<bool> {
    match value.kind {
        Kind::Null => None,
        Kind::String => Some(value.as_str(text).is_none_or(|effort| !matches!(&*effort, "none" | "disabled"))),
        Kind::Object => {
            let mut asks = true;
            let _ = Reader::within(text, value).object(|key, value| {
                if matches!(key, "effort" | "type" | "enabled") {
                    asks &= value
                        .as_bool(text)
                        .unwrap_or_else(|| value.as_str(text).is_none_or(|effort| !matches!(&*effort, "none" | "disabled")));
                }
            });
            Some(asks)
        }
        _ => Some(value.as_bool(text).unwrap_or(true)),
    }
}

/// Most further models in lists of one request.
const FURTHER: usize = 256;
/// Deepest nesting of such lists.
const FURTHER_DEPTH: usize = 8;

#[derive(Default)]
struct Seen {
    fields: RequestFields,
    error: Option<BodyError>,
}

impl Seen {
    fn wrong(&mut self, field: &'static str, expected: &'static str) {
        self.error.get_or_insert(BodyError::WrongType { field, expected });
    }

    fn number(&mut self, text: &[u8], field: &'static str, value: &Value) -> Option<u64> {
        let number = value.as_u64(text);
        if number.is_none() && value.kind != Kind::Null {
            self.wrong(field, "a non-negative integer");
        }
        number
    }

    /// Models that some backends try when the first one fails: every text in such a list if it is `named`, else those
    /// that name a deployment. Each level is one more pass over it.
    fn further(&mut self, text: &[u8], field: &'static str, value: &Value, named: bool, depth: usize) {
        if depth > FURTHER_DEPTH || (named && self.fields.further_models.len() >= FURTHER) {
            return self.wrong(field, "nested in at most 8 levels, with at most 256 models");
        }
        let within = || Reader::within(text, value);
        // This can't fail: the text was parsed before.
        let _ = match value.kind {
            Kind::Array => within().array(|one| self.further(text, field, &one, named, depth + 1)),
            Kind::Object => within().object(|name, one| {
                let named = named || matches!(name, "deployment_name" | "deployment");
                self.further(text, field, &one, named, depth + 1);
            }),
            Kind::String if named => {
                match value.as_str(text) {
                    Some(model) => self.fields.further_models.push(model.into_owned()),
                    // A backend may read it all the same, so it can't be left out of the check.
                    None => self.wrong(field, "a list of names"),
                }
                Ok(())
            }
            _ => Ok(()),
        };
    }

    /// Without the text: of such a value nothing is decoded.
    fn place(&mut self, member: Placed, value: Value) {
        if matches!(member, Placed::Prompt | Placed::Input) {
            self.fields.prompt_at.get_or_insert(value.range.start);
        }
        if matches!(member, Placed::Input | Placed::Items) {
            self.fields.items = (value.kind == Kind::Array).then_some(value);
        }
    }

    fn decode(&mut self, text: &[u8], member: Decoded<'_>, value: Value) {
        match member {
            Decoded::Model => match value.as_str(text) {
                Some(model) if !model.is_empty() => {
                    self.fields.model = Some(model.into_owned());
                    self.fields.model_range = Some(value.range);
                }
                // Some clients write it so if the path names the model.
                Some(_) => self.fields.model_range = Some(value.range),
                None if value.kind == Kind::Null => self.fields.model_range = Some(value.range),
                None => self.wrong("model", "a string"),
            },
            Decoded::Stream => match value.as_bool(text) {
                Some(stream) => self.fields.stream = stream,
                None if value.kind == Kind::Null => {}
                None => self.wrong("stream", "true or false"),
            },
            // Which of the two counts depends on the backend: the larger one is used.
            Decoded::MaxTokens => self.fields.max_tokens = self.number(text, "max_tokens", &value),
            Decoded::MaxCompletionTokens => self.fields.max_completion_tokens = self.number(text, "max_completion_tokens", &value),
            Decoded::MaxOutputTokens => self.fields.max_output_tokens = self.number(text, "max_output_tokens", &value),
            // All of them are generated and billed, however many are returned.
            Decoded::Choices(field) => {
                let choices = self.number(text, field, &value);
                self.fields.choices = choices.max(self.fields.choices);
            }
            Decoded::ServiceTier => {
                match value.as_str(text) {
                    Some(tier) => self.fields.service_tier = ServiceTier::read(&tier),
                    None if value.kind == Kind::Null => {}
                    None => self.wrong("service_tier", "a string"),
                }
                self.fields.service_tier_range = Some(value.range);
            }
            Decoded::Quality => self.fields.picture.read_quality(&value.as_str(text).unwrap_or_default()),
            Decoded::Size => self.fields.picture.read_size(&value.as_str(text).unwrap_or_default()),
            Decoded::Speed => self.fields.speed = value.as_str(text).and_then(|speed| ServiceTier::of_speed(&speed)),
            Decoded::PromptCacheKey => {
                self.fields.prompt_cache_key = value.as_str(text).map(|key| key.into_owned());
            }
            Decoded::Reasoning => {
                let asks = asks_for_reasoning(text, &value);
                self.fields.reasoning = asks.max(self.fields.reasoning);
            }
            Decoded::StreamOptions => self.fields.stream_options = stream_options(text, &value),
            Decoded::Reference(key) => self.fields.references.member(text, key, &value),
            Decoded::Further { field, named } => self.further(text, field, &value, named, 0),
            Decoded::Prompts => {
                // Numbers are the tokens of one prompt.
                let count = |one: Value| self.fields.prompts += u64::from(one.kind != Kind::Number);
                let _ = Reader::within(text, &value).array(count);
                self.place(Placed::Prompt, value);
            }
        }
    }
}

/// A member that the gateway uses.
enum Member<'k> {
    /// Only its position and its kind.
    Placed(Placed),
    /// Its value is decoded or read again.
    Decoded(Decoded<'k>),
}

enum Placed {
    /// The prompt, or a part of it.
    Prompt,
    /// The same, if it is a list also items that may be references.
    Input,
    /// Items that may be references.
    Items,
}

enum Decoded<'k> {
    Model,
    Stream,
    MaxTokens,
    MaxCompletionTokens,
    MaxOutputTokens,
    Choices(&'static str),
    ServiceTier,
    Speed,
    Quality,
    Size,
    PromptCacheKey,
    Reasoning,
    StreamOptions,
    /// The member of this name, of a stored object.
    Reference(&'k [u8]),
    /// Models that some backends try when the first one fails.
    Further {
        field: &'static str,
        named: bool,
    },
    /// A list of prompts, which are counted.
    Prompts,
}

impl<'k> Member<'k> {
    /// The one list of names: what is decoded is known from it.
    fn of(key: &'k [u8], value: &Value) -> Option<Self> {
        let further = |field, named| Member::Decoded(Decoded::Further { field, named });
        let member = match key {
            b"messages" => Member::Placed(Placed::Prompt),
            b"prompt" if value.kind == Kind::Array => Member::Decoded(Decoded::Prompts),
            b"prompt" => Member::Placed(Placed::Prompt),
            b"input" => Member::Placed(Placed::Input),
            b"items" => Member::Placed(Placed::Items),
            b"model" => Member::Decoded(Decoded::Model),
            b"stream" => Member::Decoded(Decoded::Stream),
            b"max_tokens" => Member::Decoded(Decoded::MaxTokens),
            b"max_completion_tokens" => Member::Decoded(Decoded::MaxCompletionTokens),
            b"max_output_tokens" => Member::Decoded(Decoded::MaxOutputTokens),
            b"n" => Member::Decoded(Decoded::Choices("n")),
            b"best_of" => Member::Decoded(Decoded::Choices("best_of")),
            b"service_tier" => Member::Decoded(Decoded::ServiceTier),
            b"quality" if value.kind == Kind::String => Member::Decoded(Decoded::Quality),
            b"size" if value.kind == Kind::String => Member::Decoded(Decoded::Size),
            // That of speech is a number.
            b"speed" if value.kind == Kind::String => Member::Decoded(Decoded::Speed),
            b"prompt_cache_key" => Member::Decoded(Decoded::PromptCacheKey),
            b"reasoning_effort" | b"reasoning" | b"thinking" | b"enable_thinking" => Member::Decoded(Decoded::Reasoning),
            b"stream_options" => Member::Decoded(Decoded::StreamOptions),
            b"previous_response_id"
            | b"input_file_id"
            | b"conversation"
            | b"store"
            | b"background"
            | b"audio"
            | b"thread"
            | b"diagnostics" => Member::Decoded(Decoded::Reference(key)),
            // Cache, guard and log read them: they must see the same as the backend.
            b"models" => further("models", true),
            b"fallbacks" => further("fallbacks", true),
            b"context_window_fallbacks" => further("context_window_fallbacks", true),
            b"content_policy_fallbacks" => further("content_policy_fallbacks", true),
            // For example a model for its embeddings.
            b"data_sources" => further("data_sources", false),
            _ => return None,
        };
        Some(member)
    }
}

/// Checks that `body` is a JSON object and reads the fields that the gateway uses.
///
/// One pass, without a tree or a copy. All readers read the names in [`REQUEST`] in the same way in an accepted body,
/// at every depth: later passes over it need not check that again.
///
/// # Errors
/// [`BodyError`] for malformed JSON or UTF-8, wrong types and repeated fields. A missing model is no error here: the
/// path may name it.
pub fn read_fields(body: &[u8]) -> Result<RequestFields, BodyError> {
    check_encoding(body)?;
    read(&mut reader(body), body, |_| true)
}

/// Longest body that [`read_fields_at_once`] reads.
const LONGEST: usize = 1 << 20;
/// How much of a body it reads, in values of about 30 ns ([`Reader::in_steps`]).
const STEPS: usize = 32 * 1024;
/// How many bytes it decodes or reads again, of all values together. Some are read nine times.
const READ_AGAIN: usize = 16 * 1024;

/// As [`read_fields`], of a body that takes about a millisecond at most: also a long one is mostly a few texts, which are
/// passed over fast. `None` of any other body, whether it is valid or not.
pub fn read_fields_at_once(body: &[u8]) -> Option<Result<RequestFields, BodyError>> {
    if body.len() > LONGEST {
        return None;
    }
    if let Err(error) = check_encoding(body) {
        return Some(Err(error));
    }
    let mut reader = reader(body).in_steps(STEPS);
    let mut left = Some(READ_AGAIN);
    let fields = read(&mut reader, body, |range| {
        left = left.and_then(|left| left.checked_sub(range.len()));
        left.is_some()
    });
    (left.is_some() && !reader.is_exhausted()).then_some(fields)
}

fn reader(body: &[u8]) -> Reader<'_> {
    Reader::watching(body, &DEEPER).naming(&REQUEST)
}

fn check_encoding(body: &[u8]) -> Result<(), BodyError> {
    simdutf8::compat::from_utf8(body).map(drop).map_err(|error| BodyError::Encoding { at: error.valid_up_to() })
}

/// `allows` tells whether a value in this range may be decoded or read again.
fn read(reader: &mut Reader<'_>, body: &[u8], mut allows: impl FnMut(&Range<usize>) -> bool) -> Result<RequestFields, BodyError> {
    match body.iter().find(|b| !b.is_ascii_whitespace()) {
        Some(b'{') => {}
        Some(b'[' | b'"' | b't' | b'f' | b'n' | b'-' | b'0'..=b'9') => {
            reader.value(0)?;
            reader.end()?;
            return Err(BodyError::NotAnObject);
        }
        _ => return Err(reader.value(0).err().map_or(BodyError::NotAnObject, BodyError::Syntax)),
    }
    let mut seen = Seen::default();
    reader.members(|key, value| match Member::of(key, &value) {
        Some(Member::Placed(member)) => seen.place(member, value),
        Some(Member::Decoded(member)) if allows(&value.range) => seen.decode(body, member, value),
        _ => {}
    })?;
    reader.end()?;
    seen.fields.refers_deeper = reader.noticed();
    seen.fields.encoded = reader.encoded();
    match (reader.doubt(), seen.error) {
        (Some(Ambiguity::Twice { name }), _) => return Err(BodyError::Duplicate { field: name }),
        (Some(doubt), _) => return Err(BodyError::Ambiguous(doubt)),
        (None, Some(error)) => return Err(error),
        (None, None) => {}
    }
    for range in reader.models().iter().filter(|range| allows(range)) {
        let name = Value { kind: Kind::String, range: range.clone() };
        match name.as_str(body).filter(|_| body[range.start] == b'"') {
            Some(name) => seen.fields.further_models.push(name.into_owned()),
            None if &body[range.clone()] == b"null" => {}
            None => return Err(BodyError::WrongType { field: "model", expected: "a string" }),
        }
    }
    Ok(seen.fields)
}

#[cfg(test)]
mod tests;
