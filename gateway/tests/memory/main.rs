//! What reading a body costs in memory, counted by an allocator: a small multiple of the body, whatever stands in it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use peak_alloc::PeakAlloc;
use spillway::mock::answer::{Question, answer};
use spillway::mock::body::Body;
use spillway_plugins::api::Api;
use spillway_plugins::guard::{AnswerText, PromptText, Rules};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const SIZE: usize = 1 << 18;
/// What reading takes for a body of any length.
const SLACK: usize = 64 * 1024;

/// The most that was allocated at once, beyond what there was before.
fn peak<T>(work: impl FnOnce() -> T) -> usize {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = work();
    let peak = ALLOCATOR.peak_usage().saturating_sub(before);
    drop(result);
    peak
}

/// A quarter of a mebibyte of what makes a tree large.
fn shapes() -> Vec<(&'static str, String)> {
    let list = |element: &str| format!("[{}{element}]", format!("{element},").repeat(SIZE / (element.len() + 1)));
    let names: Vec<String> = (0..SIZE / 10).map(|number| format!("\"{number:x}\":0")).collect();
    vec![
        ("empty lists", list("[]")),
        ("objects", list("{}")),
        ("small members", list(r#"{"a":1}"#)),
        ("small texts", list(r#""a""#)),
        ("small parts", list(r#"{"type":"text","text":"a"}"#)),
        ("small messages", list(r#"{"role":"user","content":"a"}"#)),
        ("unknown members", list(r#"{"a":"b"}"#)),
        ("numbers", list("1")),
        ("names", format!("{{{}}}", names.join(","))),
        ("escapes", format!("\"{}\"", "\\u00e9".repeat(SIZE / 6))),
        ("nesting", format!("{}{}", "[".repeat(100), "]".repeat(100))),
        ("white space", format!("[{}]", " ".repeat(SIZE))),
    ]
}

// One test: others at the same time would be counted, too.
#[test]
fn reading_costs_a_small_multiple_of_a_body() {
    let rules = Rules::new(&[("case".to_owned(), "CN-[0-9]{6}".to_owned())], &["heron".to_owned()], None, Some(Vec::new())).unwrap();
    for (name, shape) in shapes() {
        for member in ["messages", "input", "documents", "metadata"] {
            let text = format!(r#"{{"model":"m","{member}":{shape}}}"#);
            let body = text.as_bytes();
            let look = || {
                let asked = PromptText::read(Api::Chat, body).unwrap();
                let _ = rules.request(&asked, body);
                asked.into_seen()
            };
            // What the patterns keep for the next text is theirs.
            drop(look());
            let guard = peak(look);
            assert!(guard < 8 * body.len() + SLACK, "guard, {name} in {member}: {} times the body", guard / body.len());
            let made = peak(|| {
                let body = Body::read(body).unwrap();
                answer(&Question { api: Api::Chat, part: None, model: "m", body: &body, text: "fine", created: 1, unique: 1, azure: false })
            });
            assert!(made < SLACK, "the last resort, {name} in {member}: {made} bytes");
        }
        let tree = peak(|| serde_json::from_str::<serde_json::Value>(&shape));
        let cost = spillway_plugins::answer::cost(shape.as_bytes());
        assert!(tree <= cost + SLACK, "a tree, {name}: {tree} bytes instead of {cost}");
        let held = {
            let asked = PromptText::read(Api::Chat, format!(r#"{{"messages":{shape}}}"#).as_bytes()).unwrap();
            let before = ALLOCATOR.current_usage();
            let seen = asked.into_seen();
            let held = seen.text.len() + 16 * (seen.said.len() + seen.brought.len());
            assert!(ALLOCATOR.current_usage() <= before + shape.len());
            held
        };
        assert!(held < 2 * shape.len().max(1024), "{name}: held while a service is asked");
        let text = format!(r#"{{"choices":[{{"index":0,"message":{{"content":"x","logprobs":{shape},"more":{shape}}}}}]}}"#);
        let answer = peak(|| {
            let mut said = AnswerText::default();
            said.add(text.as_bytes()).unwrap();
            let _ = rules.answer(&said);
            said
        });
        assert!(answer < 16 * text.len() + SLACK, "answer, {name}: {} times the answer", answer / text.len());
    }
}
