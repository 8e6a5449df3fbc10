//! Which thread makes a record changes nothing about it, and a slow disk loses nothing that has room.

use std::path::Path;

use bytes::Bytes;
use spillway_plugins::api::Api;
use spillway_plugins::prompt_log::Level;
use spillway_plugins::prompt_log::redact::{Class, Redactor};

use super::*;
use crate::telemetry::metrics::Metrics;

const LONG: Duration = Duration::from_secs(60);

/// A log in this folder, with these patterns of the operator's.
fn rules(folder: &Path, own: &[(String, String)]) -> Arc<PromptLogRules> {
    Arc::new(PromptLogRules {
        path: folder.join("prompts.jsonl"),
        level: Level::Redacted,
        sample: 1.0,
        redactor: Redactor::new(&Class::NAMES.map(|(_, class)| class), own).unwrap(),
        max_message: 1 << 20,
        rotate_size: 1 << 30,
        rotate_every: Duration::from_secs(86_400),
        keep: Duration::from_secs(86_400),
        compress: false,
        otlp: None,
    })
}

fn entry(prompt: &str) -> Entry {
    let body = format!(r#"{{"messages":[{{"role":"user","content":"{prompt}"}}]}}"#);
    let answer = r#"{"choices":[{"message":{"role":"assistant","content":"ask\nanna@example.com"},"finish_reason":"stop"}]}"#;
    Entry {
        level: Level::Redacted,
        api: Api::Chat,
        body: Some(Part { bytes: body.into(), cut: false }),
        answer: Some(Part { bytes: Bytes::from_static(answer.as_bytes()), cut: false }),
        streamed: false,
        share: None,
    }
}

/// The records of these prompts, and whether each was made at once.
async fn written(prompts: &[&str], own: &[(String, String)]) -> (Vec<String>, Vec<bool>) {
    let folder = tempfile::tempdir().unwrap();
    let rules = rules(folder.path(), own);
    let log = PromptLog::start(Arc::clone(&rules), Clock::new(), Metrics::new().unwrap().prompt_log).unwrap();
    let mut at_once = Vec::new();
    for prompt in prompts {
        let entry = entry(prompt);
        at_once.push(is_short(&entry, &rules));
        log.write(entry, |facts| facts.extend_from_slice(b"{\"status\":200}"));
        log.flush(LONG).await;
    }
    let text = std::fs::read_to_string(&rules.path).unwrap();
    (text.lines().map(str::to_owned).collect(), at_once)
}

#[tokio::test]
async fn a_record_is_the_same_whoever_makes_it() {
    let long = "x".repeat(9 << 10);
    let prompts = ["call +49 30 123456, caf\\u00e9", &long];
    let (here, at_once) = written(&prompts, &[]).await;
    assert_eq!(at_once, [true, false]);
    assert!(
        here[0].starts_with("{\"status\":200,\"level\":\"redacted\",\"prompt\":") && here[0].contains("call [phone], café"),
        "{}",
        here[0]
    );
    assert!(here[0].contains("ask\\n[email]") && here[1].contains(&long));
    let (there, at_once) = written(&prompts, &[("none".to_owned(), "nobody says this".to_owned())]).await;
    assert_eq!((at_once, there), (vec![false, false], here));
}

#[tokio::test]
async fn lines_that_the_writer_cannot_take_are_refused_and_the_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let rules = rules(folder.path(), &[]);
    let metrics = Metrics::new().unwrap().prompt_log;
    let files = Arc::new(Mutex::new(Files::open(Arc::clone(&rules), Clock::new()).unwrap()));
    let lines = Lines::start(Arc::clone(&files), metrics.clone()).unwrap();
    let line = "x".repeat(1023) + "\n";
    let taken = {
        // The disk is slow.
        let _busy = files.lock();
        (0..10_000).take_while(|_| lines.push(line.as_bytes())).count()
    };
    assert_eq!(taken, 4096, "of a kilobyte each");
    lines.flush().await;
    assert_eq!((metrics.records.get(), metrics.dropped.get()), (4096, 0));
    assert_eq!(std::fs::metadata(&rules.path).unwrap().len(), 4096 * 1024);
    assert!(lines.push(line.as_bytes()), "there is room again");
}
