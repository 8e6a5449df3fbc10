//! What the prompt log gets of a request.

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::proxy::fixtures::{CHAT, body, consumer, context, facts, facts_of, gateway};
use crate::telemetry::log_time::LogTime;

/// The table of a log in this folder.
fn log(folder: &Path, more: &str) -> String {
    format!("[plugins.prompt_log]\nenabled = true\npath = \"{}\"\n{more}\n", folder.join("prompts.jsonl").display())
}

fn level(facts: &Facts) -> Option<Level> {
    decide(facts).map(|logged| logged.level)
}

#[tokio::test]
async fn the_log_decides_and_then_the_consumer() {
    let folder = tempfile::tempdir().unwrap();
    let rest = log(folder.path(), "level = \"metadata\"")
        + &consumer("usual", "")
        + &consumer("full", "prompt_log = { level = \"full\" }")
        + &consumer("off", "prompt_log = { level = \"off\" }")
        + &consumer("never", "prompt_log = { sample = 0.0 }");
    let gateway = gateway(&rest);
    assert_eq!(level(&facts(&gateway)), Some(Level::Metadata));
    let of = |name: &str| level(&facts_of(&gateway, name));
    assert_eq!(["usual", "full", "off", "never"].map(of), [Some(Level::Metadata), Some(Level::Full), None, None]);
    let mut own = facts_of(&gateway, "full");
    own.internal = true;
    assert_eq!(level(&own), None, "the gateway's own requests are no prompts");
    let none = crate::proxy::fixtures::gateway("");
    assert_eq!(level(&facts(&none)), None);
}

fn copies(level: Level) -> Copies {
    Copies { logged: Some(Box::new(Logged { level, answer: None, body: None, excerpt: None, share: None })), cached: None }
}

#[tokio::test]
async fn a_body_is_wanted_whole_or_as_an_excerpt() {
    let gateway = gateway("");
    let long = format!("{{\"model\":\"m\",{}\"messages\":[]}}", " ".repeat(LONGEST_REQUEST));
    for (level, text, wanted, too_long) in [
        (Level::Full, CHAT, true, false),
        (Level::Redacted, CHAT, true, false),
        (Level::Metadata, CHAT, false, false),
        (Level::Full, &long, false, true),
        (Level::Metadata, &long, false, false),
    ] {
        let (mut body, mut copies) = (body(&gateway, text), copies(level));
        assert_eq!((wants_body(&body, &copies), is_too_long(&body, &copies)), (wanted, too_long), "{level:?} {}", text.len());
        let logged = take(&mut body, &mut copies).expect("it is written down");
        assert_eq!((logged.body.is_some(), body.kept.is_none(), copies.logged.is_none()), (wanted, true, true));
    }
    assert!(!wants_body(&body(&gateway, CHAT), &Copies::default()));
}

