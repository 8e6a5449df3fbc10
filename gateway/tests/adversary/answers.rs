//! What upstreams answer the hostile consumer.

use std::io::Write as _;
use std::time::Duration;

use fastrand::Rng;
use serde_json::json;
use spillway_testkit::backend::{Reply, Step};

use crate::wire::{self, Kind, Used};

/// One answer. Those that end before they tell what they used have used all that the request allows.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// As it should be.
    Good(Used),
    /// The usage, and then a lot that is only echoed.
    Echoes(Used),
    /// The usage stands before everything else.
    UsageFirst(Used),
    /// Without a content type.
    Untyped(Used),
    /// Compressed, though nobody asked for it.
    Compressed(Used),
    /// The usage comes late.
    Late(Used),
    /// One event, or one text, of this size.
    Giant(usize, Used),
    /// A complete answer without its usage.
    Untold,
    /// An error, with this status and body.
    Refused(u16, String),
    /// A 429 with these headers.
    Throttled(Option<(&'static str, &'static str)>),
    /// A redirect.
    Moved(u16),
    /// A page, or nothing, or an error, in a 200.
    Nonsense(&'static str, &'static str),
    /// A stream that says that it has failed.
    Failed(&'static str),
    /// It ends after so many events, of which none says that the text is complete.
    Cut(usize),
    /// It says no more after so many events.
    Stalled(usize),
    /// The connection is reset before any answer.
    Reset,
    /// Nothing is answered.
    Silent,
    /// What is answered is no HTTP.
    Garbage,
}

/// Codes of failed responses that are their callers' faults, and some that nobody knows.
const CODES: [&str; 12] = [
    "failed_to_download_image",
    "invalid_image_url",
    "image_too_large",
    "invalid_image_format",
    "image_content_policy_violation",
    "invalid_prompt",
    "vector_store_timeout",
    "content_filter",
    "bad_request",
    "some_new_code",
    "unsupported_image_media_type",
    "empty_image_file",
];

/// Errors of one request: `(status, code, message)`.
const REFUSALS: [(u16, &str, &str); 20] = [
    (400, "invalid_request_error", "'stream_options' is a word in the prompt"),
    (400, "unknown_parameter", "Unknown parameter: 'foo'."),
    (400, "context_length_exceeded", "This model's maximum context length is 8192 tokens."),
    (400, "invalid_encrypted_content", "The encrypted content could not be verified."),
    (400, "content_filter", "The prompt was filtered."),
    (401, "PermissionDenied", "The principal lacks the required data action."),
    (401, "missing_scope", "Missing scopes: api.responses.write"),
    (401, "invalid_api_key", "Incorrect API key provided."),
    (403, "Forbidden", "image_generation is not allowed for this account."),
    (403, "unsupported_country_region_territory", "Not here."),
    (404, "DeploymentNotFound", "The API deployment for this resource does not exist."),
    (404, "404", "Resource not found"),
    (404, "model_not_found", "The model does not exist."),
    (404, "NotFoundError", "The model `x` does not exist."),
    (404, "not_found", "No such vector store."),
    (405, "method_not_allowed", "No."),
    (409, "conflict", "Another one is under way."),
    (413, "too_large", "Too large."),
    (415, "unsupported_media_type", "What is this?"),
    (422, "unprocessable_entity", "Input should be a valid string"),
];

fn used(rng: &mut Rng) -> Used {
    Used { input: rng.u64(1..50_000), output: rng.u64(1..50_000) }
}

