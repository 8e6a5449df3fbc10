//! How a socket begins (RFC 6455, section 4.2), and what of its head goes with each of its requests.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use spillway_plugins::api::Api;
use spillway_plugins::fields::is_hop_by_hop;

use crate::operation::{self, Inference, Operation};
use crate::proxy::headers;
use crate::proxy::intake_outcome::IntakeError;
use crate::proxy::refusal::Refusal;
use crate::self_request;

/// RFC 6455, 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether somebody wants a WebSocket here.
pub(in crate::proxy) fn is_asked(session: &Session) -> bool {
    let head = session.req_header();
    session.is_upgrade_req()
        && head.method == Method::GET
        && matches!(
            operation::read(&Method::POST, head.uri.path(), None),
            Ok(Operation::Inference(Inference { api: Api::Responses, part: None, model: None, .. }))
        )
}

/// Agrees on a socket.
///
/// # Errors
/// 400 or 426 if it is no WebSocket.
pub(super) async fn accept(session: &mut Session, id: &str) -> Result<(), IntakeError> {
    let asked = &session.req_header().headers;
    if !headers::asks_for_websocket(asked) || !headers::says(asked, &SEC_WEBSOCKET_VERSION, "13") {
        return Err(Refusal::UpgradeRequired.into());
    }
    if asked.contains_key(CONTENT_LENGTH) || asked.contains_key(http::header::TRANSFER_ENCODING) {
        return Err(Refusal::Head { what: "a request for a WebSocket has no body" }.into());
    }
    let key = asked.get(SEC_WEBSOCKET_KEY).filter(|key| BASE64_STANDARD.decode(key.as_bytes()).is_ok_and(|key| key.len() == 16));
    let Some(key) = key else { return Err(Refusal::Head { what: "Sec-WebSocket-Key must be 16 bytes in base64" }.into()) };
    let accept = BASE64_STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), GUID].concat()));
    let chosen = headers::chosen_subprotocol(asked, None);
    let build = || -> pingora::Result<ResponseHeader> {
        let mut head = ResponseHeader::build(StatusCode::SWITCHING_PROTOCOLS, Some(6))?;
        head.insert_header(UPGRADE, "websocket")?;
        head.insert_header(CONNECTION, "upgrade")?;
        head.insert_header(SEC_WEBSOCKET_ACCEPT, accept)?;
        if let Some(chosen) = chosen {
            head.insert_header(SEC_WEBSOCKET_PROTOCOL, chosen)?;
        }
        head.insert_header(headers::X_REQUEST_ID, id)?;
        Ok(head)
    };
    let head = build().map_err(|_| Refusal::Internal)?;
    session.downstream_session.write_response_header(Box::new(head)).await.map_err(|_| IntakeError::CallerLeft)
}

/// Fields that are of the request for the socket, or would mean the same request again.
const OF_THE_SOCKET: [&str; 12] = [
    "content-length",
    "content-type",
    "content-encoding",
    "expect",
    "accept",
    "accept-encoding",
    "origin",
    "range",
    "if-match",
    "if-none-match",
    "if-range",
    "idempotency-key",
];

/// What goes with each request of a socket: the caller's own fields, its credential among them.
pub(super) fn own_headers(asked: &HeaderMap) -> HeaderMap {
    let nominated = headers::nominated(asked);
    let mut own = HeaderMap::with_capacity(asked.len());
    for (name, value) in asked {
        let of_the_socket = OF_THE_SOCKET.contains(&name.as_str())
            || *name == self_request::HEADER
            // It asks for the socket's own protocol.
            || (name == "openai-beta" && value.as_bytes().starts_with(b"responses_websockets"));
        // A browser gives its key as one of these.
        let credential = *name == SEC_WEBSOCKET_PROTOCOL;
        if credential || !(of_the_socket || is_hop_by_hop(name.as_str()) || headers::is_among(name.as_str(), &nominated)) {
            own.append(name.clone(), value.clone());
        }
    }
    own.entry(HOST).or_insert(HeaderValue::from_static("socket"));
    own
}

/// Longest id to which a number can be added.
const LONGEST_ID: usize = 100;

/// Gives a request of a socket its id: the socket's, and its number.
pub(super) fn number(headers: &mut HeaderMap, id: &str, number: u64) {
    let id: String = id.chars().take(LONGEST_ID).collect();
    if let Ok(id) = HeaderValue::from_str(&format!("{id}-{number}")) {
        headers.insert(headers::X_REQUEST_ID, id);
    }
}

#[cfg(test)]
mod tests;