#[tokio::test]
async fn of_a_long_body_there_is_an_excerpt_that_takes_its_share() {
    let gateway = gateway("");
    let long = format!("{{\"model\":\"m\",{}\"messages\":[]}}", " ".repeat(LONGEST_REQUEST));
    let (body, mut copies) = (body(&gateway, &long), copies(Level::Full));
    shorten(&gateway, &facts(&gateway), &body, &mut copies).await;
    let held = i64::try_from(long.len() + LONGEST_REQUEST).unwrap();
    assert_eq!(gateway.metrics.requests.buffered.get(), held);
    let (excerpt, _share) = copies.logged.unwrap().excerpt.expect("there is room");
    assert_eq!((excerpt.is_cut(), excerpt.into_bytes()), (false, br#"{"model":"m","messages":[]}"#.to_vec()), "white space is none");
}

#[test]
fn an_answer_is_copied_in_its_form() {
    let of = |streamed: bool, pieces: &[&'static str]| {
        let mut copies = copies(Level::Full);
        let reply = Reply { streamed, ..Reply::default() };
        pieces.iter().for_each(|piece| record(&mut copies, &reply, &Bytes::from_static(piece.as_bytes())));
        let part = copies.logged.unwrap().answer.and_then(Copied::part)?;
        Some((String::from_utf8(part.bytes.to_vec()).unwrap(), part.cut))
    };
    assert_eq!(of(false, &["{ \"a\" :", " \"b c\" }"]), Some(("{ \"a\" : \"b c\" }".to_owned(), false)));
    assert_eq!(of(true, &["data: 1\n\n", "data:  2\n\n"]), Some(("data: 1\n\ndata:  2\n\n".to_owned(), false)));
    assert_eq!(of(true, &[]), None);
    let mut only_facts = copies(Level::Metadata);
    record(&mut only_facts, &Reply::default(), &Bytes::from_static(b"{}"));
    record_whole(&mut only_facts, &Reply::default(), &Bytes::from_static(b"{}"));
    assert!(only_facts.logged.unwrap().answer.is_none());
}

#[test]
fn an_answer_in_one_piece_is_recorded_whatever_its_length() {
    for length in [1, SHORT, SHORT + 1, LONGEST_ANSWER + 1] {
        let mut copies = copies(Level::Full);
        record_whole(&mut copies, &Reply::default(), &Bytes::from(vec![b'x'; length]));
        let part = copies.logged.unwrap().answer.and_then(Copied::part).unwrap();
        assert_eq!((part.bytes.len(), part.cut), (length.min(LONGEST_ANSWER), length > LONGEST_ANSWER));
    }
}

#[test]
fn a_stream_that_is_too_long_is_cut() {
    let mut copies = copies(Level::Full);
    let reply = Reply { streamed: true, ..Reply::default() };
    record(&mut copies, &reply, &Bytes::from(vec![b'x'; LONGEST_ANSWER + 1]));
    let part = copies.logged.unwrap().answer.and_then(Copied::part).unwrap();
    assert_eq!((part.bytes.len(), part.cut), (LONGEST_ANSWER, true));
}

/// The record of a request with this id.
async fn written(level: Level, id: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(&log(folder.path(), ""));
    let mut ctx = context(&gateway, facts(&gateway), Api::Chat, &CHAT.replace("hi", "to anna@example.com"));
    ctx.copies = copies(level);
    record(&mut ctx.copies, &ctx.reply, &Bytes::from_static(br#"{"choices":[{"message":{"role":"assistant","content":"sure"}}]}"#));
    let logged = take(&mut ctx.body, &mut ctx.copies).unwrap();
    let line = RequestLine {
        time: LogTime::new(1_794_312_000_000),
        id,
        trace_id: None,
        span_id: None,
        consumer: None,
        method: "POST",
        api: "chat",
        model: Some("m"),
        pool: None,
        status: 200,
        end: "ok",
        code: None,
        stream: false,
        cache: None,
        rescued: None,
        attempts: smallvec::smallvec![],
        service_tier: None,
        usage: None,
        bytes_in: 1,
        bytes_out: 2,
        first_us: None,
        us: 3,
        overhead_us: 4,
    };
    let runtime = gateway.runtime.load();
    let log = runtime.prompt_log.clone().unwrap();
    write(&log, &runtime.access_log, logged, (Api::Chat, false), line, true);
    log.flush(std::time::Duration::from_secs(10)).await;
    serde_json::from_str(&std::fs::read_to_string(folder.path().join("prompts.jsonl")).unwrap()).unwrap()
}

#[tokio::test]
async fn a_record_says_as_much_as_its_level_allows() {
    let redacted = written(Level::Redacted, "ask-anna@example.com").await;
    assert_eq!((&redacted["id"], &redacted["status"]), (&json!("[redacted]"), &json!(200)));
    assert!(!redacted.to_string().contains("anna@") && redacted.to_string().contains("sure"), "{redacted}");
    let full = written(Level::Full, "ask-anna@example.com").await;
    assert_eq!(full["id"], "ask-anna@example.com");
    assert!(full.to_string().contains("to anna@example.com"), "{full}");
    let metadata = written(Level::Metadata, "plain").await;
    assert_eq!((&metadata["id"], &metadata["bytes_out"]), (&json!("plain"), &json!(2)));
    assert!(!metadata.to_string().contains("sure") && !metadata.to_string().contains("anna"), "{metadata}");
}