/// Some answer for one attempt. A 429 says something that is true for everybody: only where `throttled` allows it.
fn any(throttled: bool, rng: &mut Rng) -> Answer {
    match rng.u8(0..26) {
        0..3 => Answer::Good(used(rng)),
        3 => Answer::Echoes(used(rng)),
        4 => Answer::UsageFirst(used(rng)),
        5 => Answer::Untyped(used(rng)),
        6 => Answer::Compressed(used(rng)),
        7 => Answer::Late(used(rng)),
        8 => Answer::Giant(rng.usize(10_000..1_500_000), used(rng)),
        9 => Answer::Untold,
        10..14 => {
            let (status, code, message) = REFUSALS[rng.usize(..REFUSALS.len())];
            Answer::Refused(status, json!({ "error": { "code": code, "type": code, "message": message, "param": null } }).to_string())
        }
        14 => Answer::Refused(*rng.choice(&[500, 502, 503, 504, 529]).unwrap(), r#"{"error":{"message":"it broke"}}"#.to_owned()),
        15 if throttled => Answer::Throttled(
            *rng.choice(&[None, Some(("retry-after", "3600")), Some(("retry-after-ms", "50")), Some(("retry-after", "0"))]).unwrap(),
        ),
        16 => Answer::Moved(*rng.choice(&[301, 302, 307, 308]).unwrap()),
        17 => rng
            .choice([
                Answer::Nonsense("text/html", "<html>Sign in</html>"),
                Answer::Nonsense("application/json", ""),
                Answer::Nonsense("application/json", r#"{"error":{"message":"no","code":"server_error"}}"#),
                Answer::Nonsense("application/json", "nonsense"),
            ])
            .unwrap(),
        18..21 => Answer::Failed(rng.choice(&CODES).unwrap()),
        21 => Answer::Cut(rng.usize(0..3)),
        22 => Answer::Stalled(rng.usize(0..3)),
        23 => Answer::Reset,
        24 => Answer::Silent,
        _ => Answer::Garbage,
    }
}

/// What the answers to all attempts of a request are: mostly alike, for then they do most.
pub fn all(throttled: bool, rng: &mut Rng) -> Vec<Answer> {
    let first = any(throttled, rng);
    if rng.u8(0..4) > 0 { vec![first] } else { vec![first, any(throttled, rng), any(throttled, rng)] }
}

impl Answer {
    /// What an upstream sends, and what it has used for it.
    pub fn play(&self, kind: Kind, id: &str, streamed: bool, told: bool, cap: u64) -> (Reply, Used) {
        let streamed = streamed && kind.streams();
        let unseen = Used { input: u64::from(kind.prompts()), output: if kind.has_cap() { cap } else { 0 } };
        let nothing = Used::default();
        // What an answer that breaks off has told of its prompt by then.
        let begun = Used { input: unseen.input, output: 0 };
        let events = |used| wire::events(kind, id, used, told);
        let whole = |used: &Used| {
            let used = if kind.tells_tokens() { *used } else { nothing };
            let used = if kind == Kind::Embeddings { Used { output: 0, ..used } } else { used };
            // Of what nobody tells no more can be known than what its request allows.
            let used = if streamed && !told { Used { input: 1, output: used.output.min(cap) } } else { used };
            let reply = if kind == Kind::Realtime {
                let turn = [wire::turn_begins(id), wire::turn(id, used)].map(|text| Step::Write(wire::frame(&text)));
                let [begins, ends] = turn;
                let pause = Step::Pause(Duration::from_millis(5));
                Reply::raw([Step::Write(wire::SWITCHED.into()), begins, pause, ends, Step::Hang])
            } else if streamed {
                Reply::sse(events(used))
            } else {
                Reply::json(200, wire::plain(kind, id, used).to_string())
            };
            (reply, used)
        };
        match self {
            Answer::Good(used) => whole(used),
            Answer::UsageFirst(used) | Answer::Echoes(used) if !streamed && kind != Kind::Realtime => {
                let (_, used) = whole(used);
                let rest = wire::plain(kind, id, used);
                let mut rest = rest.as_object().cloned().unwrap_or_default();
                let usage = rest.remove("usage").unwrap_or_default();
                let rest = json!(rest).to_string();
                let text = if matches!(self, Answer::UsageFirst(_)) {
                    format!("{{\"usage\":{usage},\"metadata\":{{\"usage\":\"none\"}},{}", &rest[1..])
                } else {
                    let echo = "x".repeat(20_000);
                    format!("{},\"usage\":{usage},\"metadata\":{{\"k\":\"{echo}\",\"usage\":\"{{}}\"}}}}", &rest[..rest.len() - 1])
                };
                (Reply::json(200, text), used)
            }
            Answer::UsageFirst(used) | Answer::Echoes(used) => whole(used),
            Answer::Untyped(used) if kind != Kind::Realtime => {
                let (reply, used) = whole(used);
                (reply.header("content-type", ""), used)
            }
            Answer::Compressed(used) if kind != Kind::Realtime => {
                let (_, used) = whole(used);
                let text = if streamed { events(used).concat() } else { wire::plain(kind, id, used).to_string() };
                let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                packed.write_all(text.as_bytes()).unwrap();
                let content_type = if streamed { "text/event-stream" } else { "application/json" };
                let reply = Reply::sse([packed.finish().unwrap()]).header("content-type", content_type).header("content-encoding", "gzip");
                (reply, used)
            }
            Answer::Untyped(used) | Answer::Compressed(used) => whole(used),
            Answer::Late(used) => {
                let (reply, used) = whole(used);
                if !streamed {
                    return (reply, used);
                }
                let mut events = events(used);
                let after = events.split_off(events.len() - 2);
                let pause = Step::Pause(Duration::from_millis(40));
                let reply = events.into_iter().fold(Reply::sse([""; 0]), |reply, event| reply.then(Step::Write(event.into_bytes())));
                (after.into_iter().fold(reply, |reply, event| reply.then(pause.clone()).then(Step::Write(event.into_bytes()))), used)
            }
            Answer::Giant(size, used) => {
                let (reply, used) = whole(used);
                let padding = "y".repeat(*size);
                let reply = match kind {
                    Kind::Realtime => reply,
                    _ if streamed => {
                        let events = events(used).into_iter().map(|event| {
                            let usage = event.contains("\"response.completed\"") || event.contains("\"delta\"");
                            if usage { event.replacen("data: {", &format!("data: {{\"pad\":\"{padding}\","), 1) } else { event }
                        });
                        Reply::sse(events)
                    }
                    _ => {
                        let text = wire::plain(kind, id, used).to_string();
                        Reply::json(200, text.replacen('{', &format!("{{\"pad\":\"{padding}\","), 1))
                    }
                };
                (reply, used)
            }
            Answer::Untold => {
                // Images that nobody counts in tokens are counted as images.
                let some = if kind == Kind::Images { nothing } else { Used { input: u64::from(kind.prompts()), output: 1 } };
                let (reply, used) = whole(&some);
                let reply = match kind {
                    Kind::Realtime => reply,
                    _ if streamed => Reply::sse(wire::events(kind, id, used, false)),
                    _ => {
                        let mut answer = wire::plain(kind, id, used);
                        answer.as_object_mut().unwrap().remove("usage");
                        Reply::json(200, answer.to_string())
                    }
                };
                (reply, used)
            }
            Answer::Refused(status, body) => (Reply::json(*status, body.clone()), nothing),
            Answer::Throttled(header) => {
                let reply = Reply::json(429, r#"{"error":{"code":"429","message":"Too many requests."}}"#);
                (header.map_or(reply.clone(), |(name, value)| reply.header(name, value)), nothing)
            }
            Answer::Moved(status) => {
                let reply = Reply::json(*status, "").header("location", "http://elsewhere.example/v1/chat/completions?key=CANARY-upstream");
                (reply, nothing)
            }
            Answer::Nonsense(content_type, body) => (Reply::json(200, *body).header("content-type", *content_type), nothing),
            Answer::Failed(code) if streamed => {
                let first = events(nothing).remove(0);
                (Reply::sse([first, wire::failed(kind, id, code)]), nothing)
            }
            Answer::Failed(code) => (Reply::json(400, json!({ "error": { "code": code, "message": "it failed" } }).to_string()), nothing),
            Answer::Cut(after) if streamed => {
                let some: Vec<String> = events(begun).into_iter().take(*after).collect();
                (Reply::sse(some).then(Step::Reset), unseen)
            }
            Answer::Stalled(after) if streamed => {
                let some: Vec<String> = events(begun).into_iter().take(*after).collect();
                (Reply::sse(some).then(Step::Hang), unseen)
            }
            Answer::Cut(_) => (Reply::json(200, "{\"id\":\"").header("content-length", "4000").then(Step::Reset), unseen),
            // At once, on a connection that may have been closed long ago: the request is sent again within its attempt.
            Answer::Reset => (Reply::raw([Step::Reset]), nothing),
            Answer::Silent | Answer::Stalled(_) => (Reply::raw([Step::Hang]), unseen),
            Answer::Garbage => (Reply::raw([Step::Write(b"\x00\x01 this is no HTTP\r\n\r\n".to_vec()), Step::Close]), unseen),
        }
    }
}
