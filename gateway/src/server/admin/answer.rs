//! Answers of the admin listener.

use http::{Response, StatusCode, header};
use serde_json::{Value, json};

use super::actor::Actor;

pub(super) type Answer = Response<Vec<u8>>;

/// What every answer asks of browsers: no page of others may embed it, read it as something else, or learn where its reader
/// came from. Pages have a policy of their own.
pub(super) const PROTECTION: [(http::HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (http::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (http::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

pub(super) fn answer(status: StatusCode, content_type: &str, body: Vec<u8>) -> Answer {
    let length = body.len();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    for (name, value) in PROTECTION {
        headers.insert(name, http::HeaderValue::from_static(value));
    }
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
