//! A caller's message on the socket, as a request.

use std::borrow::Cow;
use std::ops::Range;

use super::Memory;
use crate::json::{JsonError, Kind, Reader, Value};

/// Why a message is not a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// It is not JSON.
    #[error("the message is not valid JSON: {0}")]
    Syntax(#[from] JsonError),
    /// It doesn't ask for a response.
    #[error("messages of the type '{0}' are not supported here; send 'response.create'")]
    Type(String),
    /// A field occurs twice.
    #[error("'{0}' is given more than once")]
    Twice(&'static str),
    /// A field has a value that a socket doesn't support.
    #[error("'{field}' must be {expected}")]
    Field {
        /// Its name.
        field: &'static str,
        /// The expected value.
        expected: &'static str,
    },
}

impl CreateError {
    /// The field that the error is about, if any.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            CreateError::Syntax(_) => None,
            CreateError::Type(_) => Some("type"),
            CreateError::Twice(field) | CreateError::Field { field, .. } => Some(field),
        }
    }

    /// The error's code.
    pub fn code(&self) -> &'static str {
        match self {
            CreateError::Syntax(_) | CreateError::Twice(_) => "invalid_json",
            CreateError::Type(_) => "unsupported_message",
            CreateError::Field { field: "stream_id", .. } => "invalid_stream_id",
            CreateError::Field { .. } => "invalid_request",
        }
    }
}

/// The members with a meaning on the socket; all others belong to the request, which is parsed separately.
const KNOWN: [&str; 9] = ["type", "stream", "background", "stream_id", "generate", "store", "model", "input", "previous_response_id"];

/// A known member: its range, with the comma before it, and its value.
#[derive(Debug, Clone)]
struct Member {
    whole: Range<usize>,
    value: Value,
}

/// A message that asks for a response.
#[derive(Debug)]
pub struct Create<'t> {
    text: &'t [u8],
    /// In the order of [`KNOWN`].
    known: [Option<Member>; KNOWN.len()],
    /// The range of the members: after the opening brace, up to the end of the last one.
    members: Range<usize>,
}

impl<'t> Create<'t> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`CreateError`]
    pub fn read(text: &'t str) -> Result<Self, CreateError> {
        let text = text.as_bytes();
        let begin = text.iter().position(|byte| *byte == b'{').map_or(0, |at| at + 1);
        let mut found = Create { text, known: Default::default(), members: begin..begin };
        let mut twice = None;
        let mut reader = Reader::new(text);
        reader.object(|name, value| {
            let whole = found.members.end..value.range.end;
            found.members.end = value.range.end;
            if let Some(index) = KNOWN.iter().position(|known| *known == name)
                && found.known[index].replace(Member { whole, value }).is_some()
            {
                twice.get_or_insert(CreateError::Twice(KNOWN[index]));
            }
        })?;
        reader.end()?;
        if let Some(twice) = twice {
            return Err(twice);
        }
        match found.text_of("type").as_deref() {
            Some("response.create") => found.may_be(),
            kind => Err(CreateError::Type(kind.unwrap_or_default().chars().take(64).collect())),
        }
    }

    /// Checks the values that a socket may not support.
    fn may_be(self) -> Result<Self, CreateError> {
        let is = |name: &str, allowed: &[&[u8]]| self.value(name).is_none_or(|value| allowed.contains(&value.bytes(self.text)));
        let wrong = |field, expected| Err(CreateError::Field { field, expected });
        if !is("background", &[b"false", b"null"]) {
            return wrong("background", "false on a socket, if it is given");
        }
        if !is("stream_id", &[b"null"]) {
            return wrong("stream_id", "left out: one response after the other is made on a socket");
        }
        if !is("generate", &[b"true", b"false", b"null"]) {
            return wrong("generate", "true or false");
        }
        if self.value("previous_response_id").is_some_and(|value| !matches!(value.kind, Kind::String | Kind::Null)) {
            return wrong("previous_response_id", "the name of a response");
        }
        Ok(self)
    }

    fn value(&self, name: &str) -> Option<&Value> {
        let index = KNOWN.iter().position(|known| *known == name)?;
        self.known[index].as_ref().map(|member| &member.value)
    }

    fn text_of(&self, name: &str) -> Option<String> {
        self.value(name)?.as_str(self.text).map(Cow::into_owned)
    }

    /// The model, if it is set.
    pub fn model(&self) -> Option<String> {
        self.text_of("model")
    }

    /// Whether the backend stores the response; if not, only the connection knows it.
    pub fn is_stored(&self) -> bool {
        self.value("store").is_none_or(|value| value.bytes(self.text) != b"false")
    }

    /// Whether nothing is generated: its input is for the next response.
    pub fn is_warm_up(&self) -> bool {
        self.value("generate").is_some_and(|value| value.bytes(self.text) == b"false")
    }

    /// The response that it continues.
    pub fn previous(&self) -> Option<String> {
        self.text_of("previous_response_id")
    }

    /// The body of the request for the same response: streamed, and with the input and output of the previous response,
    /// if only the connection knows it.
    pub fn body(&self, before: Option<&Memory>) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.text.len() + before.map_or(0, Memory::len) + 64);
        body.extend_from_slice(b"{\"stream\":true");
        // Members for the socket are left out; what only the connection knows is added.
        let mut cut: Vec<Range<usize>> = ["type", "stream", "background", "stream_id", "generate"]
            .iter()
            .chain(if before.is_some() { &["input", "previous_response_id"][..] } else { &[] })
            .filter_map(|name| KNOWN.iter().position(|known| known == name))
            .filter_map(|index| self.known[index].as_ref().map(|member| member.whole.clone()))
            .collect();
        cut.sort_unstable_by_key(|range| range.start);
        let mut at = self.members.start;
        for range in cut.into_iter().chain(std::iter::once(self.members.end..self.members.end)) {
            let kept = &self.text[at..range.start];
            // The first one has no comma before it.
            if at == self.members.start && !kept.is_empty() {
                body.push(b',');
            }
            body.extend_from_slice(kept);
            at = range.end;
        }
        if let Some(before) = before {
            body.extend_from_slice(b",\"input\":[");
            body.extend_from_slice(before.followed_by(&self.items()).as_bytes());
            body.push(b']');
            if let Some(root) = before.root() {
                body.extend_from_slice(format!(",\"previous_response_id\":{}", serde_json::Value::from(root)).as_bytes());
            }
        }
        body.push(b'}');
        body
    }

    /// Its input as items, separated by commas.
    pub fn items(&self) -> String {
        let Some(input) = self.value("input") else { return String::new() };
        let text = String::from_utf8_lossy(input.bytes(self.text));
        match input.kind {
            Kind::String => format!(r#"{{"type":"message","role":"user","content":{text}}}"#),
            Kind::Array => text[1..text.len() - 1].trim().to_owned(),
            Kind::Null => String::new(),
            // Not valid for any model: the backend reports the error.
            _ => text.into_owned(),
        }
    }

    /// What the connection remembers for this request, before the answer.
    pub fn remembered(&self, before: Option<&Memory>) -> Memory {
        match before {
            Some(before) => Memory::new(String::new(), before.root().map(str::to_owned), before.followed_by(&self.items())),
            None => Memory::new(String::new(), self.previous(), self.items()),
        }
    }
}
