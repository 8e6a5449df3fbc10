//! Realtime sockets: each turn is booked when it ends, and the socket is closed when the caller's quota or budget is
//! used up. The caller's messages are checked against its rights: the socket is closed before a backend has the whole
//! of a message that is not allowed.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use pingora::protocols::http::HttpTask;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use serde_json::json;
use spillway_plugins::api::Api;
use spillway_plugins::frames::frame_head;
use spillway_plugins::realtime::{self, SocketError};
use spillway_plugins::tokens::SocketEvent;
use tracing::{debug, warn};

use crate::gateway::Gateway;
use crate::proxy::books::{Books, Tunnelled};
use crate::proxy::identify::may_name_model;
use crate::proxy::refusal::Refusal;
use crate::proxy::tunnel::state::Tunnel;
use crate::proxy::{metering, stored};
use crate::request::{BufferShare, Facts, ModelRequest};

/// How long a caller may take to close a socket that has ended.
const GOODBYE: Duration = Duration::from_secs(2);
/// RFC 6455, 7.4.1: the endpoint's policy.
const POLICY: u16 = 1008;
/// RFC 6455, 5.5: what a control frame carries at most, of which two bytes are the code.
const REASON: usize = 123;

/// Books the turns of a socket as they are reported, and closes it when a quota or budget is used up.
///
/// # Errors
/// If the usage on the socket can't be read any more.
pub(super) fn turns(
    gateway: &Gateway,
    session: &mut Session,
    piece: &mut Option<Bytes>,
    books: &mut Books<'_>,
    model_request: &ModelRequest,
    tunnel: &mut Tunnel,
) -> pingora::Result<()> {
    match tunnel.attempt.as_ref().and_then(|attempt| attempt.status) {
        Some(StatusCode::SWITCHING_PROTOCOLS) => pass(gateway, session, piece, books, model_request, tunnel),
        _ => Ok(()),
    }
}

fn pass(
    gateway: &Gateway,
    session: &mut Session,
    piece: &mut Option<Bytes>,
    books: &mut Books<'_>,
    model_request: &ModelRequest,
    tunnel: &mut Tunnel,
) -> pingora::Result<()> {
    if tunnel.ended.is_some() {
        // No frame may follow a close frame.
        *piece = None;
        return Ok(());
    }
    let Some(bytes) = piece.clone() else { return Ok(()) };
    let mut events = Vec::new();
    tunnel.tap.push(&bytes, |one, end| events.push((one, end)));
    let Some(attempt) = &tunnel.attempt else { return Ok(()) };
    for (one, end) in events {
        let usage = match one {
            SocketEvent::Begun => continue,
            SocketEvent::Ended(usage) => usage,
            SocketEvent::Other(usage) => Some(usage),
        };
        let now = books.facts.timestamps(gateway.clock.now());
        if let Some(permit) = &mut books.metering.permit {
            permit.renew(now);
        }
        metering::book_turn(gateway, books, model_request, attempt, usage);
        if let Some(denied) = books.metering.permit.as_ref().and_then(|permit| gateway.limits.ended(permit, now)) {
            let refusal = Refusal::from(denied);
            *piece = Some([&bytes[..end], &closing(&refusal, &books.facts.id, None)].concat().into());
            tunnel.ended = Some(refusal.shape().code);
            // What the caller sends from here on is discarded.
            session.set_read_timeout(Some(GOODBYE));
            return Ok(());
        }
    }
    if tunnel.tap.is_lost() {
        warn!(target = %attempt.lease.target().id, "a socket's frames can't be read: it is closed, because its usage could not be counted");
        metering::book_unsettled(gateway, books, model_request, attempt, tunnel.tap.under_way().max(1));
        return Error::e_explain(ErrorType::InvalidHTTPHeader, "frames that can't be read").map_err(|error| error.into_up());
    }
    Ok(())
}

/// Checks the caller's messages, as far as they have arrived.
///
/// # Errors
/// If a message is not allowed, and no close frame can be sent on the socket.
pub(super) async fn said(
    gateway: &Gateway,
    session: &mut Session,
    body: &mut Option<Bytes>,
    tunnelled: Tunnelled<'_>,
) -> pingora::Result<()> {
    let Tunnelled { model_request, tunnel, books, .. } = tunnelled;
    books.body.bytes += body.as_ref().map_or(0, Bytes::len);
    let passed = match body.as_ref().filter(|bytes| !bytes.is_empty()) {
        Some(bytes) => may_say(gateway, books.facts, model_request, tunnel, bytes).await,
        None => Ok(()),
    };
    match passed {
        Ok(()) => Ok(()),
        Err(no) => {
            // A backend doesn't act on a message without its end. Ending the body would end the socket.
            *body = Some(Bytes::new());
            refuse(gateway, session, books.facts, tunnel, no).await
        }
    }
}

