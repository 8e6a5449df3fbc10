//! The upstreams of a round: they answer the ordinary consumer as they always do, and the hostile one as the book says.

use std::io::Read as _;
use std::sync::Arc;

use serde_json::Value;
use spillway_testkit::backend::{Received, Reply, ScriptedBackend, Step};
use spillway_testkit::wire::Ended;

use crate::book::Book;
use crate::wire::{self, Kind, Used};
use crate::world::tier;

/// What the names of the ordinary consumer's requests and things have in them.
pub const BEE: &str = "bee-";
/// The same for the hostile one's.
pub const ANT: &str = "ant-";
/// What the names of the ordinary consumer's requests have in them that the first tier fails.
pub const FALLS: &str = "falls-";
/// A word that only the ordinary consumer is told.
pub const NECTAR: &str = "nectar";
/// A model that the hostile consumer may not use.
pub const SECRET: &str = "secret";

/// Starts one.
pub async fn start(name: &'static str, book: &Arc<Book>) -> ScriptedBackend {
    let book = Arc::clone(book);
    ScriptedBackend::start(move |request| answer(name, &book, request)).await
}

fn answer(name: &str, book: &Book, request: &Received) -> Reply {
    let id = request.header("x-request-id").unwrap_or("");
    if id.starts_with(BEE) {
        return ordinary(name, id, request);
    }
    for what in offences(name, request) {
        let head = format!("{} {}", request.head.line[0], request.head.line[1]);
        let body = String::from_utf8_lossy(&request.body[..request.body.len().min(400)]).into_owned();
        book.wrong(id, format!("{what} at {name}: {head} {:?} {body}", request.head.headers));
    }
    let kind = Kind::of(request.path());
    let body = request.json();
    let (answer, cap) = book.next(id).unwrap_or((crate::answers::Answer::Good(Used { input: 5, output: 5 }), 0));
    let (reply, used) = answer.play(kind, &format!("{}{id}", prefix(kind)), body["stream"] == true, asked(kind, &body), cap);
    // Of a request that never came whole nothing was done.
    if request.ended == Ended::Cut {
        return Reply::raw([Step::Close]);
    }
    if kind == Kind::Realtime {
        book.turn(id, used)
    } else {
        let output = if kind.has_cap() { used.output.min(cap) } else { 0 };
        book.add(id, used, Used { input: used.input.min(u64::from(kind.prompts())), output });
    }
    reply
}

/// Whether the usage is told at the end of a stream.
fn asked(kind: Kind, body: &Value) -> bool {
    !matches!(kind, Kind::Chat | Kind::Completions) || body["stream_options"]["include_usage"] == true
}

fn prefix(kind: Kind) -> &'static str {
    match kind {
        Kind::Responses => "resp_",
        Kind::Stored => "file-",
        _ => "x",
    }
}

/// What the ordinary consumer's request uses.
pub fn ordinary_used(kind: Kind, id: &str) -> Used {
    let number = id.bytes().fold(7_u64, |sum, byte| (sum * 31 + u64::from(byte)) % 89);
    match kind {
        Kind::Speech | Kind::Stored => Used::default(),
        Kind::Embeddings => Used { input: 10 + number, output: 0 },
        _ => Used { input: 10 + number, output: 3 + number % 7 },
    }
}

fn ordinary(upstream: &str, id: &str, request: &Received) -> Reply {
    if id.contains(FALLS) && tier(upstream) == Some(1) {
        return Reply::json(503, r#"{"error":{"message":"it broke"}}"#);
    }
    let kind = Kind::of(request.path());
    let used = ordinary_used(kind, id);
    let name = format!("{}{id}", prefix(kind));
    let body = request.json();
    match kind {
        Kind::Realtime => Reply::raw([Step::Write(wire::SWITCHED.into()), Step::Write(wire::frame(&wire::turn(&name, used))), Step::Hang]),
        Kind::Speech => Reply::json(200, NECTAR).header("content-type", "audio/mpeg"),
        // What is fetched is told as what was asked for.
        Kind::Stored if request.head.line[0] == "GET" => {
            let thing = request.path().rsplit('/').find(|part| part.contains(BEE)).unwrap_or("nothing");
            Reply::json(200, format!("{{\"id\":\"{thing}\",\"object\":\"{NECTAR}\"}}"))
        }
        _ if body["stream"] == true => {
            let events = wire::events(kind, &name, used, asked(kind, &body));
            Reply::sse(events.iter().map(|event| event.replace("words", NECTAR)))
        }
        _ => Reply::json(200, wire::plain(kind, &name, used).to_string().replace("words", NECTAR)),
    }
}

/// What of a hostile request should never have come this far.
fn offences(name: &str, request: &Received) -> Vec<String> {
    let mut offences = Vec::new();
    let text = text(request);
    for (word, what) in [
        (BEE, "a thing of the other consumer"),
        (NECTAR, "what the other consumer was told"),
        (SECRET, "a model that it may not use"),
        ("KEY-", "a caller's key"),
    ] {
        // Stored things have no model, whatever their forms say.
        let elsewhere = word == SECRET && Kind::of(request.path()) == Kind::Stored;
        if text.contains(word) && !elsewhere {
            offences.push(what.to_owned());
        }
    }
    // Within a body that its length covers it is no request.
    if request.path().contains("smuggled") {
        offences.push("a request within a request".to_owned());
    }
    if name == SECRET {
        offences.push("a backend that it may not use".to_owned());
    }
    if request.head.line[2] != "HTTP/1.1" || request.header("host").is_none() {
        offences.push("no request".to_owned());
    }
    offences
}

/// Everything that can be read in a request, unpacked and unescaped.
fn text(request: &Received) -> String {
    let mut text = format!(
        "{:?} {:?} ",
        request.head.line,
        request.head.headers.iter().filter(|(name, _)| name != "x-request-id").collect::<Vec<_>>()
    );
    text += &String::from_utf8_lossy(&request.body);
    let mut unpacked = Vec::new();
    if flate2::read::GzDecoder::new(&*request.body).take(1 << 22).read_to_end(&mut unpacked).is_ok() {
        text += &String::from_utf8_lossy(&unpacked);
    }
    if text.contains("\\u") {
        // Every key and text, with its escapes read.
        fn read(value: &Value, text: &mut String) {
            match value {
                Value::String(word) => *text += word,
                Value::Array(list) => list.iter().for_each(|value| read(value, text)),
                Value::Object(map) => map.iter().for_each(|(key, value)| {
                    *text += key;
                    read(value, text);
                }),
                _ => {}
            }
        }
        read(&request.json(), &mut text);
    }
    text
}
