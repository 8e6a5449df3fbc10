//! Reads out of a request body the few fields that the gateway acts on, and where they stand.

use std::ops::Range;

use crate::json::{Encoded, JsonError, Kind, Reader, Value};
use crate::objects::{DEEPER, References};

/// Why a request body was refused. Every variant becomes a 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The body is no JSON text.
    #[error("the body is not valid JSON: {0}")]
    Syntax(#[from] JsonError),
    /// The body is not UTF-8.
    #[error("the body is not valid UTF-8 (byte {at})")]
    Encoding {
        /// Offset of the first bad byte.
        at: usize,
    },
    /// The body is JSON, but no object.
    #[error("the body must be a JSON object")]
    NotAnObject,
    /// A field has a type that no API allows.
    #[error("'{field}' must be {expected}")]
    WrongType {
        /// The field's name.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A field that the gateway reads stands twice, so two readers could disagree on it.
    #[error("'{field}' is given more than once")]
    Duplicate {
        /// The field's name.
        field: &'static str,
    },
    /// No model in the body, and none in the path.
    #[error("you must provide a 'model'")]
    NoModel,
}

/// What a caller says of `stream_options`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum StreamOptions {
    /// Nothing.
    #[default]
    Absent,
    /// It wants the usage told.
    UsageAsked,
    /// It doesn't: `range` is to be replaced by `insert` to ask for it all the same.
    UsageNotAsked {
        /// Where.
        range: Range<usize>,
        /// By what.
        insert: &'static str,
    },
    /// Something that can't be edited.
    Odd,
}

/// Reads `stream_options`, and how to ask for the usage in it.
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

/// What the gateway read of a JSON request body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestFields {
    /// The model's name, decoded.
    pub model: Option<String>,
    /// Where the quoted model name stands in the body.
    pub model_range: Option<Range<usize>>,
    /// Whether the caller asked for a stream.
    pub stream: bool,
    /// The completion cap in tokens (`max_completion_tokens`, `max_output_tokens` or `max_tokens`).
    pub max_tokens: Option<u64>,
    /// How many completions (`n`).
    pub choices: Option<u64>,
    /// `prompt_cache_key`, a hint for affinity.
    pub prompt_cache_key: Option<String>,
    /// What the caller says of `stream_options`.
    pub stream_options: StreamOptions,
    /// What it refers to, at its top level; see [`crate::objects`] for what stands deeper.
    pub references: References,
    /// Whether references may stand deeper.
    pub refers_deeper: bool,
    /// Images and other encoded bytes in it.
    pub encoded: Encoded,
    /// Offset of the first byte of `messages`, `input` or `prompt`: where the prompt starts.
    pub prompt_at: Option<usize>,
}

#[derive(Default)]
struct Seen {
    fields: RequestFields,
    names: Vec<&'static str>,
    error: Option<BodyError>,
}

impl Seen {
    fn once(&mut self, field: &'static str) -> bool {
        if self.names.contains(&field) {
            self.error.get_or_insert(BodyError::Duplicate { field });
            return false;
        }
        self.names.push(field);
        true
    }

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

    fn prompt(&mut self, value: &Value) {
        self.fields.prompt_at.get_or_insert(value.range.start);
    }

    fn member(&mut self, text: &[u8], key: &str, value: Value) {
        match key {
            "model" if self.once("model") => match value.as_str(text) {
                Some(model) if !model.is_empty() => {
                    self.fields.model = Some(model.into_owned());
                    self.fields.model_range = Some(value.range);
                }
                _ => self.wrong("model", "a non-empty string"),
            },
            "stream" if self.once("stream") => match value.as_bool(text) {
                Some(stream) => self.fields.stream = stream,
                None if value.kind == Kind::Null => {}
                None => self.wrong("stream", "true or false"),
            },
            "max_tokens" if self.once("max_tokens") => {
                let cap = self.number(text, "max_tokens", &value);
                self.fields.max_tokens = self.fields.max_tokens.or(cap);
            }
            "max_completion_tokens" if self.once("max_completion_tokens") => {
                let cap = self.number(text, "max_completion_tokens", &value);
                self.fields.max_tokens = cap.or(self.fields.max_tokens);
            }
            "max_output_tokens" if self.once("max_output_tokens") => {
                let cap = self.number(text, "max_output_tokens", &value);
                self.fields.max_tokens = cap.or(self.fields.max_tokens);
            }
            "n" if self.once("n") => {
                let choices = self.number(text, "n", &value);
                self.fields.choices = choices.max(self.fields.choices);
            }
            // As many are made and billed, whatever is shown of them.
            "best_of" if self.once("best_of") => {
                let made = self.number(text, "best_of", &value);
                self.fields.choices = made.max(self.fields.choices);
            }
            "prompt_cache_key" if self.once("prompt_cache_key") => {
                self.fields.prompt_cache_key = value.as_str(text).map(|key| key.into_owned());
            }
            "stream_options" if self.once("stream_options") => self.fields.stream_options = stream_options(text, &value),
            "previous_response_id" | "input_file_id" | "conversation" | "store" => self.fields.references.member(text, key, &value),
            // Read by cache, guard and log: they must see what the backend sees.
            "messages" if self.once("messages") => self.prompt(&value),
            "input" if self.once("input") => self.prompt(&value),
            "prompt" if self.once("prompt") => self.prompt(&value),
            _ => {}
        }
    }
}

/// Checks that `body` is a JSON object and reads the fields that the gateway acts on.
///
/// One pass, no tree; the bytes stay the caller's.
///
/// # Errors
/// [`BodyError`] for malformed JSON or UTF-8, wrong types and repeated fields. A missing model
/// is no error here: the path may name it.
pub fn read_fields(body: &[u8]) -> Result<RequestFields, BodyError> {
    if let Err(error) = simdutf8::compat::from_utf8(body) {
        return Err(BodyError::Encoding { at: error.valid_up_to() });
    }
    let mut reader = Reader::watching(body, &DEEPER);
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
    match seen.error {
        Some(error) => Err(error),
        None => Ok(seen.fields),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn refuses_wrong_types() {
        for bad in [
            r#"{"model":1}"#,
            r#"{"model":""}"#,
            r#"{"model":null}"#,
            r#"{"model":"a","stream":"yes"}"#,
            r#"{"max_tokens":-1}"#,
            r#"{"n":1.5}"#,
        ] {
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
        for odd in [r#""x""#, r#"{"include_usage":"yes"}"#, r#"{"include_usage":false,"include_usage":true}"#] {
            assert_eq!(options(&format!(r#","stream_options":{odd}"#)), StreamOptions::Odd, "{odd}");
        }
    }

    #[test]
    fn nulls_are_absence() {
        let fields = read_fields(br#"{"model":"a","stream":null,"max_tokens":null,"max_completion_tokens":5}"#).unwrap();
        assert_eq!((fields.stream, fields.max_tokens), (false, Some(5)));
    }
}
