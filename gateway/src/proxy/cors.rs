//! Requests from web pages of other origins (the Fetch standard, "CORS protocol"): preflights, and the headers that let
//! a page read an answer.
//!
//! An allowed `Origin` stays in the request's head; any other is removed. The code that writes an answer's head reads
//! it there.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderValue, Method, StatusCode};

use super::headers;
use crate::config::Server;
use crate::downstream::{HeadFields, ReplyHead, Session};

/// Longest list of headers that a preflight's answer repeats.
const ASKED: usize = 1024;

/// Headers of an answer that pages may read.
const EXPOSED: &str = "x-request-id, retry-after, retry-after-ms, x-should-retry, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, \
     x-ratelimit-reset-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, \
     x-spillway-backend, x-spillway-attempts, x-spillway-overhead-us, x-spillway-cache, x-spillway-cache-score, x-spillway-trace-id";

/// Removes an `Origin` that the config doesn't allow.
pub(super) fn take_in(session: &mut Session<'_>, server: &Server) {
    let origins = &server.cors_origins;
    let Some(origin) = session.rare_field(&ORIGIN) else { return };
    let is_allowed = origins.iter().any(|allowed| allowed == "*" || allowed.as_bytes() == origin.as_bytes());
    if !is_allowed || session.req_header().headers.get_all(ORIGIN).iter().count() > 1 {
        session.req_header_mut().remove_header(&ORIGIN);
    }
}

/// Whether a page of an allowed origin asks what it may do. Such a request has no credential.
pub(super) fn is_preflight(session: &Session<'_>) -> bool {
    let head = session.req_header();
    head.method == Method::OPTIONS && head.headers.contains_key(ORIGIN) && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The head that answers a preflight. There is no body.
pub(super) fn preflight(session: &Session<'_>, request_id: &str) -> ReplyHead {
    let asked = session.req_header().headers.get(ACCESS_CONTROL_REQUEST_HEADERS).filter(|asked| asked.len() <= ASKED);
    let mut head = ReplyHead::new(StatusCode::NO_CONTENT);
    head.add(&headers::X_REQUEST_ID, request_id.as_bytes());
    head.add(&ACCESS_CONTROL_ALLOW_METHODS, b"GET, HEAD, POST, DELETE");
    if let Some(asked) = asked {
        head.add(&ACCESS_CONTROL_ALLOW_HEADERS, asked.as_bytes());
    }
    head.add(&ACCESS_CONTROL_MAX_AGE, b"600");
    head
}

/// Lets a page of an allowed origin read the answer, if the request's head has one.
pub(super) fn allow(origin: Option<&HeaderValue>, head: &mut impl HeadFields) {
    let Some(origin) = origin else { return };
    head.set(&ACCESS_CONTROL_ALLOW_ORIGIN, origin.as_bytes());
    head.set(&ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED.as_bytes());
    head.add(&VARY, b"origin");
}

#[cfg(test)]
mod tests;
