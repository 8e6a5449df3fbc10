//! Requests of the hostile consumer: valid, odd, malformed.

mod body;
mod form;
mod head;

use fastrand::Rng;

use crate::manner::Manner;
use crate::upstream::SECRET;
use crate::wire::Kind;

/// One request, and how it is brought.
#[derive(Debug, Clone)]
pub struct Move {
    pub bytes: Vec<u8>,
    pub manner: Manner,
    /// The most tokens that it lets a model say.
    pub cap: u64,
}

fn one_of<T: Copy>(rng: &mut Rng, list: &[T]) -> T {
    list[rng.usize(..list.len())]
}

/// Some request named `id` that speaks of the other consumer's `things`.
pub fn any(id: &str, things: &[String], rng: &mut Rng) -> Move {
    let kinds = [
        (Kind::Chat, "/v1/chat/completions"),
        (Kind::Chat, "/v1/chat/completions"),
        (Kind::Chat, "/openai/deployments/m/chat/completions?api-version=2024-10-21"),
        (Kind::Completions, "/v1/completions"),
        (Kind::Embeddings, "/v1/embeddings"),
        (Kind::Responses, "/v1/responses"),
        (Kind::Responses, "/openai/v1/responses"),
        (Kind::Messages, "/v1/messages"),
        (Kind::Images, "/v1/images/generations"),
        (Kind::Speech, "/v1/audio/speech"),
        (Kind::Transcription, "/v1/audio/transcriptions"),
        (Kind::Stored, "/v1/files"),
        (Kind::Stored, ""),
        (Kind::Realtime, "/v1/realtime?model=m"),
    ];
    let (kind, path) = one_of(rng, &kinds);
    let manner = Manner::any(rng);
    if kind == Kind::Realtime {
        return Move { bytes: socket(id, rng), manner, cap: 0 };
    }
    if path.is_empty() {
        return Move { bytes: fetch(id, &body::foreign(things, rng), rng), manner, cap: 0 };
    }
    let (body, content_type, cap) = if matches!(kind, Kind::Transcription | Kind::Stored) {
        let (body, content_type) = form::form(rng);
        (body, content_type, 0)
    } else {
        let (body, cap) = body::body(kind, things, rng);
        let content_type = one_of(
            rng,
            &[
                "application/json",
                "application/json",
                "application/json",
                "application/json; charset=utf-16",
                "text/plain",
                "application/json; charset=utf-8",
            ],
        );
        (body, content_type, cap)
    };
    let line = match rng.u8(0..30) {
        0 => format!("GET {path} HTTP/1.1"),
        1 => format!("POST {path} HTTP/1.0"),
        2 => format!("POST http://127.0.0.1:1{path} HTTP/1.1"),
        3 => format!("POST /{path} HTTP/1.1"),
        4 => format!("POST {path}\0 HTTP/1.1"),
        5 => format!("POST {path}/ HTTP/1.1"),
        6 => format!("post {path} HTTP/1.1"),
        7 => format!("POST /openai/deployments/{SECRET}/chat/completions HTTP/1.1"),
        _ => format!("POST {path} HTTP/1.1"),
    };
    let host = match rng.u8(0..20) {
        0 => "host: a b\r\n",
        1 => "host: a/b\r\n",
        2 => "host: a\r\nhost: b\r\n",
        3 => "",
        _ => "host: gateway\r\n",
    };
    let mut text = format!("{line}\r\n{host}x-request-id: {id}\r\ncontent-type: {content_type}\r\n");
    text += match rng.u8(0..30) {
        0 => "api-key: KEY-wrong\r\n",
        1 => "api-key: KEY-a\r\napi-key: KEY-x\r\n",
        2 => "",
        3 => "authorization: Bearer KEY-a\r\n",
        _ => "api-key: KEY-a\r\n",
    };
    if rng.u8(0..8) > 0 {
        text += "connection: close\r\n";
    }
    head::headers(rng, &mut text);
    let body = head::framed(&mut text, &body, rng);
    Move { bytes: [text.as_bytes(), b"\r\n", &body].concat(), manner, cap }
}

/// Asks for a stored thing.
fn fetch(id: &str, thing: &str, rng: &mut Rng) -> Vec<u8> {
    let method = one_of(rng, &["GET", "DELETE", "POST"]);
    let path = one_of(
        rng,
        &[
            "responses/THING",
            "responses/THING/input_items",
            "files/THING",
            "files/THING/content",
            "responses/THING/cancel",
            "batches/THING",
            "files/x%2f..%2fTHING",
        ],
    );
    let path = path.replace("THING", thing);
    format!("{method} /v1/{path} HTTP/1.1\r\nhost: gateway\r\nx-request-id: {id}\r\napi-key: KEY-a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        .into_bytes()
}

/// A realtime socket, and frames for it.
fn socket(id: &str, rng: &mut Rng) -> Vec<u8> {
    let model = one_of(rng, &["m", "m", "m", SECRET, "m&model=secret", "%6d"]);
    let key = one_of(
        rng,
        &[
            "api-key: KEY-a\r\n",
            "api-key: KEY-a\r\n",
            "sec-websocket-protocol: realtime, openai-insecure-api-key.KEY-a\r\n",
            "api-key: KEY-a\r\nsec-websocket-protocol: openai-insecure-api-key.KEY-a\r\n",
            "api-key: KEY-a\r\nsec-websocket-extensions: permessage-deflate\r\n",
        ],
    );
    let mut bytes = format!(
        "GET /v1/realtime?model={model} HTTP/1.1\r\nhost: gateway\r\nx-request-id: {id}\r\n{key}connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes();
    match rng.u8(0..4) {
        0 => bytes.extend_from_slice(b"\x81\x85\x01\x02\x03\x04hello"),
        1 => bytes.extend_from_slice(b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        2 => bytes.extend((0..200).map(|_| rng.u8(..))),
        _ => {}
    }
    bytes
}
