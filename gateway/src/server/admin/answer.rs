//! Answers of the admin listener.

use http::{Response, StatusCode, header};
use serde_json::{Value, json};

use super::actor::Actor;

pub(super) type Answer = Response<Vec<u8>>;

pub(super) fn answer(status: StatusCode, content_type: &str, body: Vec<u8>) -> Answer {
    let length = body.len();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    if let Ok(value) = content_type.parse() {
        headers.insert(header::CONTENT_TYPE, value);
    }
    answer
}

pub(super) fn json_answer(status: StatusCode, value: &Value) -> Answer {
    answer(status, "application/json", value.to_string().into_bytes())
}

pub(super) fn problem(status: StatusCode, message: &str) -> Answer {
    json_answer(status, &json!({ "error": { "message": message } }))
}

/// The answer to a request.
pub(super) enum AdminReply {
    /// A whole answer.
    Whole(Answer),
    /// The status as server-sent events, for as long as this one may see it.
    Events(Actor),
}

impl From<Answer> for AdminReply {
    fn from(answer: Answer) -> Self {
        AdminReply::Whole(answer)
    }
}
