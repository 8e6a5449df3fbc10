//! Prompts and answers are written down without what must not be kept, and nobody waits for it.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::{Connection, ask, post};

use crate::support::*;

pub fn log(folder: &Path, more: &str) -> String {
    format!("[plugins.prompt_log]\nenabled = true\npath = \"{}\"\n{more}\n", folder.join("logs/prompts.jsonl").display())
}

/// The records so far, those of older parts first.
fn records(folder: &Path) -> Vec<Value> {
    use spillway::prompt_log::search::{Search, search};
    let mut text = Vec::new();
    search(&folder.join("logs/prompts.jsonl"), &Search::default(), &mut text).unwrap();
    String::from_utf8(text).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub async fn records_of(folder: &Path, count: usize) -> Vec<Value> {
    eventually(&format!("{count} records"), async || records(folder).len() >= count).await;
    let found = records(folder);
    assert_eq!(found.len(), count, "{found:#?}");
    found
}

/// One of every class that must not be kept.
const CANARIES: [(&str, &str); 5] = [
    ("email", "canary.person@contoso.example"),
    ("phone", "+49 30 901820 17"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("card", "4111 1111 1111 1111"),
    ("secret", "ghp_CANARYCANARYCANARYCANARYCANARYCAN42"),
];

#[tokio::test]
async fn a_record_tells_who_asked_what_and_what_came_of_it() {
    let backend = ScriptedBackend::start(|request| {
        if request.json()["stream"] == json!(true) {
            return Reply::sse(whole_stream("a streamed answer"));
        }
        Reply::json(200, answer("a plain answer"))
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let rest = log(folder.path(), "") + &consumer("crm", "");
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &rest)).await;
    for stream in [false, true] {
        let body = json!({ "model": "m", "stream": stream, "messages": [{ "role": "system", "content": "be kind" }, { "role": "user", "content": "hello" }] });
        let request = post("/v1/chat/completions", &[("api-key", "crm"), ("x-request-id", "the-id")], body.to_string().as_bytes());
        assert_eq!(ask(gateway.address, request).await.unwrap().status, 200);
    }
    for (record, text) in records_of(folder.path(), 2).await.iter().zip(["a plain answer", "a streamed answer"]) {
        for (name, expected) in [
            ("id", json!("the-id")),
            ("consumer", json!("crm")),
            ("model", json!("m")),
            ("api", json!("chat")),
            ("status", json!(200)),
            ("end", json!("ok")),
            ("level", json!("redacted")),
        ] {
            assert_eq!(record[name], expected, "{name} in {record:#}");
        }
        assert_eq!(record["attempts"][0]["backend"], "a");
        assert_eq!((&record["prompt"][0]["role"], &record["prompt"][1]["text"]), (&json!("system"), &json!("hello")), "{record:#}");
        assert_eq!((&record["completion"][0]["text"], &record["completion"][0]["finish"]), (&json!(text), &json!("stop")), "{record:#}");
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(folder.path().join("logs/prompts.jsonl")).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "nobody else reads it");
    assert_eq!(gateway.metric("spillway_prompt_log_records_total").await, 2.0);
}

#[tokio::test]
async fn what_must_not_be_kept_never_reaches_a_file() {
    // The answer repeats what it was asked, a character an event.
    let backend = ScriptedBackend::start(|request| {
        let body = request.json();
        let text = body["messages"][0]["content"].as_str().unwrap().to_owned();
        if body["stream"] != json!(true) {
            return Reply::json(200, answer(&text));
        }
        let mut events = vec![role()];
        events.extend(text.chars().map(|c| delta(&c.to_string())));
        events.extend([stop(), DONE.to_owned()]);
        Reply::sse(events)
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let rest = log(folder.path(), "patterns = { employee = \"EMP-[0-9]{5}\" }");
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &rest)).await;
    let mut count = 0;
    for (class, canary) in CANARIES.into_iter().chain([("employee", "EMP-12345")]) {
        for stream in [false, true] {
            let body =
                json!({ "model": "m", "stream": stream, "messages": [{ "role": "user", "content": format!("it is {canary}, you know") }] });
            assert_eq!(gateway.post("/v1/chat/completions", &body).await.status, 200);
            count += 1;
            let record = records_of(folder.path(), count).await.pop().unwrap();
            let expected = json!(format!("it is [{class}], you know"));
            assert_eq!((&record["prompt"][0]["text"], &record["completion"][0]["text"]), (&expected, &expected), "{record:#}");
        }
    }
    let text = std::fs::read_to_string(folder.path().join("logs/prompts.jsonl")).unwrap();
    for (_, canary) in CANARIES {
        assert!(!text.contains(canary) && !text.contains(&canary.replace(' ', "")), "{canary}");
    }
}

/// As they are written in the arguments of a call, and with other characters that show the same.
#[tokio::test]
async fn no_other_form_keeps_them() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("fine"))).await;
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &log(folder.path(), ""))).await;
    let arguments = r#"{"to":"a\njane@contoso.example","tel":"+49\u00a0170\u00a01234567"}"#;
    let call = json!({ "id": "c", "type": "function", "function": { "name": "f", "arguments": arguments } });
    let text = "john＠contoso.example, jim\u{200b}@contoso.example, ＋４９ １７０ １２３４５６７, 4111.1111.1111.1111";
    let messages = json!([{ "role": "user", "content": text }, { "role": "assistant", "content": null, "tool_calls": [call] }]);
    assert_eq!(gateway.post("/v1/chat/completions", &json!({ "model": "m", "messages": messages })).await.status, 200);
    let record = records_of(folder.path(), 1).await.pop().unwrap();
    assert_eq!(record["prompt"][0]["text"], "[email], [email], [phone], [card]", "{record:#}");
    assert_eq!(record["prompt"][1]["calls"][0]["arguments"], r#"{"to":"a\n[email]","tel":"[phone]"}"#, "{record:#}");
}

