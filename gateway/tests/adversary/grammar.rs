//! Requests of the hostile consumer: valid, odd, malformed.

use std::fmt::Write as _;
use std::io::Write as _;

use fastrand::Rng;

use crate::manner::Manner;
use crate::upstream::{BEE, SECRET};
use crate::wire::Kind;

/// One request, and how it is brought.
#[derive(Debug, Clone)]
pub struct Move {
    pub bytes: Vec<u8>,
    pub manner: Manner,
    /// The most tokens that it lets a model say.
    pub cap: u64,
}

/// Completion tokens that the gateway reserves where a request sets no cap.
const ASSUMED: u64 = 1024;

fn one_of<'l, T>(rng: &mut Rng, list: &'l [T]) -> &'l T {
    &list[rng.usize(..list.len())]
}

/// Members of a JSON object, each as it is written.
type Members = Vec<(String, String)>;

fn member(key: &str, value: impl Into<String>) -> (String, String) {
    (format!("\"{key}\""), value.into())
}

/// A valid body for an API.
fn plain(kind: Kind, rng: &mut Rng) -> Members {
    let model = if kind == Kind::Messages { "\"claude\"" } else { "\"m\"" };
    let mut members = vec![member("model", model)];
    match kind {
        Kind::Chat | Kind::Messages => members.push(member("messages", r#"[{"role":"user","content":"hi"}]"#)),
        Kind::Responses => members.push(member("input", r#"[{"role":"user","content":"hi"}]"#)),
        Kind::Embeddings => members.push(member("input", r#"["hi"]"#)),
        _ => members.push(member("prompt", "\"hi\"")),
    }
    if kind.streams() && rng.bool() {
        members.push(member("stream", "true"));
        if rng.u8(0..3) == 0 {
            let options = ["null", "{}", r#"{"include_usage":true}"#, r#"{"include_usage":false}"#, r#"{"include_usage":"yes"}"#, "7"];
            members.push(member("stream_options", *one_of(rng, &options)));
        }
    }
    if kind == Kind::Messages {
        members.push(member("max_tokens", rng.u64(1..400).to_string()));
    }
    members
}

/// The name of a thing that belongs to the other consumer, or to nobody.
fn foreign(things: &[String], rng: &mut Rng) -> String {
    if things.is_empty() || rng.u8(0..4) == 0 { "resp_bee-none".to_owned() } else { one_of(rng, things).clone() }
}

/// Refers to a thing in one of the many places where an API lets one stand; `None` where it lets none.
fn reference(kind: Kind, thing: &str, rng: &mut Rng) -> Option<(String, String)> {
    let forms: &[(&str, &str)] = match kind {
        Kind::Responses => &[
            ("previous_response_id", r#""THING""#),
            ("Previous_Response_Id", r#""THING""#),
            ("previous\\u005fresponse_id", r#""THING""#),
            ("conversation", r#""THING""#),
            ("conversation", r#"{"id":"THING"}"#),
            ("conversation", r#"{"id":"mine","id":"THING"}"#),
            ("input", r#"[{"id":"THING"}]"#),
            ("input", r#"[{"type":null,"id":"msg_THING"}]"#),
            ("input", r#"[{"type":"item_reference","id":"msg_THING"}]"#),
            ("input", r#"[{"id":"mine","type":"item_reference","id":"THING"}]"#),
            ("input", r#"[{"role":"user","content":[{"type":"input_file","file_id":"THING"}]}]"#),
            ("input", r#"[{"role":"user","content":[{"type":"input_image","File_Id":"THING"}]}]"#),
            ("tools", r#"[{"type":"file_search","vector_store_ids":["THING"]}]"#),
            ("tools", r#"[{"type":"code_interpreter","container":"THING"}]"#),
            ("tools", r#"[{"type":"code_interpreter","container":{"type":"auto","file_ids":["THING"]}}]"#),
            ("prompt", r#"{"id":"pmpt","variables":{"f":{"type":"input_file","file_id":"THING"}}}"#),
        ],
        Kind::Chat => &[
            ("messages", r#"[{"role":"assistant","audio":{"id":"THING"}}]"#),
            ("messages", r#"[{"role":"user","content":[{"type":"file","file":{"file_id":"THING"}}]}]"#),
        ],
        Kind::Messages => &[
            ("messages", r#"[{"role":"user","content":[{"type":"document","source":{"type":"file","file_id":"THING"}}]}]"#),
            ("container", r#""THING""#),
            ("container", r#"{"id":"THING"}"#),
        ],
        _ => return None,
    };
    let (key, value) = *one_of(rng, forms);
    Some((format!("\"{key}\""), value.replace("THING", thing)))
}

/// A second word on the model.
fn model(rng: &mut Rng) -> (String, String) {
    let key = *one_of(rng, &["\"model\"", "\"Model\"", "\"MODEL\"", "\"mod\\u0065l\"", "\"model\""]);
    let value = *one_of(rng, &["\"secret\"", "\"secr\\u0065t\"", "null", "7", "\"\"", "\"m\"", "[\"secret\"]", "\"nobody\""]);
    (key.to_owned(), value.to_owned())
}

/// A cap, sensible or not.
fn cap(rng: &mut Rng) -> (String, String) {
    let key = *one_of(rng, &["max_tokens", "max_completion_tokens", "max_output_tokens"]);
    let value = *one_of(rng, &["1", "900", "0", "-1", "1e3", "null", "\"5\"", "18446744073709551616", "64.5"]);
    member(key, value)
}

fn tool(rng: &mut Rng) -> (String, String) {
    let tools = [
        r#"[{"type":"image_generation","model":"secret"}]"#,
        r#"[{"type":"image_generation"}]"#,
        r#"[{"type":"web_search"}]"#,
        r#"[{"type":"function","function":{"name":"f","parameters":{"type":"object","file_id":{"type":"string"}}}}]"#,
        r#"[{"type":"mcp","server_url":"http://127.0.0.1:1/"}]"#,
    ];
    member("tools", *one_of(rng, &tools))
}

/// Something long, deep or many.
fn bulk(rng: &mut Rng) -> (String, String) {
    let size = rng.usize(1_000..200_000);
    match rng.u8(0..6) {
        0 => member("pad", format!("\"{}\"", "z".repeat(size))),
        1 => member("pad", format!("[{}0]", "0,".repeat(size / 8))),
        2 => member("pad", format!("{}{}", "[".repeat(100), "]".repeat(100))),
        3 => member("pad", format!("{}{}", "[".repeat(5_000), "]".repeat(5_000))),
        4 => member("metadata", format!("{{{}\"usage\":\"{{}}\"}}", "\"k\":\"v\",".repeat(size / 64))),
        _ => member("user", format!("\"data:image\\/png;base64,{}\"", "iVBOR".repeat(size / 5))),
    }
}

fn render(members: &Members, rng: &mut Rng) -> Vec<u8> {
    let space = *one_of(rng, &["", "", "", " ", "\r\n\t"]);
    let mut text = format!("{space}{{");
    for (number, (key, value)) in members.iter().enumerate() {
        let comma = if number > 0 { "," } else { "" };
        let _ = write!(text, "{comma}{space}{key}{space}:{space}{value}");
    }
    text.push('}');
    text.into_bytes()
}

/// Breaks a text in one of the ways that texts break.
fn broken(mut text: Vec<u8>, rng: &mut Rng) -> Vec<u8> {
    match rng.u8(0..7) {
        0 => text.truncate(rng.usize(..=text.len())),
        1 => text.extend_from_slice(*one_of(rng, &[&b"{}"[..], b",", b"\0", b"}", b"\n\n"])),
        2 => text.splice(0..0, *b"\xef\xbb\xbf").for_each(drop),
        3 => {
            let at = rng.usize(..text.len());
            text[at] = rng.u8(..);
        }
        4 => {
            let at = rng.usize(..text.len());
            text.insert(at, *one_of(rng, b"\0\xff\"\\{},:"));
        }
        5 => text = b"[]".to_vec(),
        _ => text.clear(),
    }
    text
}

fn body(kind: Kind, things: &[String], rng: &mut Rng) -> (Vec<u8>, u64) {
    let mut members = plain(kind, rng);
    for _ in 0..[0, 0, 1, 1, 2, 3][rng.usize(..6)] {
        let more = match rng.u8(0..7) {
            0 => model(rng),
            1 | 2 => match reference(kind, &foreign(things, rng), rng) {
                Some(reference) => reference,
                None => continue,
            },
            3 => cap(rng),
            4 => tool(rng),
            5 => bulk(rng),
            _ => member(
                *one_of(rng, &["n", "best_of", "store", "background", "stream", "reasoning_effort", "user"]),
                *one_of(rng, &["2", "true", "null", "\"low\""]),
            ),
        };
        // In the place of what is there, or beside it.
        match members.iter_mut().find(|(key, _)| *key == more.0) {
            Some(old) if rng.bool() => *old = more,
            _ => members.push(more),
        }
    }
    if rng.u8(0..6) == 0 {
        rng.shuffle(&mut members);
    }
    let caps = members.iter().filter(|(key, _)| key.starts_with("\"max_")).filter_map(|(_, value)| value.parse::<u64>().ok());
    let cap = caps.max().unwrap_or(ASSUMED);
    let text = render(&members, rng);
    // A name in a text that is broken may stand at a key that means nothing.
    let named = text.windows(4).any(|word| word == BEE.as_bytes()) || text.windows(6).any(|word| word == SECRET.as_bytes());
    if !named && rng.u8(0..8) == 0 { (broken(text, rng), cap) } else { (text, cap) }
}

fn form(rng: &mut Rng) -> (Vec<u8>, &'static str) {
    let disposition = "Content-Disposition: form-data; name=\"model\"";
    let model = *one_of(
        rng,
        &[
            disposition,
            disposition,
            disposition,
            "content-disposition: form-data; Name=\"model\"",
            "Content-Disposition: form-data; name*=utf-8''model",
            "Content-Disposition: form-data;\r\n name=\"model\"",
            "Content-Disposition: form-data; name=model",
            "Content-Disposition: form-data; name=\"x\"; name=\"model\"",
            "Content-Disposition: form-data; name=\"mod\\el\"",
        ],
    );
    let value = *one_of(rng, &["m", "m", "m", SECRET, ""]);
    let file = "z".repeat(*one_of(rng, &[100, 5_000, 400_000]));
    let file = format!("--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n{file}\r\n");
    let first = format!("--XX\r\n{disposition}\r\n\r\nm\r\n");
    let second = format!("--XX\r\n{model}\r\n\r\n{value}\r\n");
    let text = match rng.u8(0..5) {
        0 => format!("{first}{file}{second}--XX--\r\n"),
        1 => format!("{second}{file}--XX--\r\n"),
        2 => format!("{first}{second}{file}--XX--\r\n"),
        3 => format!("{first}{file}"),
        _ => format!("{first}{file}--XX--\r\n"),
    };
    let content_type = *one_of(
        rng,
        &[
            "multipart/form-data; boundary=XX",
            "multipart/form-data; boundary=XX",
            "multipart/form-data; boundary=XX; boundary=YY",
            "multipart/form-data; boundary=\"XX\"",
            "multipart/form-data",
        ],
    );
    (text.into_bytes(), content_type)
}

/// Header lines that may choose, confuse or fill something.
fn headers(rng: &mut Rng, head: &mut String) {
    let number = rng.u32(..);
    for _ in 0..rng.u8(0..4) {
        let line = match rng.u8(0..16) {
            0 => "x-ms-oai-image-generation-deployment: secret".to_owned(),
            1 => "azureml-model-deployment: secret".to_owned(),
            2 => "x-ms-spillover-deployment: secret".to_owned(),
            3 => format!("x-team: random-{number}"),
            4 => format!("traceparent: 00-{number:032x}-{number:016x}-01"),
            5 => "traceparent: nonsense".to_owned(),
            6 => "tracestate: =,=".to_owned(),
            7 => "cookie: KEY-cookie".to_owned(),
            8 => "x-forwarded-host: 127.0.0.1:1".to_owned(),
            9 => "x-spillway-pool: secret".to_owned(),
            10 => "x-spillway-backend: secret".to_owned(),
            11 => "connection: host, x-request-id".to_owned(),
            12 => "expect: 100-continue".to_owned(),
            13 => format!("x-long: {}", "q".repeat(20_000)),
            14 => "openai-organization: KEY-org".to_owned(),
            _ => "accept-encoding: gzip, br".to_owned(),
        };
        let _ = write!(head, "{line}\r\n");
    }
}

/// Frames a body: as it should be, or as no two servers read alike.
fn framed(head: &mut String, body: &[u8], rng: &mut Rng) -> Vec<u8> {
    let chunked = |extension: &str, line_end: &str| {
        let mut text = Vec::new();
        for piece in body.chunks(body.len() / 3 + 1) {
            text.extend_from_slice(format!("{:x}{extension}{line_end}", piece.len()).as_bytes());
            text.extend_from_slice(piece);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"0\r\n\r\n");
        text
    };
    let inner = b"POST /v1/smuggled HTTP/1.1\r\nhost: smuggled\r\ncontent-length: 0\r\n\r\n";
    let length = body.len();
    let (lines, text) = match rng.u8(0..24) {
        0 => ("transfer-encoding: chunked, chunked\r\n".to_owned(), [&chunked("", "\r\n")[..], inner].concat()),
        1 => ("transfer-encoding: gzip, chunked\r\n".to_owned(), [&chunked("", "\r\n")[..], inner].concat()),
        2 => (format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"), [&chunked("", "\r\n")[..], inner].concat()),
        3 => (format!("content-length: {length}\r\ncontent-length: {}\r\n", length + 5), body.to_vec()),
        4 => (format!("content-length: {}\r\n", length + 50), body.to_vec()),
        5 => (format!("content-length: {}\r\n", length / 2), body.to_vec()),
        6 => (format!("content-length: +{length}\r\n"), body.to_vec()),
        7 => ("transfer-encoding: chunked\r\n".to_owned(), chunked(";x=\"y\"", "\r\n")),
        8 => ("transfer-encoding: chunked\r\n".to_owned(), chunked(";x", "\n")),
        9 => ("transfer-encoding:\x0bchunked\r\n".to_owned(), chunked("", "\r\n")),
        10 => ("transfer-encoding: identity\r\n".to_owned(), body.to_vec()),
        11 => (String::new(), body.to_vec()),
        12 => {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(body).unwrap();
            let packed = packed.finish().unwrap();
            (format!("content-encoding: gzip\r\ncontent-length: {}\r\n", packed.len()), packed)
        }
        13 => (format!("content-encoding: gzip\r\ncontent-length: {length}\r\n"), body.to_vec()),
        14..18 => ("transfer-encoding: chunked\r\n".to_owned(), chunked("", "\r\n")),
        _ => (format!("content-length: {length}\r\n"), body.to_vec()),
    };
    *head += &lines;
    text
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
    let (kind, path) = *one_of(rng, &kinds);
    let manner = Manner::any(rng);
    if kind == Kind::Realtime {
        return Move { bytes: socket(id, rng), manner, cap: 0 };
    }
    if path.is_empty() {
        return Move { bytes: fetch(id, &foreign(things, rng), rng), manner, cap: 0 };
    }
    let (body, content_type, cap) = if matches!(kind, Kind::Transcription | Kind::Stored) {
        let (body, content_type) = form(rng);
        (body, content_type, 0)
    } else {
        let (body, cap) = body(kind, things, rng);
        let content_type = *one_of(
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
    let mut head = format!("{line}\r\n{host}x-request-id: {id}\r\ncontent-type: {content_type}\r\n");
    head += match rng.u8(0..30) {
        0 => "api-key: KEY-wrong\r\n",
        1 => "api-key: KEY-a\r\napi-key: KEY-x\r\n",
        2 => "",
        3 => "authorization: Bearer KEY-a\r\n",
        _ => "api-key: KEY-a\r\n",
    };
    headers(rng, &mut head);
    let body = framed(&mut head, &body, rng);
    Move { bytes: [head.as_bytes(), b"\r\n", &body].concat(), manner, cap }
}

/// Asks for a stored thing.
fn fetch(id: &str, thing: &str, rng: &mut Rng) -> Vec<u8> {
    let method = *one_of(rng, &["GET", "DELETE", "POST"]);
    let path = *one_of(
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
    format!("{method} /v1/{path} HTTP/1.1\r\nhost: gateway\r\nx-request-id: {id}\r\napi-key: KEY-a\r\ncontent-length: 0\r\n\r\n")
        .into_bytes()
}

/// A realtime socket, and frames for it.
fn socket(id: &str, rng: &mut Rng) -> Vec<u8> {
    let model = *one_of(rng, &["m", "m", "m", SECRET, "m&model=secret", "%6d"]);
    let key = *one_of(
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
