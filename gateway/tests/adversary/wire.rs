//! What the answers of each API look like, and how they tell what was used.

use serde_json::{Value, json};

/// Tokens that an upstream has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    pub input: u64,
    pub output: u64,
}

impl std::ops::AddAssign for Used {
    fn add_assign(&mut self, more: Used) {
        self.input += more.input;
        self.output += more.output;
    }
}

/// An API, as far as the shape of its answers goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Chat,
    Completions,
    Embeddings,
    Responses,
    Messages,
    Images,
    Speech,
    Transcription,
    Realtime,
    Stored,
}

impl Kind {
    /// The API that a request's path belongs to.
    pub fn of(path: &str) -> Kind {
        let path = path.split('?').next().unwrap_or_default();
        let below = path.rsplit_once("/v1/").map_or(path, |(_, below)| below);
        match below {
            "chat/completions" => Kind::Chat,
            "completions" => Kind::Completions,
            "embeddings" => Kind::Embeddings,
            "responses" => Kind::Responses,
            "messages" => Kind::Messages,
            "realtime" => Kind::Realtime,
            "audio/speech" => Kind::Speech,
            _ if below.starts_with("images/") => Kind::Images,
            _ if below.starts_with("audio/") => Kind::Transcription,
            _ => Kind::Stored,
        }
    }

    /// Whether it can answer with events.
    pub fn streams(self) -> bool {
        matches!(self, Kind::Chat | Kind::Completions | Kind::Responses | Kind::Messages)
    }

    /// Whether its answers tell tokens.
    pub fn tells_tokens(self) -> bool {
        !matches!(self, Kind::Speech | Kind::Stored)
    }

    /// Whether a request that is sent uses something, whatever becomes of it. A socket doesn't before it speaks, and what
    /// a sound uses is not counted in tokens.
    pub fn prompts(self) -> bool {
        !matches!(self, Kind::Realtime | Kind::Stored | Kind::Transcription)
    }

    /// Whether what it answers is bounded by what the caller allows.
    pub fn has_cap(self) -> bool {
        self.streams()
    }
}