#[tokio::test]
async fn each_consumer_as_it_says() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let folder = tempfile::tempdir().unwrap();
    let rest = log(folder.path(), "level = \"metadata\"")
        + &consumer("default", "")
        + &consumer("full", "prompt_log = { level = \"full\" }")
        + &consumer("off", "prompt_log = { level = \"off\" }")
        + &consumer("never", "prompt_log = { sample = 0.0 }");
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &rest)).await;
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "a@b.example" }] });
    for name in ["off", "never", "default", "full"] {
        assert_eq!(ask_as(gateway.address, name, &body).await.status, 200);
    }
    let found = records_of(folder.path(), 2).await;
    assert_eq!((&found[0]["consumer"], &found[0]["level"], &found[0]["prompt"]), (&json!("default"), &json!("metadata"), &Value::Null));
    assert_eq!((&found[1]["consumer"], &found[1]["prompt"][0]["text"]), (&json!("full"), &json!("a@b.example")));
}

#[tokio::test]
async fn refusals_and_cut_answers_are_written_down_too() {
    let backend = ScriptedBackend::start(|_| Reply::sse([role(), delta("half an")]).then(Step::Reset)).await;
    let folder = tempfile::tempdir().unwrap();
    let limits = "[consumers.limits]\nrequests_per_minute = 1\n";
    let rest = log(folder.path(), "") + &consumer("crm", limits);
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &rest)).await;
    let body = json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": "hello" }] });
    let request = || post("/v1/chat/completions", &[("api-key", "crm")], body.to_string().as_bytes());
    let mut caller = Connection::open(gateway.address).await.unwrap();
    caller.send(request()).await.unwrap();
    caller.until("half an").await.unwrap();
    let cut = records_of(folder.path(), 1).await.pop().unwrap();
    assert_eq!((&cut["end"], &cut["completion"][0]["text"]), (&json!("cut"), &json!("half an")), "{cut:#}");
    assert_eq!(ask(gateway.address, request()).await.unwrap().status, 429);
    let refused = records_of(folder.path(), 2).await.pop().unwrap();
    assert_eq!((&refused["status"], &refused["code"]), (&json!(429), &json!("rate_limit_exceeded")), "{refused:#}");
    assert_eq!(refused["prompt"][0]["text"], "hello");
}

#[tokio::test]
async fn long_texts_are_cut_and_the_record_says_so() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer(&"ä".repeat(3000)))).await;
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &log(folder.path(), "max_message = \"1KiB\""))).await;
    gateway.chat().await;
    let record = records_of(folder.path(), 1).await.pop().unwrap();
    let text = record["completion"][0]["text"].as_str().unwrap();
    assert!(text.len() < 1100 && text.ends_with("[4976 bytes cut]"), "{text}");
}

