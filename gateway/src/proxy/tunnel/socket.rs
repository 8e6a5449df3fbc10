//! Realtime sockets: each turn is booked when it ends, and a socket whose caller's quota or budget has ended is closed.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use serde_json::json;
use spillway_plugins::tokens::Told;
use tracing::warn;

use super::{parts, put_back};
use crate::proxy::ctx::{Inquiry, RequestCtx};
use crate::proxy::refusal::Refusal;
use crate::proxy::tunnel::Tunnel;
use crate::proxy::{Gateway, metering};

/// How long a caller may take to close a socket that has ended.
const GOODBYE: Duration = Duration::from_secs(2);
/// RFC 6455, 7.4.1: the endpoint's policy.
const POLICY: u16 = 1008;
/// RFC 6455, 5.5: what a control frame carries at most, of which two bytes are the code.
const REASON: usize = 123;

/// Books the turns of a socket as they are told, and closes it when a quota or budget has ended.
///
/// # Errors
/// If nobody can tell any more what is used on it.
pub(super) fn turns(gateway: &Gateway, session: &mut Session, piece: &mut Option<Bytes>, ctx: &mut RequestCtx) -> pingora::Result<()> {
    let Some((inquiry, mut tunnel)) = parts(ctx) else { return Ok(()) };
    let open = tunnel.attempt.as_ref().is_some_and(|attempt| attempt.status == Some(StatusCode::SWITCHING_PROTOCOLS));
    let passed = if open { pass(gateway, session, piece, ctx, &inquiry, &mut tunnel) } else { Ok(()) };
    put_back(ctx, inquiry, tunnel);
    passed
}

fn pass(
    gateway: &Gateway,
    session: &mut Session,
    piece: &mut Option<Bytes>,
    ctx: &mut RequestCtx,
    inquiry: &Inquiry,
    tunnel: &mut Tunnel,
) -> pingora::Result<()> {
    if tunnel.ended.is_some() {
        // Behind a close frame nothing may come.
        *piece = None;
        return Ok(());
    }
    let Some(bytes) = piece.clone() else { return Ok(()) };
    let mut told = Vec::new();
    tunnel.tap.push(&bytes, |one, end| told.push((one, end)));
    let Some(attempt) = &tunnel.attempt else { return Ok(()) };
    for (one, end) in told {
        let usage = match one {
            Told::Begun => continue,
            Told::Ended(usage) => usage,
            Told::Beside(usage) => Some(usage),
        };
        let now = ctx.moment(gateway.clock.now());
        if let Some(permit) = &mut ctx.permit {
            permit.renew(now);
        }
        metering::book_turn(gateway, ctx, inquiry, attempt, usage);
        if let Some(denied) = ctx.permit.as_ref().and_then(|permit| gateway.limits.ended(permit, now)) {
            let refusal = Refusal::from(denied);
            *piece = Some([&bytes[..end], &closing(&refusal, &ctx.id)].concat().into());
            tunnel.ended = Some(refusal.shape().code);
            // What its caller sends from here on goes nowhere.
            session.set_read_timeout(Some(GOODBYE));
            return Ok(());
        }
    }
    if tunnel.tap.is_lost() {
        warn!(target = %attempt.lease.target().id, "a socket's frames can't be read: it is cut, since nobody could count what it uses");
        metering::book_turn(gateway, ctx, inquiry, attempt, None);
        return Error::e_explain(ErrorType::InvalidHTTPHeader, "frames that can't be read").map_err(|error| error.into_up());
    }
    Ok(())
}

/// An error event as the realtime API has them, and a close frame.
fn closing(refusal: &Refusal, id: &str) -> Vec<u8> {
    let shape = refusal.shape();
    let message = refusal.to_string();
    let error = json!({ "type": shape.kind, "code": shape.code, "message": message, "param": null, "event_id": null });
    let event = json!({ "type": "error", "event_id": format!("event_{id}"), "error": error }).to_string();
    let mut reason = message.as_str();
    while reason.len() > REASON {
        let (last, _) = reason.char_indices().next_back().unwrap_or_default();
        reason = &reason[..last];
    }
    let close = [&POLICY.to_be_bytes(), reason.as_bytes()].concat();
    [frame(0x81, event.as_bytes()), frame(0x88, &close)].concat()
}

/// A whole frame of a server (RFC 6455, 5.2).
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ 0..126), _) => frame.push(length),
        (_, Ok(length)) => {
            frame.push(126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}