/// What was used, as this API tells it.
pub fn usage(kind: Kind, used: Used) -> Value {
    let Used { input, output } = used;
    match kind {
        Kind::Chat | Kind::Completions => json!({ "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output }),
        Kind::Embeddings => json!({ "prompt_tokens": input, "total_tokens": input }),
        Kind::Messages => json!({ "input_tokens": input, "output_tokens": output }),
        Kind::Transcription => json!({ "type": "tokens", "input_tokens": input, "output_tokens": output, "total_tokens": input + output }),
        _ => json!({ "input_tokens": input, "output_tokens": output, "total_tokens": input + output }),
    }
}

/// A plain answer that was named `id`.
pub fn plain(kind: Kind, id: &str, used: Used) -> Value {
    let usage = usage(kind, used);
    match kind {
        Kind::Chat => {
            let message = json!({ "role": "assistant", "content": "a few words" });
            json!({ "id": id, "object": "chat.completion", "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }], "usage": usage })
        }
        Kind::Completions => {
            json!({ "id": id, "object": "text_completion", "choices": [{ "index": 0, "text": "a few words", "finish_reason": "stop" }], "usage": usage })
        }
        Kind::Embeddings => {
            json!({ "object": "list", "data": [{ "object": "embedding", "index": 0, "embedding": [0.5, 1.0] }], "usage": usage })
        }
        Kind::Responses => {
            json!({ "id": id, "object": "response", "status": "completed", "output": [message(id)], "usage": usage })
        }
        Kind::Messages => {
            json!({ "id": id, "type": "message", "role": "assistant", "content": [{ "type": "text", "text": "a few words" }], "stop_reason": "end_turn", "usage": usage })
        }
        Kind::Images => json!({ "created": 1, "data": [{ "b64_json": "aGk=" }], "usage": usage }),
        Kind::Transcription => json!({ "text": "a few words", "usage": usage }),
        Kind::Speech | Kind::Realtime | Kind::Stored => json!({ "id": id, "object": "thing" }),
    }
}

fn message(id: &str) -> Value {
    json!({ "id": format!("msg_{id}"), "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "a few words" }] })
}

fn event(value: &Value) -> String {
    match value["type"].as_str() {
        Some(kind) => format!("event: {kind}\ndata: {value}\n\n"),
        None => format!("data: {value}\n\n"),
    }
}

fn chunk(kind: Kind, id: &str, text: &str, finish: Option<&str>) -> String {
    let choice = match kind {
        Kind::Completions => json!({ "index": 0, "text": text, "finish_reason": finish }),
        _ if finish.is_some() => json!({ "index": 0, "delta": {}, "finish_reason": finish }),
        _ => json!({ "index": 0, "delta": { "content": text }, "finish_reason": null }),
    };
    event(&json!({ "id": id, "object": "chunk", "choices": [choice] }))
}

/// A stream's events. `told` is whether the caller of a chat asked for the usage.
pub fn events(kind: Kind, id: &str, used: Used, told: bool) -> Vec<String> {
    let usage = usage(kind, used);
    match kind {
        Kind::Responses => {
            let of = |n: u64, kind: &str, more: Value| {
                let mut event = json!({ "type": kind, "sequence_number": n });
                event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                self::event(&event)
            };
            vec![
                of(0, "response.created", json!({ "response": { "id": id, "status": "in_progress" } })),
                of(1, "response.output_text.delta", json!({ "delta": "a few " })),
                of(2, "response.output_text.delta", json!({ "delta": "words" })),
                of(3, "response.output_item.done", json!({ "item": message(id) })),
                of(
                    4,
                    "response.completed",
                    json!({ "response": { "id": id, "status": "completed", "output": [message(id)], "usage": usage } }),
                ),
            ]
        }
        Kind::Messages => {
            let begun = json!({ "id": id, "type": "message", "usage": { "input_tokens": used.input, "output_tokens": 1 } });
            [
                json!({ "type": "message_start", "message": begun }),
                json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
                json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "a few words" } }),
                json!({ "type": "content_block_stop", "index": 0 }),
                json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": used.output } }),
                json!({ "type": "message_stop" }),
            ]
            .iter()
            .map(event)
            .collect()
        }
        _ => {
            let mut events = vec![chunk(kind, id, "a few ", None), chunk(kind, id, "words", None), chunk(kind, id, "", Some("stop"))];
            if told {
                events.push(event(&json!({ "id": id, "choices": [], "usage": usage })));
            }
            events.push("data: [DONE]\n\n".to_owned());
            events
        }
    }
}

/// An event that says that a stream has failed.
pub fn failed(kind: Kind, id: &str, code: &str) -> String {
    let error = json!({ "code": code, "type": code, "message": "it failed" });
    match kind {
        Kind::Responses => {
            event(&json!({ "type": "response.failed", "sequence_number": 1, "response": { "id": id, "status": "failed", "error": error } }))
        }
        Kind::Messages => event(&json!({ "type": "error", "error": error })),
        _ => event(&json!({ "error": error })),
    }
}

/// A WebSocket frame of a server.
pub fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match text.len() {
        length @ 0..126 => frame.push(u8::try_from(length).unwrap()),
        length => {
            frame.push(126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    frame.extend(text.as_bytes());
    frame
}

/// What says that a turn of a realtime socket has begun, and that it has ended.
pub const TURN_BEGUN: &str = "response.created";
pub const TURN_ENDED: &str = "response.done";

/// A turn of a realtime socket that begins.
pub fn turn_begins(id: &str) -> String {
    json!({ "type": TURN_BEGUN, "response": { "id": id } }).to_string()
}

/// A turn of a realtime socket that has ended.
pub fn turn(id: &str, used: Used) -> String {
    json!({ "type": TURN_ENDED, "response": { "id": id, "usage": usage(Kind::Realtime, used) } }).to_string()
}

/// What a server answers to an upgrade.
pub const SWITCHED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: x\r\n\r\n";
