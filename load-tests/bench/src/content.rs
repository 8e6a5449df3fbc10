//! What looking up similar questions and writing prompts down cost, without any I/O of requests around them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use spillway::clock::Clock;
use spillway::config::PromptLogRules;
use spillway::prompt_log::{Entry, Part, PromptLog};
use spillway::telemetry::metrics::Metrics;
use spillway_plugins::api::Api;
use spillway_plugins::cache::semantic::{Index, Known, Particulars, Question};
use spillway_plugins::cache::{CacheKey, Entry as Answer};
use spillway_plugins::prompt_log::Level;
use spillway_plugins::prompt_log::redact::{Class, Redactor};

/// Questions that are known, and components of their embeddings.
const QUESTIONS: usize = 100_000;
const COMPONENTS: usize = 1536;
const SEARCHES: u32 = 200;

fn vector(rng: &mut fastrand::Rng) -> Arc<[f32]> {
    (0..COMPONENTS).map(|_| rng.f32() - 0.5).collect()
}

/// Microseconds to look through as many similar questions as may be known, all of one scope.
pub fn search() -> f64 {
    let mut rng = fastrand::Rng::with_seed(7);
    let index = Index::new(QUESTIONS);
    let question = Question { scope: CacheKey([1; 32]), particulars: Particulars::of("how is it"), text: String::new() };
    let body = Bytes::from_static(b"{}");
    let entry = Arc::new(Answer { streamed: false, backend: "b".into(), kept_at: 0, good_until: 10, input: 0, output: 0, body });
    let mut wanted = Vec::new();
    let known: Vec<Known> = (0..QUESTIONS)
        .map(|number| {
            let known = Known {
                question: Question { text: format!("how is it, {number:x}"), ..question.clone() },
                vector: vector(&mut rng),
                entry: Arc::clone(&entry),
            };
            if number % 1000 == 0 {
                wanted.push(Arc::clone(&known.vector));
            }
            known
        })
        .collect();
    index.fill(known, 0);
    let began = Instant::now();
    for round in 0..SEARCHES {
        let near = index.find(&question, &wanted[round as usize % wanted.len()], 0.95, 1, |_| true);
        assert!(near.is_some(), "what is known is found");
    }
    began.elapsed().as_secs_f64() * 1e6 / f64::from(SEARCHES)
}

const RECORDS: u32 = 30_000;

/// Records a second that the prompt log reads, redacts and writes, of a prompt and an answer of 1 KiB each.
pub async fn records() -> f64 {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let redactor = Redactor::new(&Class::NAMES.map(|(_, class)| class), &[]).expect("they are good");
    let rules = PromptLogRules {
        path: folder.path().join("prompts.jsonl"),
        level: Level::Redacted,
        sample: 1.0,
        redactor,
        max_message: 32 << 10,
        rotate_size: 100 << 20,
        rotate_every: Duration::from_secs(86_400),
        keep: Duration::from_secs(86_400),
        compress: false,
        otlp: None,
    };
    let metrics = Metrics::new().expect("their names differ");
    let log = PromptLog::start(Arc::new(rules), Clock::new(), metrics.prompt_log.clone()).expect("it can be written");
    let prose = "A spillway lets the water that a dam can not hold run off where it does no harm. ".repeat(12);
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{prose}"}}]}}"#);
    let body = Bytes::from(body);
    let answer = Bytes::from(format!(
        r#"{{"id":"c","choices":[{{"index":0,"message":{{"role":"assistant","content":"{prose}"}},"finish_reason":"stop"}}]}}"#
    ));
    let facts = br#"{"time":"2026-01-01T00:00:00.000Z","id":"0123456789abcdef","consumer":"bench","status":200}"#;
    let began = Instant::now();
    for number in 0..RECORDS {
        let entry = Entry {
            level: Level::Redacted,
            api: Api::Chat,
            body: Some(Part { bytes: body.clone(), cut: false }),
            answer: Some(Part { bytes: answer.clone(), cut: false }),
            streamed: false,
            share: None,
        };
        log.write(entry, |record| record.extend_from_slice(facts));
        if number % 1024 == 1023 {
            log.flush(Duration::from_secs(60)).await;
        }
    }
    log.flush(Duration::from_secs(60)).await;
    let took = began.elapsed().as_secs_f64();
    assert_eq!(metrics.prompt_log.dropped.get(), 0, "none is lost");
    f64::from(RECORDS) / took
}
