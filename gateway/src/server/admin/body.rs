//! Bodies of requests to the admin listener: JSON objects, of bounded size.

use std::time::Duration;

use http::{StatusCode, header};
use pingora::protocols::http::ServerSession;
use serde_json::{Map, Value, json};

use super::answer::{Answer, json_answer, problem};
use crate::clock::Clock;

/// Longest body.
const LONGEST: usize = 64 << 10;
/// Time for a whole body.
const LIMIT: Duration = Duration::from_secs(10);

/// Reads a request's body. If it is refused, the connection ends with the answer.
pub(super) async fn read(session: &mut ServerSession, clock: &Clock) -> Result<Vec<u8>, Answer> {
    let read = read_in_time(session, clock).await;
    if read.is_err() {
        session.set_keepalive(None);
    }
    read.map_err(|answer| *answer)
}

async fn read_in_time(session: &mut ServerSession, clock: &Clock) -> Result<Vec<u8>, Box<Answer>> {
    let too_large = || Box::new(problem(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 64 KiB"));
    let declared = session.req_header().headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > LONGEST) {
        return Err(too_large());
    }
    let whole = async {
        let mut body = Vec::new();
        loop {
            match session.read_request_body().await {
                Ok(Some(piece)) if body.len() + piece.len() > LONGEST => return Err(too_large()),
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => return Ok(body),
                Err(_) => return Err(Box::new(problem(StatusCode::BAD_REQUEST, "the body could not be read to its end"))),
            }
        }
    };
    let slow = || Box::new(problem(StatusCode::REQUEST_TIMEOUT, "the body did not arrive within 10 seconds"));
    clock.within(LIMIT, whole).await.unwrap_or_else(|| Err(slow()))
}

/// A field of a body is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldError {
    /// Its name; `None` if the body as a whole is at fault.
    field: Option<String>,
    message: String,
}

impl FieldError {
    /// A field that is not as it should be.
    pub(super) fn new(field: &str, message: impl Into<String>) -> Self {
        FieldError { field: Some(field.to_owned()), message: message.into() }
    }

    /// The answer to such a request.
    pub(super) fn answer(&self, status: StatusCode) -> Answer {
        field_problem(status, self.field.as_deref(), &self.message)
    }
}

/// An error that names the field at fault.
pub(super) fn field_problem(status: StatusCode, field: Option<&str>, message: &str) -> Answer {
    match field {
        Some(field) => json_answer(status, &json!({ "error": { "message": message, "field": field } })),
        None => problem(status, message),
    }
}

/// The fields of a JSON object, which are taken one by one.
#[derive(Debug)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Of a body; one that is empty has no fields.
    pub(super) fn parse(body: &[u8]) -> Result<Self, FieldError> {
        let whole = |message: String| FieldError { field: None, message };
        if body.trim_ascii().is_empty() {
            return Ok(Fields(Map::new()));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Fields(fields)),
            Ok(_) => Err(whole("the body must be a JSON object".to_owned())),
            // The error's text would name what the body has; its place is enough.
            Err(error) => Err(whole(format!("the body is no JSON: line {}, column {}", error.line(), error.column()))),
        }
    }

    /// A text; null is none.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, FieldError> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(FieldError::new(name, format!("'{name}' must be a text"))),
        }
    }

    /// A list of texts; null is none.
    pub(super) fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>, FieldError> {
        let wrong = || FieldError::new(name, format!("'{name}' must be a list of texts"));
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(all)) => {
                let text = |value: Value| if let Value::String(text) = value { Ok(text) } else { Err(wrong()) };
                all.into_iter().map(text).collect::<Result<_, _>>().map(Some)
            }
            Some(_) => Err(wrong()),
        }
    }

    /// Refuses fields that nobody has taken; `known` are all names.
    pub(super) fn end(self, known: &str) -> Result<(), FieldError> {
        match self.0.keys().next() {
            // The name comes from outside: shorten it.
            Some(name) => {
                let name: String = name.chars().take(64).collect();
                Err(FieldError::new(&name, format!("unknown field '{name}'; known: {known}")))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_errors_name_them() {
        let mut fields = Fields::parse(br#"{ "a": "x", "b": ["y", "z"], "c": null, "d": 1 }"#).unwrap();
        assert_eq!(fields.text("a"), Ok(Some("x".to_owned())));
        assert_eq!(fields.texts("b"), Ok(Some(vec!["y".to_owned(), "z".to_owned()])));
        assert_eq!((fields.text("c"), fields.texts("none")), (Ok(None), Ok(None)));
        assert_eq!(fields.end("a, b").unwrap_err(), FieldError::new("d", "unknown field 'd'; known: a, b"));
        for (body, field) in [(r#"{ "a": 1 }"#, Some("a")), (r#"{ "a": ["x"] }"#, Some("a"))] {
            assert_eq!(Fields::parse(body.as_bytes()).unwrap().text("a").unwrap_err().field.as_deref(), field, "{body}");
        }
        for body in [r#"{ "a": "x" }"#, r#"{ "a": [1] }"#] {
            assert_eq!(Fields::parse(body.as_bytes()).unwrap().texts("a").unwrap_err().field.as_deref(), Some("a"), "{body}");
        }
        for body in ["[]", "{", "\"x\"", "{} {}"] {
            assert_eq!(Fields::parse(body.as_bytes()).unwrap_err().field, None, "{body}");
        }
        assert!(Fields::parse(b" \n").unwrap().end("").is_ok());
    }
}
