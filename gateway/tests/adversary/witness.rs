//! The ordinary consumer: what it does in a round, and what it gets.

use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::json;
use spillway_testkit::client::{Connection, Response, ask};

use crate::upstream::{BEE, FALLS, SECRET, ordinary_used};
use crate::wire::{self, Kind};
use crate::world::{ORDINARY, World, tier};

/// One thing that it does.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// It asks a model; streamed or not, and whether it asks for the usage of a stream.
    Ask { kind: Kind, streamed: bool, told: bool, model: &'static str },
    /// It goes on from a response that it got earlier in these rounds.
    GoOn(String),
    /// It asks for one.
    Fetch(String),
    /// It uploads a file.
    Upload,
    /// It has sounds written down.
    Transcribe,
    /// It talks through a socket.
    Talk,
    /// It asks which models there are.
    Models,
    /// It makes a mistake.
    Mistake(&'static str),
}

/// What it saw of one step; equal in two gateways that treat it alike.
#[derive(Debug, PartialEq)]
pub struct Seen {
    pub step: String,
    pub status: u16,
    pub body: String,
    pub tier: Option<u32>,
    /// Where a stored thing must be found again.
    pub moved: bool,
    /// `x-spillway-attempts`, `x-ratelimit-remaining-requests`, `content-type`.
    pub fields: [Option<String>; 3],
    /// It took so long that the machine, or the gateway, must have stood still.
    pub stood_still: bool,
}

/// What it does at the end: it asks each API once, and then once more while the first tier fails.
pub fn last(round: usize) -> Vec<(String, Step)> {
    let ask = |kind, model| Step::Ask { kind, streamed: false, told: false, model };
    let all = [Kind::Chat, Kind::Completions, Kind::Embeddings, Kind::Responses, Kind::Images, Kind::Speech].map(|kind| ask(kind, "m"));
    let all = all.into_iter().chain([ask(Kind::Messages, "claude"), Step::Transcribe, Step::Talk]);
    let falls = [ask(Kind::Chat, "m"), ask(Kind::Responses, "m"), ask(Kind::Messages, "claude")];
    let named = |prefix: &'static str| move |(number, step)| (format!("{BEE}{round}-{prefix}{number}"), step);
    all.enumerate().map(named("last-")).chain(falls.into_iter().enumerate().map(named(FALLS))).collect()
}

/// A plan for one round, and the names of the things that it makes.
pub fn plan(round: usize, known: &[String], rng: &mut Rng) -> (Vec<(String, Step)>, Vec<String>) {
    let (mut steps, mut made) = (Vec::new(), Vec::new());
    for number in 0..rng.usize(3..7) {
        let id = format!("{BEE}{round}-{number}");
        let step = any(known, rng);
        match &step {
            Step::Ask { kind: Kind::Responses, model: "m", .. } => made.push(format!("resp_{id}")),
            Step::Upload => made.push(format!("file-{id}")),
            _ => {}
        }
        steps.push((id, step));
    }
    (steps, made)
}

fn any(known: &[String], rng: &mut Rng) -> Step {
    let (streamed, told) = (rng.bool(), rng.bool());
    let model = if rng.u8(0..8) == 0 { SECRET } else { "m" };
    let ask = |kind| Step::Ask { kind, streamed, told, model };
    let thing = |kind: &str, rng: &mut Rng| {
        let some: Vec<&String> = known.iter().rev().filter(|thing| thing.starts_with(kind)).take(8).collect();
        rng.choice(some).cloned()
    };
    match rng.u8(0..20) {
        0..4 => ask(Kind::Chat),
        4 => ask(Kind::Completions),
        5 => Step::Ask { kind: Kind::Embeddings, streamed: false, told: false, model },
        6..8 => ask(Kind::Responses),
        8..10 => thing("resp_", rng).map_or(ask(Kind::Responses), Step::GoOn),
        10 => thing("resp_", rng).map_or(ask(Kind::Responses), Step::Fetch),
        11 => Step::Upload,
        12 => thing("file-", rng).map_or(Step::Upload, Step::Fetch),
        13..15 => Step::Ask { kind: Kind::Messages, streamed, told, model: "claude" },
        15 => Step::Ask { kind: Kind::Images, streamed: false, told: false, model: "m" },
        16 => Step::Ask { kind: Kind::Speech, streamed: false, told: false, model: "m" },
        17 => Step::Transcribe,
        18 => Step::Talk,
        _ => rng.choice([Step::Models, Step::Mistake("{"), Step::Mistake("{\"model\":\"nobody\"}")]).unwrap(),
    }
}

fn post(id: &str, path: &str, content_type: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: gateway\r\napi-key: {ORDINARY}\r\nx-request-id: {id}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn path(kind: Kind) -> &'static str {
    match kind {
        Kind::Chat => "/v1/chat/completions",
        Kind::Completions => "/v1/completions",
        Kind::Embeddings => "/v1/embeddings",
        Kind::Responses => "/v1/responses",
        Kind::Messages => "/v1/messages",
        Kind::Images => "/v1/images/generations",
        Kind::Speech => "/v1/audio/speech",
        Kind::Transcription => "/v1/audio/transcriptions",
        Kind::Realtime => "/v1/realtime",
        Kind::Stored => "/v1/files",
    }
}

const FORM: &str = "--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n--XX--\r\n";

impl Step {
    fn request(&self, id: &str) -> String {
        let json = "application/json";
        match self {
            Step::Ask { kind, streamed, told, model } => {
                let mut body = json!({ "model": model, "max_tokens": 50, "messages": [{ "role": "user", "content": "hi" }], "input": "hi", "prompt": "hi" });
                let drop: &[&str] = match kind {
                    Kind::Chat | Kind::Messages => &["input", "prompt"],
                    Kind::Embeddings | Kind::Speech => &["max_tokens", "messages", "prompt"],
                    Kind::Responses => &["max_tokens", "messages", "prompt"],
                    _ => &["messages", "input"],
                };
                drop.iter().for_each(|key| drop_member(&mut body, key));
                if *streamed {
                    body["stream"] = true.into();
                    if *told && matches!(kind, Kind::Chat | Kind::Completions) {
                        body["stream_options"] = json!({ "include_usage": true });
                    }
                }
                post(id, path(*kind), json, &body.to_string())
            }
            Step::GoOn(thing) => {
                post(id, "/v1/responses", json, &json!({ "model": "m", "input": "hi", "previous_response_id": thing }).to_string())
            }
            Step::Fetch(thing) => {
                let path = if thing.starts_with("file-") { format!("/v1/files/{thing}/content") } else { format!("/v1/responses/{thing}") };
                format!("GET {path} HTTP/1.1\r\nhost: gateway\r\napi-key: {ORDINARY}\r\nx-request-id: {id}\r\n\r\n")
            }
            Step::Upload => post(id, "/v1/files", "multipart/form-data; boundary=XX", &FORM.replace("\"model\"", "\"purpose\"")),
            Step::Transcribe => post(id, path(Kind::Transcription), "multipart/form-data; boundary=XX", FORM),
            Step::Talk => format!(
                "GET /v1/realtime?model=m HTTP/1.1\r\nhost: gateway\r\napi-key: {ORDINARY}\r\nx-request-id: {id}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            ),
            Step::Models => format!("GET /v1/models HTTP/1.1\r\nhost: gateway\r\napi-key: {ORDINARY}\r\nx-request-id: {id}\r\n\r\n"),
            Step::Mistake(body) => post(id, "/v1/chat/completions", json, body),
        }
    }

    /// Whether it is answered with success, whoever else is there.
    pub fn succeeds(&self) -> bool {
        !matches!(self, Step::Mistake(_))
    }
}

fn drop_member(body: &mut serde_json::Value, key: &str) {
    body.as_object_mut().unwrap().remove(key);
}

/// Where its things are, as it was told when they were made.
#[derive(Debug, Default)]
pub struct Homes(std::collections::HashMap<String, String>);

impl Homes {
    /// Whether a thing is asked for elsewhere than where it was made.
    fn moved(&mut self, id: &str, step: &Step, answer: &Response) -> bool {
        let at = answer.header("x-spillway-backend").unwrap_or("").to_owned();
        match step {
            Step::GoOn(thing) | Step::Fetch(thing) => self.0.get(thing).is_some_and(|home| *home != at),
            Step::Ask { kind: Kind::Responses, .. } => {
                self.0.insert(format!("resp_{id}"), at);
                false
            }
            Step::Upload => {
                self.0.insert(format!("file-{id}"), at);
                false
            }
            _ => false,
        }
    }
}

/// Nobody who answers at once takes so long, on any machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Upstreams answer it at once, and a gateway waits for none of them so long.
const STILL: Duration = Duration::from_secs(1);

/// Does one step.
pub async fn take(world: &World, homes: &mut Homes, id: &str, step: &Step) -> Seen {
    let began = Instant::now();
    let asked = async {
        match step {
            Step::Talk => talk(world, id, step).await,
            _ => ask(world.gateway.address, step.request(id)).await,
        }
    };
    let answer = match tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
        Ok(answer) => answer,
        Err(error) => {
            return Seen {
                step: format!("{id} {step:?}"),
                status: 0,
                body: error.to_string(),
                tier: None,
                moved: false,
                fields: [None, None, None],
                stood_still: true,
            };
        }
    };
    let field = |name: &str| answer.header(name).map(str::to_owned);
    let cut = if answer.ended == spillway_testkit::wire::Ended::Cut { " (cut)" } else { "" };
    Seen {
        step: format!("{id} {step:?}"),
        status: answer.status,
        body: answer.text() + cut,
        tier: answer.header("x-spillway-backend").and_then(tier),
        moved: homes.moved(id, step, &answer),
        fields: [field("x-spillway-attempts"), field("x-ratelimit-remaining-requests"), field("content-type")],
        stood_still: began.elapsed() > STILL,
    }
}

/// Opens a socket and listens to one turn.
async fn talk(world: &World, id: &str, step: &Step) -> std::io::Result<Response> {
    let mut connection = Connection::open(world.gateway.address).await?;
    connection.send(step.request(id)).await?;
    let (status, head) = connection.answer_head().await?;
    let mut body = Vec::new();
    if status == 101 {
        let turn = wire::turn(&format!("x{id}"), ordinary_used(Kind::Realtime, id));
        body = connection.bytes(wire::frame(&turn).len()).await?;
    }
    Ok(Response { status, head, body, ended: spillway_testkit::wire::Ended::Whole })
}
