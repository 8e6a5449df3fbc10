//! What both sides of a socket tell doesn't depend on how its bytes are cut, and is what another reader finds in its
//! messages.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use spillway_fuzz::{cuts, pieces};
use spillway_plugins::realtime::SocketReader;
use spillway_plugins::tokens::{SocketTap, SocketEvent};

/// What is told, and at which byte of all.
fn told(pieces: &[&[u8]]) -> (Vec<(SocketEvent, usize)>, bool, u32) {
    let (mut tap, mut told, mut before) = (SocketTap::default(), Vec::new(), 0);
    for piece in pieces {
        tap.push(piece, |one, at| told.push((one, before + at)));
        before += piece.len();
    }
    (told, tap.is_lost(), tap.under_way())
}

/// The models that a caller names; `None` if it is refused.
fn models(pieces: &[&[u8]]) -> Option<Vec<String>> {
    let mut reader = SocketReader::default();
    let named = pieces.iter().map(|piece| reader.push(piece).ok()).collect::<Option<Vec<_>>>()?;
    Some(named.into_iter().flat_map(|named| named.models).collect())
}

/// The messages of one side, and where each ends; up to what is no frame of that side's, or to the end.
fn messages(mut bytes: &[u8], masked: bool) -> Vec<(Vec<u8>, usize)> {
    let all = bytes.len();
    let (mut messages, mut message, mut last) = (Vec::new(), Vec::new(), true);
    while let [first, second, rest @ ..] = bytes {
        let opcode = first & 0x0f;
        let is_control = opcode >= 8;
        let is_message = !is_control && (opcode != 0) == last && opcode <= 2;
        let is_short = is_control && first & 0x80 != 0 && second & 0x7f <= 125 && opcode <= 10;
        if first & 0x70 != 0 || (second & 0x80 != 0) != masked || !(is_message || is_short) {
            break;
        }
        let size = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some((length, rest)) = rest.split_at_checked(size) else { break };
        let length = match size {
            0 => u64::from(second & 0x7f),
            _ => length.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        let Some((mask, rest)) = rest.split_at_checked(if masked { 4 } else { 0 }) else { break };
        let Some((payload, rest)) = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length)) else { break };
        bytes = rest;
        if opcode >= 8 {
            continue;
        }
        last = first & 0x80 != 0;
        let unmasked = payload.iter().enumerate().map(|(at, byte)| byte ^ mask.get(at % 4).copied().unwrap_or(0));
        message.extend(unmasked);
        if last {
            messages.push((std::mem::take(&mut message), all - rest.len()));
        }
    }
    messages
}

fuzz_target!(|input: &[u8]| {
    let Some((cuts, frames)) = cuts(input) else { return };
    let whole = told(&[frames]);
    assert_eq!(whole, told(&pieces(frames, cuts)));
    let told = whole.0;
    let mut ends = told.iter();
    for (message, end) in messages(frames, false) {
        // What is no JSON is read as far as it goes; that is nobody's concern.
        let Ok(Value::Object(message)) = serde_json::from_slice(&message) else {
            while ends.as_slice().first().is_some_and(|(_, at)| *at == end) {
                ends.next();
            }
            continue;
        };
        let here = ends.as_slice().first().filter(|(_, at)| *at == end);
        match message.get("type").and_then(Value::as_str) {
            Some("response.created") => assert!(matches!(here, Some((SocketEvent::Begun, _))), "{message:?}: {here:?}"),
            Some("response.done") => assert!(matches!(here, Some((SocketEvent::Ended(_), _))), "{message:?}: {here:?}"),
            _ => assert!(matches!(here, None | Some((SocketEvent::Other(_), _))), "{message:?}: {here:?}"),
        }
        if here.is_some() {
            ends.next();
        }
    }
    assert!(ends.as_slice().is_empty(), "what is told is told at a message's end: {ends:?}");
    let named = models(&[frames]);
    assert_eq!(named, models(&pieces(frames, cuts)));
    let Some(named) = named else { return };
    for (message, _) in messages(frames, true) {
        let Ok(message) = serde_json::from_slice::<Value>(&message) else { continue };
        for model in [&message["model"], &message["session"]["model"]].into_iter().filter_map(Value::as_str) {
            assert!(named.iter().any(|name| name == model), "{model} is not among {named:?}");
        }
    }
});
