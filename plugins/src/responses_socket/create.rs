//! What a caller says on the socket, as a request.

use std::collections::HashSet;
use std::ops::Range;

use super::Memory;
use crate::json::{JsonError, Kind, Reader, Value};

/// Why a message is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// It is no JSON text.
    #[error("the message is not valid JSON: {0}")]
    Syntax(#[from] JsonError),
    /// It asks for something else than a response.
    #[error("messages of the type '{0}' are not supported here; send 'response.create'")]
    Type(String),
    /// A field stands twice.
    #[error("'{0}' is given more than once")]
    Twice(String),
    /// A field has a value that can't be served on a socket.
    #[error("'{field}' must be {expected}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
    },
}

impl CreateError {
    /// The field that is meant, if it is one.
    pub fn field(&self) -> Option<&str> {
        match self {
            CreateError::Syntax(_) => None,
            CreateError::Type(_) => Some("type"),
            CreateError::Twice(field) => Some(field),
            CreateError::Field { field, .. } => Some(field),
        }
    }
}

/// A message that asks for a response.
#[derive(Debug)]
pub struct Create<'t> {
    text: &'t [u8],
    /// Its members, but for those that are for the socket only: the name as it is written, with its quotes, and the value.
    members: Vec<(String, Range<usize>)>,
    input: Option<Value>,
    previous: Option<Value>,
    model: Option<String>,
    stored: bool,
    warm_up: bool,
}

impl<'t> Create<'t> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`CreateError`]
    pub fn read(text: &'t str) -> Result<Self, CreateError> {
        let text = text.as_bytes();
        let mut found = Create { text, members: Vec::new(), input: None, previous: None, model: None, stored: true, warm_up: false };
        let (mut kind, mut wrong) = (None, None);
        let mut names = HashSet::new();
        let mut reader = Reader::new(text);
        reader.object(|name, value| {
            if !names.insert(name.to_owned()) {
                wrong.get_or_insert(CreateError::Twice(name.chars().take(64).collect()));
            }
            let mut must = |is: bool, field, expected| {
                if !is {
                    wrong.get_or_insert(CreateError::Field { field, expected });
                }
            };
            let bytes = &text[value.range.clone()];
            match name {
                "type" => return kind = value.as_str(text).map(std::borrow::Cow::into_owned),
                "stream" => return,
                "background" => return must(matches!(bytes, b"false" | b"null"), "background", "false on a socket, if it is given"),
                "stream_id" => return must(bytes == b"null", "stream_id", "left out: one response after the other is made on a socket"),
                "generate" => {
                    must(matches!(bytes, b"true" | b"false" | b"null"), "generate", "true or false");
                    return found.warm_up = bytes == b"false";
                }
                "store" => found.stored = bytes != b"false",
                "model" => found.model = value.as_str(text).map(std::borrow::Cow::into_owned),
                "input" => return found.input = Some(value),
                "previous_response_id" => {
                    must(matches!(value.kind, Kind::String | Kind::Null), "previous_response_id", "the name of a response");
                    return found.previous = Some(value).filter(|value| value.kind == Kind::String);
                }
                _ => {}
            }
            found.members.push((serde_json::Value::from(name).to_string(), value.range));
        })?;
        reader.end()?;
        match (wrong, kind.as_deref()) {
            (Some(wrong), _) => Err(wrong),
            (None, Some("response.create")) => Ok(found),
            (None, kind) => Err(CreateError::Type(kind.unwrap_or_default().chars().take(64).collect())),
        }
    }

    /// The model, if it is named.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Whether the backend is to store the response; if not, only the connection knows it.
    pub fn is_stored(&self) -> bool {
        self.stored
    }

    /// Whether nothing is to be generated: what is given is for the next one.
    pub fn is_warm_up(&self) -> bool {
        self.warm_up
    }

    /// The response that it goes on from.
    pub fn previous(&self) -> Option<String> {
        self.previous.as_ref()?.as_str(self.text).map(std::borrow::Cow::into_owned)
    }

    /// The body of the request that asks for the same: streamed, and with what the response that it goes on from was made
    /// of, if only the connection knows that.
    pub fn body(&self, before: Option<&Memory>) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.text.len() + before.map_or(0, Memory::len) + 64);
        body.extend_from_slice(b"{\"stream\":true");
        let mut member = |name: &str, value: &[&[u8]]| {
            body.push(b',');
            body.extend_from_slice(name.as_bytes());
            body.push(b':');
            value.iter().for_each(|piece| body.extend_from_slice(piece));
        };
        for (name, value) in &self.members {
            member(name, &[&self.text[value.clone()]]);
        }
        match (before, &self.input) {
            (Some(before), _) => {
                let items = before.followed_by(self.items());
                member("\"input\"", &[b"[", items.as_bytes(), b"]"]);
            }
            (None, Some(input)) => member("\"input\"", &[&self.text[input.range.clone()]]),
            (None, None) => {}
        }
        if let (None, Some(previous)) = (before, &self.previous) {
            member("\"previous_response_id\"", &[&self.text[previous.range.clone()]]);
        }
        body.push(b'}');
        body
    }

    /// Its input as items, separated by commas.
    pub fn items(&self) -> String {
        let Some(input) = &self.input else { return String::new() };
        let value = &self.text[input.range.clone()];
        let text = || String::from_utf8_lossy(value);
        match input.kind {
            Kind::String => format!(r#"{{"type":"message","role":"user","content":{}}}"#, text()),
            Kind::Array => text()[1..value.len() - 1].trim().to_owned(),
            // No model takes it: its backend says so.
            Kind::Null => String::new(),
            _ => text().into_owned(),
        }
    }
}