/// Why a socket is closed: the caller's error, and the field that it is about.
struct No {
    refusal: Refusal,
    field: Option<&'static str>,
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        No { refusal, field: None }
    }
}

async fn may_say(gateway: &Gateway, facts: &Facts, model_request: &ModelRequest, tunnel: &mut Tunnel, bytes: &[u8]) -> Result<(), No> {
    let named = tunnel.said.push(bytes).map_err(|error| match error {
        SocketError::Frames => {
            Refusal::Form { what: "the socket's frames can't be read: a client must mask its frames, and no extension was negotiated" }
        }
        SocketError::TooLarge => Refusal::TooLarge { limit: realtime::MOST },
        SocketError::Message(error) => Refusal::from(error),
    })?;
    match tunnel.said.held() {
        0 => tunnel.said_room = None,
        held => {
            let room = tunnel.said_room.get_or_insert_with(|| BufferShare::new(&gateway.buffered));
            if !room.covers(held) {
                return Err(Refusal::Overloaded { what: "messages on sockets" }.into());
            }
        }
    }
    let deployment = tunnel.attempt.as_ref().map(|attempt| &attempt.lease.target().id.deployment);
    // The model's name and the deployment's name both mean the requested model.
    let other = |name: &&String| **name != *model_request.model.name && deployment.is_none_or(|deployment| **name != **deployment);
    for model in named.models.iter().filter(other) {
        may_name_model(facts, Api::Realtime, model).map_err(|refusal| No { refusal, field: Some("model") })?;
    }
    if !named.stored.is_empty() {
        let at = stored::locate(gateway, facts, &named.stored).await?;
        let here = tunnel.attempt.as_ref().map(|attempt| &attempt.lease.target().id.backend);
        if at.is_some_and(|at| here.is_none_or(|here| **here != *at.backend)) {
            return Err(Refusal::ObjectElsewhere { model: model_request.model.name.to_string() }.into());
        }
    }
    // Only now is it sent to the backend.
    tunnel.tap.asked(named.responses);
    Ok(())
}

/// Sends the caller the reason on its socket, if a frame may be sent now; otherwise the connection ends.
async fn refuse(gateway: &Gateway, session: &mut Session, facts: &Facts, tunnel: &mut Tunnel, no: No) -> pingora::Result<()> {
    let No { refusal, field } = no;
    let code = refusal.shape().code;
    gateway.metrics.requests.rejection(code);
    debug!(id = %facts.id, code, "a caller's message on a socket is not allowed: the socket is closed");
    if !session.was_upgraded() {
        tunnel.refusal = Some(refusal);
    } else if tunnel.tap.is_between_messages() {
        tunnel.ended = Some(code);
        // What the caller sends from here on is discarded.
        session.set_read_timeout(Some(GOODBYE));
        let farewell = HttpTask::UpgradedBody(Some(closing(&refusal, &facts.id, field).into()), false);
        if session.downstream_session.supports_proxy_task_api() {
            return session.send_downstream_proxy_task(farewell).await;
        }
        return session.write_response_tasks(vec![farewell]).await.map(drop);
    } else {
        tunnel.ended = Some(code);
    }
    Error::e_explain(ErrorType::InvalidHTTPHeader, "a message that is not allowed").map_err(|error| error.into_down())
}

/// An error event in the format of the realtime API, and a close frame.
fn closing(refusal: &Refusal, id: &str, field: Option<&str>) -> Vec<u8> {
    let shape = refusal.shape();
    let message = refusal.to_string();
    let error = json!({ "type": shape.kind, "code": shape.code, "message": message, "param": field, "event_id": null });
    let event = json!({ "type": "error", "event_id": format!("event_{id}"), "error": error }).to_string();
    let mut reason = message.as_str();
    while reason.len() > REASON {
        let (last, _) = reason.char_indices().next_back().unwrap_or_default();
        reason = &reason[..last];
    }
    let close = [&POLICY.to_be_bytes(), reason.as_bytes()].concat();
    [frame(0x81, event.as_bytes()), frame(0x88, &close)].concat()
}

/// A whole frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = frame_head(first, payload.len());
    frame.extend_from_slice(payload);
    frame
}
