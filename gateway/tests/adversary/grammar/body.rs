//! Bodies in JSON: members as an API knows them, members that no two servers read alike, and texts that are broken.

use std::fmt::Write as _;

use fastrand::Rng;

use super::one_of;
use crate::upstream::{BEE, SECRET};
use crate::wire::Kind;

/// Completion tokens that the gateway reserves where a request sets no cap.
const ASSUMED: u64 = 1024;

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
            members.push(member("stream_options", one_of(rng, &options)));
        }
    }
    if kind == Kind::Messages {
        members.push(member("max_tokens", rng.u64(1..400).to_string()));
    }
    members
}

/// The name of a thing that belongs to the other consumer, or to nobody.
pub fn foreign(things: &[String], rng: &mut Rng) -> String {
    if things.is_empty() || rng.u8(0..4) == 0 { "resp_bee-none".to_owned() } else { things[rng.usize(..things.len())].clone() }
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
    let (key, value) = one_of(rng, forms);
    Some((format!("\"{key}\""), value.replace("THING", thing)))
}

/// A second word on the model.
fn model(rng: &mut Rng) -> (String, String) {
    let key = one_of(rng, &["\"model\"", "\"Model\"", "\"MODEL\"", "\"mod\\u0065l\"", "\"model\""]);
    let value = one_of(rng, &["\"secret\"", "\"secr\\u0065t\"", "null", "7", "\"\"", "\"m\"", "[\"secret\"]", "\"nobody\""]);
    (key.to_owned(), value.to_owned())
}

/// A cap, sensible or not.
fn cap(rng: &mut Rng) -> (String, String) {
    let key = one_of(rng, &["max_tokens", "max_completion_tokens", "max_output_tokens"]);
    let value = one_of(rng, &["1", "900", "0", "-1", "1e3", "null", "\"5\"", "18446744073709551616", "64.5"]);
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
    member("tools", one_of(rng, &tools))
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
    let space = one_of(rng, &["", "", "", " ", "\r\n\t"]);
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
        1 => text.extend_from_slice(one_of(rng, &[&b"{}"[..], b",", b"\0", b"}", b"\n\n"])),
        2 => text.splice(0..0, *b"\xef\xbb\xbf").for_each(drop),
        3 => {
            let at = rng.usize(..text.len());
            text[at] = rng.u8(..);
        }
        4 => {
            let at = rng.usize(..text.len());
            text.insert(at, one_of(rng, b"\0\xff\"\\{},:"));
        }
        5 => text = b"[]".to_vec(),
        _ => text.clear(),
    }
    text
}

/// The most tokens that a body lets a model say: another API's cap is none.
fn allowed(kind: Kind, members: &Members) -> u64 {
    let names: &[&str] = match kind {
        Kind::Chat => &["\"max_tokens\"", "\"max_completion_tokens\""],
        Kind::Responses => &["\"max_output_tokens\""],
        _ => &["\"max_tokens\""],
    };
    let caps = members.iter().filter(|(key, _)| names.contains(&key.as_str())).filter_map(|(_, value)| value.parse::<u64>().ok());
    caps.max().unwrap_or(ASSUMED).min(1 << 40)
}

/// A body for an API, and the most tokens that it lets a model say.
pub fn body(kind: Kind, things: &[String], rng: &mut Rng) -> (Vec<u8>, u64) {
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
                one_of(rng, &["n", "best_of", "store", "background", "stream", "reasoning_effort", "user"]),
                one_of(rng, &["2", "true", "null", "\"low\""]),
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
    let cap = allowed(kind, &members);
    let text = render(&members, rng);
    // A name in a text that is broken may stand at a key that means nothing.
    let named = text.windows(4).any(|word| word == BEE.as_bytes()) || text.windows(6).any(|word| word == SECRET.as_bytes());
    if !named && rng.u8(0..8) == 0 { (broken(text, rng), cap) } else { (text, cap) }
}