#[tokio::test]
async fn files_are_rotated_compressed_and_removed() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    std::fs::write(logs.join("prompts.jsonl.20200101T000000000"), "{}\n").unwrap();
    std::fs::write(logs.join("prompts.jsonl.other"), "{}\n").unwrap();
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &log(folder.path(), "rotate_size = \"2KiB\""))).await;
    for number in 1..=30 {
        gateway.chat().await;
        eventually("it is written", async || gateway.metric("spillway_prompt_log_records_total").await >= f64::from(number)).await;
    }
    let names = || -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(&logs).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let parts = |names: &[String]| names.iter().filter(|name| name.starts_with("prompts.jsonl.2")).count();
    eventually("all parts are compressed", async || {
        let names = names();
        parts(&names) > 2 && names.iter().filter(|name| name.starts_with("prompts.jsonl.2")).all(|name| name.ends_with(".gz"))
    })
    .await;
    assert!(!names().iter().any(|name| name.contains(".2020")), "what is too old is gone");
    assert!(names().contains(&"prompts.jsonl.other".to_owned()), "what is not ours stays");
    assert_eq!(records(folder.path()).len(), 30, "nothing is lost");
}

#[tokio::test]
async fn a_full_disk_costs_records_and_nothing_else() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let folder = tempfile::tempdir().unwrap();
    let text = config(&[member("a", &backend, 1)], "", &log(folder.path(), "").replace("logs/prompts.jsonl", "full"));
    std::os::unix::fs::symlink("/dev/full", folder.path().join("full")).unwrap();
    let gateway = Gateway::start(&text).await;
    for _ in 0..20 {
        assert_eq!(gateway.chat().await.status, 200);
    }
    eventually("all are counted", async || gateway.metric("spillway_prompt_log_dropped_total").await == 20.0).await;
    assert_eq!(gateway.metric("spillway_prompt_log_records_total").await, 0.0);
}

#[tokio::test]
async fn records_are_found_by_id_consumer_and_time() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let folder = tempfile::tempdir().unwrap();
    let text = config(&[member("a", &backend, 1)], "", &(log(folder.path(), "") + &consumer("crm", "") + &consumer("hr", "")));
    let gateway = Gateway::start(&text).await;
    for (name, id) in [("crm", "one"), ("crm", "two"), ("hr", "three")] {
        let request = post("/v1/chat/completions", &[("api-key", name), ("x-request-id", id)], chat(false).to_string().as_bytes());
        assert_eq!(ask(gateway.address, request).await.unwrap().status, 200);
    }
    records_of(folder.path(), 3).await;
    let file = folder.path().join("spillway.toml");
    std::fs::write(&file, &text).unwrap();
    let grep = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_spillway"));
        let output = command.args(["logs", "grep", "-c"]).arg(&file).args(arguments).output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        let ids: Vec<String> =
            lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned()).collect();
        (output.status.code().unwrap(), ids.join(" "))
    };
    for (arguments, code, ids) in [
        (&["--consumer", "crm"][..], 0, "one two"),
        (&["--id", "three"], 0, "three"),
        (&["--since", "1h"], 0, "one two three"),
        (&["--until", "1h"], 1, ""),
        (&["--consumer", "hr", "\"role\":\"user\""], 0, "three"),
        (&["nowhere"], 1, ""),
        (&["--since", "soon"], 2, ""),
    ] {
        assert_eq!(grep(arguments), (code, ids.to_owned()), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_collector_gets_the_records_too() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("write to a@b.example"))).await;
    let collector = ScriptedBackend::start(|_| Reply::json(200, "{}")).await;
    let folder = tempfile::tempdir().unwrap();
    let otlp = format!("otlp = {{ url = \"{}/\", headers = {{ x-key = \"CANARY-otlp\" }} }}", collector.url());
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &log(folder.path(), &otlp))).await;
    gateway.chat().await;
    gateway.running.gateway.flush(Duration::from_secs(10)).await;
    let got = &collector.received()[0];
    assert_eq!((got.path(), got.header("x-key")), ("/v1/logs", Some("CANARY-otlp")));
    let body = got.json();
    let event = &body["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
    assert_eq!(event["eventName"], "gen_ai.client.inference.operation.details", "{body:#}");
    assert!(body.to_string().contains("write to [email]") && !body.to_string().contains("a@b.example"));
    assert_eq!(gateway.metric("spillway_prompt_log_export_dropped_total").await, 0.0);
    // One that is gone costs events, and nobody waits.
    drop(collector);
    assert_eq!(gateway.chat().await.status, 200);
    eventually("it is counted", async || gateway.metric("spillway_prompt_log_export_dropped_total").await == 1.0).await;
    assert_eq!(records_of(folder.path(), 2).await.len(), 2);
}
