//! Reads the few fields of a request body that the gateway uses, and their positions.

use std::borrow::Cow;
use std::ops::Range;

use crate::api::Api;
use crate::json::{Encoded, JsonError, Kind, Reader, Value};
use crate::names::{Ambiguity, REQUEST};
use crate::objects::{self, DEEPER, References};

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
                self.fields.further_models.extend(value.as_str(text).map(Cow::into_owned));
                Ok(())
            }
            _ => Ok(()),
        };
    }

    fn prompt(&mut self, value: &Value) {
        self.fields.prompt_at.get_or_insert(value.range.start);
    }

    fn member(&mut self, text: &[u8], key: &str, value: Value) {
        match key {
            "model" => match value.as_str(text) {
                Some(model) if !model.is_empty() => {
                    self.fields.model = Some(model.into_owned());
                    self.fields.model_range = Some(value.range);
                }
                // Some clients write it so if the path names the model.
                Some(_) => self.fields.model_range = Some(value.range),
                None if value.kind == Kind::Null => self.fields.model_range = Some(value.range),
                None => self.wrong("model", "a string"),
            },
            "stream" => match value.as_bool(text) {
                Some(stream) => self.fields.stream = stream,
                None if value.kind == Kind::Null => {}
                None => self.wrong("stream", "true or false"),
            },
            // Which of the two counts depends on the backend: the larger one is used.
            "max_tokens" => self.fields.max_tokens = self.number(text, "max_tokens", &value),
            "max_completion_tokens" => self.fields.max_completion_tokens = self.number(text, "max_completion_tokens", &value),
            "max_output_tokens" => self.fields.max_output_tokens = self.number(text, "max_output_tokens", &value),
            "n" => {
                let choices = self.number(text, "n", &value);
                self.fields.choices = choices.max(self.fields.choices);
            }
            // All of them are generated and billed, however many are returned.
            "best_of" => {
                let made = self.number(text, "best_of", &value);
                self.fields.choices = made.max(self.fields.choices);
            }
            "prompt_cache_key" => {
                self.fields.prompt_cache_key = value.as_str(text).map(|key| key.into_owned());
            }
            "reasoning_effort" | "reasoning" | "thinking" | "enable_thinking" => {
                let asks = asks_for_reasoning(text, &value);
                self.fields.reasoning = asks.max(self.fields.reasoning);
            }
            "stream_options" => self.fields.stream_options = stream_options(text, &value),
            "previous_response_id" | "input_file_id" | "conversation" | "store" | "background" | "audio" => {
                self.fields.references.member(text, key, &value)
            }
            // Cache, guard and log read it: they must see the same as the backend.
            "models" => self.further(text, "models", &value, true, 0),
            "fallbacks" => self.further(text, "fallbacks", &value, true, 0),
            "context_window_fallbacks" => self.further(text, "context_window_fallbacks", &value, true, 0),
            "content_policy_fallbacks" => self.further(text, "content_policy_fallbacks", &value, true, 0),
            // For example a model for its embeddings.
            "data_sources" => self.further(text, "data_sources", &value, false, 0),
            "messages" => self.prompt(&value),
            "input" => {
                self.prompt(&value);
                self.fields.items = (value.kind == Kind::Array).then_some(value);
            }
            "items" => self.fields.items = (value.kind == Kind::Array).then_some(value),
            "prompt" => {
                self.prompt(&value);
                if value.kind == Kind::Array {
                    // Numbers are the tokens of one prompt.
                    let count = |one: Value| self.fields.prompts += u64::from(one.kind != Kind::Number);
                    let _ = Reader::within(text, &value).array(count);
                }
            }
            _ => {}
        }
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
    if let Err(error) = simdutf8::compat::from_utf8(body) {
        return Err(BodyError::Encoding { at: error.valid_up_to() });
    }
    let mut reader = Reader::watching(body, &DEEPER).naming(&REQUEST);
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
    reader.object(|key, value| seen.member(body, key, value))?;
    reader.end()?;
    seen.fields.refers_deeper = reader.noticed();
    seen.fields.encoded = reader.encoded();
    match (reader.doubt(), seen.error) {
        (Some(Ambiguity::Twice { name }), _) => return Err(BodyError::Duplicate { field: name }),
        (Some(doubt), _) => return Err(BodyError::Ambiguous(doubt)),
        (None, Some(error)) => return Err(error),
        (None, None) => {}
    }
    for range in reader.models() {
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
mod tests {
    use super::*;

    #[test]
    fn thinking_is_asked_for_in_several_words() {
        for (body, expected) in [
            (r#"{"model":"m"}"#, None),
            (r#"{"reasoning_effort":null,"thinking":null}"#, None),
            (r#"{"reasoning_effort":"high"}"#, Some(true)),
            (r#"{"reasoning_effort":"none"}"#, Some(false)),
            (r#"{"reasoning":{"effort":"low","summary":"auto"}}"#, Some(true)),
            (r#"{"reasoning":{"effort":"none"}}"#, Some(false)),
            (r#"{"reasoning":{"enabled":false}}"#, Some(false)),
            (r#"{"reasoning":{"summary":"auto"}}"#, Some(true)),
            (r#"{"thinking":{"type":"enabled","budget_tokens":1024}}"#, Some(true)),
            (r#"{"thinking":{"type":"disabled"}}"#, Some(false)),
            (r#"{"enable_thinking":false}"#, Some(false)),
            (r#"{"enable_thinking":false,"reasoning_effort":"low"}"#, Some(true)),
        ] {
            assert_eq!(read_fields(body.as_bytes()).unwrap().reasoning, expected, "{body}");
        }
    }

    #[test]
    fn of_several_caps_the_larger_one_counts() {
        for (api, body, expected) in [
            (Api::Chat, r#"{"max_tokens":900,"max_completion_tokens":1}"#, 900),
            (Api::Chat, r#"{"max_tokens":1,"max_completion_tokens":900}"#, 900),
            (Api::Chat, r#"{"max_tokens":null,"max_completion_tokens":5}"#, 5),
            (Api::Chat, r#"{"max_output_tokens":1,"max_tokens":900}"#, 900),
            (Api::Responses, r#"{"max_output_tokens":1,"max_tokens":900}"#, 900),
            (Api::Responses, r#"{"max_output_tokens":2,"n":1}"#, 2),
            // Another API's cap alone is none.
            (Api::Chat, r#"{"max_output_tokens":1}"#, 1024),
            (Api::Responses, r#"{"max_tokens":1}"#, 1024),
            (Api::Responses, r#"{"max_tokens":4000}"#, 4000),
            (Api::Completions, r#"{"max_tokens":10,"n":2,"best_of":3}"#, 30),
            (Api::Completions, r#"{"max_tokens":10,"n":2,"prompt":["a","b",[1,2]]}"#, 60),
            (Api::Completions, r#"{"max_tokens":10,"prompt":[1,2,3]}"#, 10),
            (Api::Messages, "{}", 1024),
            (Api::Embeddings, r#"{"max_tokens":10}"#, 0),
        ] {
            assert_eq!(read_fields(body.as_bytes()).unwrap().completion_cap(api, 1024), expected, "{api:?} {body}");
        }
    }

    #[test]
    fn reads_fields_and_their_place() {
        let body = br#"{"messages":[{"role":"user","content":"hi \"model\":1"}], "model" : "gpt-4o","stream":true,"max_tokens":7}"#;
        let fields = read_fields(body).unwrap();
        assert_eq!(fields.model.as_deref(), Some("gpt-4o"));
        assert_eq!(&body[fields.model_range.unwrap()], br#""gpt-4o""#);
        assert!(fields.stream);
        assert_eq!(fields.max_tokens, Some(7));
        assert_eq!(fields.prompt_at, Some(12));
    }

    #[test]
    fn refuses_what_two_readers_could_read_differently() {
        let duplicate = BodyError::Duplicate { field: "model" };
        assert_eq!(read_fields(br#"{"model":"a","model":"b"}"#), Err(duplicate.clone()));
        assert_eq!(read_fields(br#"{"model":"a","mod\u0065l":"b"}"#), Err(duplicate));
    }

    #[test]
    fn names_mean_one_thing_to_every_reader() {
        use Ambiguity::{Alike, HalfPair, OtherTwice};
        for (bad, expected) in [
            (r#"{"model":"a","Model":"b"}"#, Alike { name: "model", at: 13 }),
            (r#"{"Previous_Response_Id":"resp_1"}"#, Alike { name: "previous_response_id", at: 1 }),
            (r#"{"maxTokens":1}"#, Alike { name: "max_tokens", at: 1 }),
            ("{\"\\u017ftream\":true}", Alike { name: "stream", at: 1 }),
            (r#"{"input":[{"Type":"item_reference","id":"msg_1"}]}"#, Alike { name: "type", at: 11 }),
            (r#"{"tools":[{"type":"image_generation","Model":"x"}]}"#, Alike { name: "model", at: 37 }),
            (r#"{"messages":[{"content":[{"fileId":"x"}]}]}"#, Alike { name: "file_id", at: 26 }),
            (r#"{"prompt":{"variables":{"a":{"File_Id":"x"}}}}"#, Alike { name: "file_id", at: 29 }),
            (r#"{"Metadata":{}}"#, Alike { name: "metadata", at: 1 }),
            (r#"{"x":1,"X":2}"#, OtherTwice { at: 7 }),
            (r#"{"a_b":1,"aB":2}"#, OtherTwice { at: 9 }),
            (r#"{"input":[{"\ud800":1}]}"#, HalfPair { at: 11 }),
        ] {
            assert_eq!(read_fields(bad.as_bytes()), Err(BodyError::Ambiguous(expected)), "{bad}");
        }
        for (twice, field) in [
            (r#"{"input":[{"id":"a","\u0069d":"b"}]}"#, "id"),
            (r#"{"tools":[{"vector_store_ids":[],"vector_store_ids":[]}]}"#, "vector_store_ids"),
            (r#"{"stream_options":{"include_usage":false,"include_usage":true}}"#, "include_usage"),
            (r#"{"temperature":1,"temperature":2}"#, "temperature"),
        ] {
            assert_eq!(read_fields(twice.as_bytes()), Err(BodyError::Duplicate { field }), "{twice}");
        }
    }

    #[test]
    fn what_is_the_callers_own_may_be_called_anything() {
        for fine in [
            r#"{"tools":[{"function":{"parameters":{"properties":{"Type":{},"type":{},"ID":{"Model":1,"Model":2}}}}}]}"#,
            r#"{"metadata":{"Model":"x","model":"y","type":"a","Type":"b"}}"#,
            r#"{"messages":[{"content":[{"type":"tool_use","id":"a","input":{"ID":1,"Id":2}}]}]}"#,
            r#"{"input":[{"type":"message","role":"user","content":"Model"}],"prompt":{"variables":{"Model":"x","Type":"y"}}}"#,
            r#"{"text":{"format":{"type":"json_schema","schema":{"properties":{"Content":{}}}}}}"#,
            r#"{"documents":[{"Text":"a","ID":7}],"chat_template_kwargs":{"Content":1}}"#,
        ] {
            assert!(read_fields(fine.as_bytes()).is_ok(), "{fine}");
        }
        // At the top level an input that is an object is as good as any other.
        let hidden = read_fields(br#"{"input":{"file_id":"a","file_id":"b"}}"#);
        assert_eq!(hidden, Err(BodyError::Duplicate { field: "file_id" }));
    }

    #[test]
    fn every_model_is_known() {
        let further = |body: &str| read_fields(body.as_bytes()).map(|fields| fields.further_models);
        assert_eq!(further(r#"{"model":"a","tools":[{"type":"image_generation","mod\u0065l":"b"}]}"#).unwrap(), ["b"]);
        assert_eq!(further(r#"{"model":"a","models":["b","c"],"fallbacks":[{"model":"d"}]}"#).unwrap(), ["b", "c", "d", "d"]);
        for body in [
            r#"{"fallbacks":[{"a":["b"]}]}"#,
            r#"{"fallbacks":"b"}"#,
            r#"{"models":"b"}"#,
            r#"{"context_window_fallbacks":[{"a":["b"]}]}"#,
            r#"{"data_sources":[{"type":"azure_search","parameters":{"embedding_dependency":{"deployment_name":"b"}}}]}"#,
        ] {
            assert_eq!(further(body).unwrap(), ["b"], "{body}");
        }
        let deep = format!(r#"{{"fallbacks":{}"b"{}}}"#, "[".repeat(20), "]".repeat(20));
        assert!(matches!(further(&deep), Err(BodyError::WrongType { field: "fallbacks", .. })));
        let long = format!(r#"{{"models":["b"{}]}}"#, r#","b""#.repeat(300));
        assert!(further(&long).is_err());
        assert!(further(r#"{"model":"a","tools":[{"model":null}],"metadata":{"model":"x"}}"#).unwrap().is_empty());
        assert!(further(r#"{"tools":[{"model":7}]}"#).is_err());
        let many = format!(r#"{{"tools":[{}{{}}]}}"#, r#"{"model":"x"},"#.repeat(257));
        assert_eq!(further(&many), Err(BodyError::Ambiguous(Ambiguity::Models { most: 256 })));
    }

    #[test]
    fn no_model_is_none_however_it_is_written() {
        for (body, stands) in [(r#"{"model":null}"#, "null"), (r#"{"model":""}"#, "\"\"")] {
            let fields = read_fields(body.as_bytes()).unwrap();
            assert_eq!((fields.model, &body[fields.model_range.unwrap()]), (None, stands));
        }
    }

    #[test]
    fn what_readers_forgive_differently_is_no_json() {
        for bad in [
            "\u{feff}{}",
            "{\"n\":1,}",
            "{\"n\":1/**/}",
            "{\"n\":1}//",
            "{\"n\":NaN}",
            "{\"n\":01}",
            "{\"n\":+1}",
            "{'n':1}",
            "{\"n\":1}\0",
            "{\"x\":Infinity}",
            "\u{c}{}",
            "{\"x\":1}{}",
        ] {
            assert!(matches!(read_fields(bad.as_bytes()), Err(BodyError::Syntax(_))), "{bad}");
        }
        for number in ["1e400", "1e1", "1.0", "-0", "18446744073709551616", "\"7\"", "[7]"] {
            for field in ["max_tokens", "max_completion_tokens", "max_output_tokens", "n", "best_of"] {
                let body = format!(r#"{{"{field}":{number}}}"#);
                assert!(matches!(read_fields(body.as_bytes()), Err(BodyError::WrongType { .. })), "{body}");
            }
        }
        assert!(matches!(read_fields(br#"{"model":"a\ud800"}"#), Err(BodyError::WrongType { field: "model", .. })));
    }

    proptest::proptest! {
        /// Whatever a reader does with case and with the first or the last of two: it reads the same model.
        #[test]
        fn every_reader_finds_one_model(names in proptest::collection::vec("[mM]od[eE]l|MODEL|mo_del|m\\\\u006fdel|x", 1..4)) {
            let members: Vec<String> = names.iter().enumerate().map(|(at, name)| format!("\"{name}\":\"{at}\"")).collect();
            let body = format!("{{{}}}", members.join(","));
            let candidates = names.iter().filter(|name| *name != "x").count();
            if let Ok(fields) = read_fields(body.as_bytes()) {
                proptest::prop_assert_eq!(candidates, usize::from(fields.model.is_some()));
            } else {
                proptest::prop_assert!(names.len() > 1 || names[0] != "x");
            }
        }
    }

    #[test]
    fn refuses_wrong_types() {
        for bad in [r#"{"model":1}"#, r#"{"model":"a","stream":"yes"}"#, r#"{"max_tokens":-1}"#, r#"{"n":1.5}"#] {
            assert!(matches!(read_fields(bad.as_bytes()), Err(BodyError::WrongType { .. })), "{bad}");
        }
        assert_eq!(read_fields(b"[1]"), Err(BodyError::NotAnObject));
        assert!(matches!(read_fields(b"{\"model\":\"\xff\"}"), Err(BodyError::Encoding { at: 10 })));
        assert!(matches!(read_fields(b""), Err(BodyError::Syntax(_))));
        assert!(matches!(read_fields(b"hello"), Err(BodyError::Syntax(_))));
    }

    #[test]
    fn the_usage_can_be_asked_for_by_an_edit() {
        for (options, expected) in [
            ("null", r#"{"include_usage":true}"#),
            ("{}", r#"{"include_usage":true}"#),
            ("{ }", r#"{"include_usage":true}"#),
            (r#"{"include_usage": false}"#, r#"{"include_usage": true}"#),
            (r#"{"include_usage":null,"x":1}"#, r#"{"include_usage":true,"x":1}"#),
            (r#"{ "include_obfuscation":false}"#, r#"{"include_usage":true, "include_obfuscation":false}"#),
        ] {
            let body = format!(r#"{{"model":"a","stream_options":{options},"stream":true}}"#);
            let StreamOptions::UsageNotAsked { range, insert } = read_fields(body.as_bytes()).unwrap().stream_options else {
                panic!("{options}")
            };
            let edited = format!("{}{insert}{}", &body[..range.start], &body[range.end..]);
            assert_eq!(edited, body.replace(options, expected), "{options}");
            assert_eq!(read_fields(edited.as_bytes()).unwrap().stream_options, StreamOptions::UsageAsked);
        }
        let options = |text: &str| read_fields(format!(r#"{{"model":"a"{text}}}"#).as_bytes()).unwrap().stream_options;
        assert_eq!(options(""), StreamOptions::Absent);
        assert_eq!(options(r#","stream_options":{"include_usage":true}"#), StreamOptions::UsageAsked);
        for odd in [r#""x""#, r#"{"include_usage":"yes"}"#] {
            assert_eq!(options(&format!(r#","stream_options":{odd}"#)), StreamOptions::Odd, "{odd}");
        }
    }

    #[test]
    fn nulls_are_absence() {
        let fields = read_fields(br#"{"model":"a","stream":null,"max_tokens":null,"max_completion_tokens":5}"#).unwrap();
        assert_eq!((fields.stream, fields.cap()), (false, Some(5)));
    }
}
