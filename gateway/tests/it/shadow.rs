//! The decision shadow: `spillway shadow` on logs, and mirrored traffic.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use spillway::clock::Clock;
use spillway::simulate::bucket::{Arrival, Deployment as _, Mocked};
use spillway_testkit::backend::{Received, Reply, ScriptedBackend};
use spillway_testkit::client;

use crate::support::*;

/// Tokens of each answer and prompt.
const OUTPUT: u64 = 100;
const INPUT: u64 = 20;

/// Spillway's own keys are in the config as SHA-256: these are of `crm-key` and `bot-key`.
const CRM: &str = "crm-key";
const BOT: &str = "bot-key";

fn shadow(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spillway"));
    let output = command.arg("shadow").args(arguments).stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

fn shadow_json(arguments: &[&str]) -> Value {
    let (code, said) = shadow(&[arguments, &["--json"]].concat());
    assert_eq!(code, Some(0), "{said}");
    serde_json::from_str(&said).unwrap()
}

fn answered() -> Reply {
    let body = json!({
        "id": "c", "object": "chat.completion", "model": "m",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": "x" }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": INPUT, "completion_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT },
    });
    Reply::json(200, body.to_string())
}

/// A PTU that takes so many of these requests a second, and refuses as Azure's documentation says.
fn provisioned(per_second: f64) -> impl Fn(&Received) -> Reply + Send + Sync + 'static {
    let rate = per_second * (INPUT + OUTPUT) as f64;
    let (clock, bucket) = (Clock::new(), Mutex::new(Mocked::ptu(rate, 1.0, Duration::from_millis(500), 0.0, 1)));
    move |_| match bucket.lock().admit(&Arrival { prompt: INPUT, cached: 0, cap: Some(OUTPUT), choices: 1 }, clock.now()) {
        Ok(_) => answered(),
        Err(wait) => Reply::json(429, r#"{"error":{"code":"429","message":"The deployment has no capacity left"}}"#)
            .header("retry-after-ms", wait.as_millis().to_string()),
    }
}

/// Every `each`th request fails.
fn failing(each: u64) -> impl Fn(&Received) -> Reply + Send + Sync + 'static {
    let count = AtomicU64::new(0);
    move |_| match count.fetch_add(1, Ordering::Relaxed) % each {
        0 => Reply::json(503, r#"{"error":{"message":"busy"}}"#),
        _ => answered(),
    }
}

fn consumer(name: &str, key: &str, rest: &str) -> String {
    let digest = spillway_plugins::auth::digest(key.as_bytes());
    format!("[[consumers]]\nname = \"{name}\"\nkeys = [{{ sha256 = \"{digest}\" }}]\n{rest}\n")
}

/// Runs so many requests, `pause` apart, through a real gateway, and returns the shadow of its ledger, and how many callers got
/// which status; 0 for a caller that could not connect.
async fn of_own_ledger(requests: usize, pause: Duration, per_second: f64) -> (Value, BTreeMap<u16, usize>) {
    let ptu = ScriptedBackend::start(provisioned(per_second)).await;
    let (paid, flaky) = (ScriptedBackend::start(|_| answered()).await, ScriptedBackend::start(failing(50)).await);
    let folder = tempfile::tempdir().unwrap();
    let price = "prices = { m = { input = 1.0, output = 10.0 } }";
    let members = [
        Member { extra: "prices = { m = { usd_per_hour = 2.0 } }", ..member("ptu", &ptu, 1) },
        Member { extra: price, ..member("paid", &paid, 2) },
        Member { extra: price, ..member("flaky", &flaky, 2) },
    ];
    // One is limited by requests and one by tokens, below what they send.
    // In a minute, each of them sends half of this.
    let minute = ((60.0 / pause.as_secs_f64()) as u64).min(requests as u64);
    let limit = minute / 3;
    let rest = consumer("crm", CRM, &format!("limits = {{ requests_per_minute = {limit} }}"))
        + &consumer("bot", BOT, &format!("limits = {{ tokens_per_minute = {} }}", limit * (INPUT + OUTPUT)))
        + "[ledger]\nrefusals = true\n";
    let text = config(&members, "", &rest).replace("#server", &state_dir(folder.path()));
    let gateway = Gateway::start(&text).await;
    let body = json!({ "model": "m", "max_tokens": OUTPUT, "messages": [{ "role": "user", "content": "hi" }] }).to_string();
    let mut sent = Vec::new();
    let mut next = tokio::time::Instant::now();
    for number in 0..requests {
        let key = format!("Bearer {}", if number % 2 == 0 { CRM } else { BOT });
        let request = client::post("/v1/chat/completions", &[("authorization", &key)], body.as_bytes());
        let address = gateway.address;
        sent.push(tokio::spawn(async move { client::ask(address, request).await.map_or(0, |answer| answer.status) }));
        next += pause;
        tokio::time::sleep_until(next).await;
    }
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    for one in sent {
        *statuses.entry(one.await.unwrap()).or_default() += 1;
    }
    let file = folder.path().join("c.toml");
    std::fs::write(&file, &text).unwrap();
    gateway.running.stop(std::future::pending()).await;
    (shadow_json(&["-c", file.to_str().unwrap(), "--seed", "7"]), statuses)
}

/// The share of the ledger's requests for which the decision is equal.
fn equal(said: &Value) -> f64 {
    let comparison = &said["comparison"];
    comparison["equal"].as_f64().unwrap() / comparison["requests"].as_f64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shadow_of_our_own_ledger_decides_as_the_gateway_did() {
    const REQUESTS: usize = 1500;
    let (said, statuses) = of_own_ledger(REQUESTS, Duration::from_millis(10), 20.0).await;
    let (served, limited) = (statuses[&200], statuses[&429]);
    assert_eq!(said["comparison"]["requests"], json!(statuses.values().sum::<usize>()), "each request is in the ledger once: {statuses:?}");
    let (comparison, total) = (&said["comparison"], &said["outcome"]["total"]);
    assert_eq!((&comparison["log"]["served"], &comparison["log"]["limited"]), (&json!(served), &json!(limited)));
    let of_limits: Vec<(&str, &str)> = comparison["limits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|limit| (limit["owner"].as_str().unwrap(), limit["limit"].as_str().unwrap()))
        .collect();
    assert_eq!(of_limits, [("consumer 'bot'", "tokens_per_minute"), ("consumer 'crm'", "requests_per_minute")]);
    // Each part of the decision occurs.
    let of_m = |of: &&Value| of["name"].as_str().unwrap().ends_with("/m");
    let deployments: Vec<&Value> = comparison["deployments"].as_array().unwrap().iter().filter(of_m).collect();
    assert_eq!(deployments.len(), 3);
    assert!(deployments.iter().all(|of| of["log_requests"].as_u64() > Some(20)), "{deployments:?}");
    assert!(limited > REQUESTS / 10 && deployments[0]["log_429s"].as_u64() > Some(5), "{limited} {deployments:?}");
    assert_eq!(total["refused"], 0);
    // What differs is what happened within the same microseconds; a machine under load has more of that.
    let share = equal(&said);
    assert!(share >= 0.99, "{share}: {:#}", comparison["differences"]);
}

/// `cargo test --release -p spillway --test it -- --ignored --nocapture shadow_of_100_000`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes seven minutes; meant for a release build"]
#[expect(clippy::print_stdout, reason = "its figures are for people")]
async fn the_shadow_of_100_000_requests_is_equal_in_999_of_1000() {
    let requests = std::env::var("SPILLWAY_SHADOW_REQUESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let (said, statuses) = of_own_ledger(requests, Duration::from_millis(4), 60.0).await;
    let share = equal(&said);
    println!("{requests} requests, by status {statuses:?}: {:.4} % of the decisions are equal", share * 100.0);
    println!("{:#}", said["comparison"]);
    assert!(share >= 0.999, "{share}");
}

const TWO: &str = r#"
[server]
listen = ["127.0.0.1:0"]
admin = "127.0.0.1:0"
#shadow
[[backends]]
name = "ptu-sweden"
kind = "azure-openai"
url = "https://sweden.openai.azure.com"
deployments = { "gpt-4o" = "gpt4o-ptu" }
auth = { type = "api-key", key = { env = "NOT_SET_HERE" } }
ptu = { "gpt4o-ptu" = { units = 100, model = "gpt-4o" } }
prices = { "gpt4o-ptu" = { usd_per_hour = 3.0 } }
[[backends]]
name = "paid-france"
kind = "azure-openai"
url = "https://france.openai.azure.com"
deployments = { "gpt-4o" = "gpt4o" }
auth = { type = "api-key", key = { env = "NOT_SET_HERE" } }
prices = { gpt4o = { input = 1.0, output = 10.0 } }
[[pools]]
name = "chat"
models = ["gpt-4o"]
members = [{ backend = "ptu-sweden", priority = 1 }, { backend = "paid-france", priority = 2 }]
[[consumers]]
name = "crm"
keys = []
limits = { requests_per_minute = 3 }
"#;

fn written(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A row of LiteLLM's log. `second` may be any number.
fn litellm(second: f64, status: &str, user: &str, cost: f64) -> Value {
    let time = |seconds: f64| {
        let nanos = 1_793_520_000_000_000_000_i64 + (seconds * 1e9) as i64;
        chrono::DateTime::from_timestamp_nanos(nanos).to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
    };
    let error = if status == "failure" { json!({ "error_code": "429" }) } else { json!({}) };
    json!({
        "request_id": format!("r{second}"), "call_type": "acompletion", "spend": cost, "prompt_tokens": if cost > 0.0 { 1000 } else { 0 },
        "completion_tokens": if cost > 0.0 { 100 } else { 0 }, "startTime": time(second), "endTime": time(second + 2.0), "model": "azure/gpt4o-ptu",
        "model_group": "gpt-4o", "api_base": "https://sweden.openai.azure.com/", "user": user, "cache_hit": "False", "status": status,
        "metadata": json!({ "error_information": error }).to_string(),
    })
}

#[test]
fn a_log_of_litellm_says_which_429s_would_have_been_spared() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path(), "c.toml", TWO);
    let mut lines: Vec<String> = (0..6).map(|at| litellm(f64::from(at) * 20.0, "success", "bot", 0.002).to_string()).collect();
    // The PTU refuses twice within a second; LiteLLM had nothing else.
    lines.extend([50.0, 50.5].map(|at| litellm(at, "failure", "bot", 0.0).to_string()));
    // Four at once of a consumer with three a minute.
    lines.extend((0..4).map(|at| litellm(70.0 + f64::from(at), "success", "crm", 0.002).to_string()));
    lines.insert(2, "rubbish".to_owned());
    lines.insert(3, "{\"startTime\": \"never\", \"model\": \"gpt-4o\"}".to_owned());
    lines.push(litellm(80.0, "success", "bot", 0.002).to_string().replace("gpt-4o", "gpt-9").replace("gpt4o-ptu", "gpt-9"));
    let log = written(folder.path(), "spend.jsonl", &lines.join("\n"));
    let said = shadow_json(&["-c", &file, "--log", &log]);
    assert_eq!((&said["traffic"]["requests"], &said["traffic"]["unused"]["broken"]), (&json!(13), &json!(2)));
    let (comparison, total) = (&said["comparison"], &said["outcome"]["total"]);
    assert_eq!((&comparison["log"]["status_429"], &comparison["log"]["served"]), (&json!(2), &json!(10)));
    assert_eq!((&comparison["spared_429s"], &total["spilled_requests"]), (&json!(2), &json!(2)), "{comparison:#}");
    assert_eq!(said["outcome"]["unknown_models"], json!([["gpt-9", 1]]));
    let limit = &comparison["limits"][0];
    assert_eq!((&limit["owner"], &limit["limit"]), (&json!("consumer 'crm'"), &json!("requests_per_minute")));
    assert_eq!((&limit["refused"], &limit["answered"]), (&json!(1), &json!(1)));
    assert_eq!(comparison["unknown_consumers"], json!([["bot", 8]]));
    let ptu = &comparison["deployments"][0];
    assert_eq!((&ptu["name"], &ptu["log_requests"], &ptu["log_429s"]), (&json!("ptu-sweden/gpt4o-ptu"), &json!(10), &json!(2)));
    // The two that were spared cost what the others of their model cost on average.
    assert!((total["by_use_usd"].as_f64().unwrap() - 2.0 * 0.002).abs() < 1e-9, "{total:#}");
    assert!((comparison["log"]["cost_usd"].as_f64().unwrap() - 10.0 * 0.002).abs() < 1e-9);
    assert_eq!(said["traffic"]["unused"]["assumed"], json!(2));

    let page = folder.path().join("page.html");
    let (code, text) = shadow(&["-c", &file, "--log", &log, "--picture", page.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{text}");
    for expected in ["rows can't be read", "429s that callers would have been spared", "consumer 'crm'", "bot (8)", "ptu-sweden/gpt4o-ptu"]
    {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    assert!(std::fs::read_to_string(page).unwrap().contains("<svg"));
}

/// An afternoon at one PTU, in LiteLLM's log: it refuses now and then, and one consumer sends more than the config lets it.
fn afternoon() -> String {
    let mut rng = fastrand::Rng::with_seed(5);
    let mut lines = Vec::new();
    for second in 0..3600 {
        for call in 0..rng.u32(0..4) {
            let at = f64::from(second) + f64::from(call) * 0.2;
            // A PTU that is full for the first seconds of every other minute.
            let is_full = second % 120 < 12;
            let user = if rng.u32(0..4) == 0 { "crm" } else { "chatbot" };
            let (status, cost) = if is_full && rng.u32(0..3) > 0 { ("failure", 0.0) } else { ("success", 0.0025) };
            lines.push(litellm(at, status, user, cost).to_string());
        }
    }
    lines.join("\n")
}

#[test]
fn the_documented_report_is_what_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let config = TWO.replace("requests_per_minute = 3", "requests_per_minute = 30");
    let file = written(folder.path(), "spillway.toml", &config);
    let log = written(folder.path(), "spend.jsonl", &afternoon());
    let (code, said) = shadow(&["-c", &file, "--log", &log]);
    assert_eq!(code, Some(0), "{said}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/shadow.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once("<!-- shadow: begin -->\n```text\n").unwrap();
    let (shown, after) = rest.split_once("```\n<!-- shadow: end -->").unwrap();
    if std::env::var_os("SPILLWAY_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}<!-- shadow: begin -->\n```text\n{said}```\n<!-- shadow: end -->{after}")).unwrap();
    } else {
        assert_eq!(shown, said, "write it with SPILLWAY_WRITE_DOCS=1");
    }
}

#[test]
fn logs_of_api_management_are_joined_and_read_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path(), "c.toml", TWO);
    let gateway = |id: u32, second: u32, status: u16, by: Value| {
        json!({
            "TimeGenerated": format!("2026-11-01T08:00:{second:02}.5Z"), "CorrelationId": format!("c{id}"), "ResponseCode": status, "BackendResponseCode": by,
            "BackendId": "pool", "BackendUrl": "https://sweden.openai.azure.com/openai/deployments/gpt4o-ptu/chat/completions?api-version=2024-10-21",
            "Url": "https://apim.example/openai/deployments/gpt-4o/chat/completions", "TotalTime": 900, "ApimSubscriptionId": "crm", "Cache": "none",
        })
        .to_string()
    };
    let tokens = |id: u32| {
        json!({ "CorrelationId": format!("c{id}"), "DeploymentName": "gpt4o-ptu", "ModelName": "gpt-4o", "PromptTokens": 1000, "CompletionTokens": 100 })
            .to_string()
    };
    // Out of order, and one without its tokens.
    let lines = [
        tokens(1),
        gateway(3, 20, 429, json!(429)),
        gateway(1, 1, 200, json!(200)),
        gateway(2, 10, 200, json!(200)),
        tokens(2),
        gateway(4, 30, 429, Value::Null),
        gateway(5, 40, 200, json!(200)),
        tokens(99),
        "{".to_owned(),
    ];
    let log = written(folder.path(), "apim.jsonl", &lines.join("\n"));
    let said = shadow_json(&["-c", &file, "--log", &log]);
    let (comparison, unused) = (&said["comparison"], &said["traffic"]["unused"]);
    assert_eq!((&unused["broken"], &unused["unmatched"], &unused["assumed"]), (&json!(1), &json!(1), &json!(3)));
    assert_eq!(
        (&comparison["log"]["served"], &comparison["log"]["status_429"], &comparison["log"]["limited"]),
        (&json!(3), &json!(1), &json!(1))
    );
    // The fourth within a minute is more than `crm` may send here.
    assert_eq!((&comparison["spared_429s"], &comparison["limits"][0]["refused"]), (&json!(1), &json!(2)), "{comparison:#}");
    assert_eq!(comparison["deployments"][0]["log_tokens"], json!(3 * 1100), "the one without tokens is like the others");
}

#[test]
fn what_is_wrong_with_a_shadow_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path(), "c.toml", TWO);
    let csv = written(
        folder.path(),
        "day.csv",
        "time,model,input,output,status,backend,deployment\n1793520000,gpt-4o,1000,100,200,paid-france,gpt4o\n1793520001,gpt-4o,10,1,no,,\n",
    );
    let said = shadow_json(&["-c", &file, "--log", &csv]);
    assert_eq!((&said["comparison"]["log"]["served"], &said["traffic"]["unused"]["broken"]), (&json!(1), &json!(1)));
    let wrong = written(folder.path(), "wrong.toml", &TWO.replace("priority = 2", "priorty = 2"));
    let rubbish = written(folder.path(), "rubbish.txt", "hello\nyou\n");
    let empty = written(folder.path(), "empty.jsonl", "");
    let broken = written(folder.path(), "broken.csv", "time,model,input,output\nnever,gpt-4o,1,1\n");
    for (arguments, code, word) in [
        (vec!["-c", &wrong, "--log", &csv], 2, "priorty"),
        (vec!["-c", &file, "--log", "/nonexistent.jsonl"], 1, "/nonexistent.jsonl"),
        (vec!["-c", &file], 1, "give --log"),
        (vec!["-c", &file, "--log", &rubbish], 1, "--format"),
        (vec!["-c", &file, "--log", &rubbish, "--format", "csv"], 1, "no column 'time'"),
        (
            vec!["-c", &file, "--log", &rubbish, "--format", "litellm"],
            1,
            "rubbish.txt has no request that can be used: lines that can't be read: 1, the first is line 2",
        ),
        (vec!["-c", &file, "--log", &broken], 1, "the first is line 2"),
        (vec!["-c", &file, "--log", &empty, "--format", "litellm"], 1, "empty.jsonl is empty"),
        (vec!["-c", &file, "--log", &empty], 1, "empty.jsonl is empty"),
        (vec!["-c", &file, "--log", &csv, "--since", "1h"], 1, "day.csv is a log file"),
        (vec!["-c", &file, "--log", &csv, "--until", "2026-11-02"], 1, "leave them out"),
        (vec!["-c", &file, "--log", folder.path().to_str().unwrap()], 1, "no requests"),
    ] {
        let (ended, said) = shadow(&arguments);
        assert!(ended == Some(code) && said.contains(word), "{arguments:?}: {ended:?}\n{said}");
    }
}

#[test]
fn a_log_that_does_not_say_what_came_of_its_requests_is_not_measured_against() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path(), "c.toml", TWO);
    let csv = written(folder.path(), "day.csv", "time,model,input,output\n1793520000,gpt-4o,1000,100\n");
    let (ended, said) = shadow(&["-c", &file, "--log", &csv]);
    let line =
        |label: &str| said.lines().find(|line| line.starts_with(label)).unwrap_or_default().split_whitespace().last().unwrap_or_default();
    assert_eq!((ended, line("429s that callers"), line("requests that would have waited")), (Some(0), "-", "0"), "{said}");
    assert!(said.contains("column 'status'"), "{said}");
}

#[tokio::test]
async fn mirrored_requests_take_no_time_from_the_threads_that_serve_callers() {
    use std::io::{Read as _, Write as _};
    let gateway = Gateway::start(&mirrored_config("")).await;
    // This blocks the only thread of the runtime that the gateway serves callers on.
    let mut mirror = std::net::TcpStream::connect(gateway.running.mirrors[0]).unwrap();
    mirror.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    mirror.write_all(&client::post("/outcome", &[], br#"{"model":"gpt-4o"}"#)).unwrap();
    let mut answer = [0; 12];
    mirror.read_exact(&mut answer).expect("it is answered although that thread is blocked");
    assert_eq!(&answer, b"HTTP/1.1 204");
}

async fn mirrored(gateway: &Gateway, result: &str) -> f64 {
    gateway.metric(&format!("spillway_shadow_requests_total{{result=\"{result}\"}}")).await
}

#[tokio::test]
async fn all_mirrored_bodies_have_one_bound_of_memory() {
    let gateway = Gateway::start(&mirrored_config("max_body = \"8MiB\"")).await;
    let length = 8 << 20;
    let head = format!("POST /outcome HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
    let body = vec![b' '; length - 1];
    let mut connections = Vec::new();
    for _ in 0..5 {
        let mut connection = client::Connection::open(gateway.running.mirrors[0]).await.unwrap();
        connection.send(&head).await.unwrap();
        // The refused one may be closed while it sends.
        let _ = connection.send(&body).await;
        connections.push(connection);
    }
    eventually("there is no memory for one of them", async || mirrored(&gateway, "dropped").await == 1.0).await;
    // The others have theirs.
    let mut answered = 0;
    for mut connection in connections {
        let _ = connection.send("x").await;
        answered += usize::from(
            connection.answer_head().await.is_ok_and(|(status, head)| status == 204 && head.header("connection") != Some("close")),
        );
    }
    assert_eq!(answered, 4);
    assert_eq!(client::ask(gateway.running.mirrors[0], client::post("/outcome", &[], b"{}")).await.unwrap().status, 204);
    assert_eq!((mirrored(&gateway, "unreadable").await, mirrored(&gateway, "dropped").await), (5.0, 1.0));
}

#[tokio::test]
async fn mirrors_have_one_bound_of_connections() {
    let config = mirrored_config("").replace("[\"127.0.0.1:0\"]\n\n", "[\"127.0.0.1:0\", \"127.0.0.1:0\"]\n\n");
    let gateway = Gateway::start(&config).await;
    let mirrors = &gateway.running.mirrors;
    assert_eq!(mirrors.len(), 2, "{config}");
    let mut connections = Vec::new();
    for number in 0..128 {
        let mut connection = client::Connection::open(mirrors[number % 2]).await.unwrap();
        connection.send(client::post("/outcome", &[], br#"{"model":"gpt-4o"}"#)).await.unwrap();
        assert_eq!(connection.answer_head().await.unwrap().0, 204);
        connections.push(connection);
    }
    let mut further = client::Connection::open(mirrors[0]).await.unwrap();
    let _ = further.send(client::post("/outcome", &[], b"{}")).await;
    assert!(further.answer_head().await.is_err());
    assert_eq!(mirrored(&gateway, "dropped").await, 1.0);
}

#[tokio::test]
async fn a_mirror_may_expect_100_and_what_breaks_off_is_unreadable() {
    let gateway = Gateway::start(&mirrored_config("max_body = \"4KiB\"")).await;
    let mirror = gateway.running.mirrors[0];
    let body = r#"{"model":"gpt-4o"}"#;
    let mut connection = client::Connection::open(mirror).await.unwrap();
    let head = |length: usize| format!("POST /outcome HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n");
    connection.send(head(body.len())).await.unwrap();
    assert_eq!(connection.answer_head().await.unwrap().0, 100);
    connection.send(body).await.unwrap();
    assert_eq!(connection.answer_head().await.unwrap().0, 204);
    // What is too long by its head is not waited for.
    let mut connection = client::Connection::open(mirror).await.unwrap();
    connection.send(head(5000)).await.unwrap();
    assert_eq!(connection.answer_head().await.unwrap().0, 204);
    let mut connection = client::Connection::open(mirror).await.unwrap();
    connection.send("POST /outcome HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n").await.unwrap();
    eventually("the broken one is counted", async || mirrored(&gateway, "unreadable").await == 1.0).await;
    assert_eq!(mirrored(&gateway, "too_large").await, 1.0);
    let _ = figures(&gateway).await;
    assert_eq!(mirrored(&gateway, "taken").await, 1.0);
}

#[tokio::test]
async fn a_report_can_not_stay_under_way_for_longer_than_its_pool_allows() {
    let config = mirrored_config("")
        .replace("models = [\"gpt-4o\"]", "models = [\"gpt-4o\"]\ntimeouts = { total = \"1s\" }\nretry = { wait = \"0s\" }");
    let gateway = Gateway::start(&config).await;
    let report = json!({ "model": "gpt-4o", "status": 200, "backend": "paid-france", "deployment": "gpt4o", "duration_ms": 86_399_000 });
    let sent = client::post("/outcome", &[], report.to_string().as_bytes());
    assert_eq!(client::ask(gateway.running.mirrors[0], sent).await.unwrap().status, 204);
    eventually("it has ended", async || {
        let said = figures(&gateway).await;
        (&said["requests"], &said["under_way"]) == (&json!(1), &json!(0))
    })
    .await;
}

#[tokio::test]
async fn invented_names_do_not_displace_those_of_the_config() {
    let gateway = Gateway::start(&mirrored_config("")).await;
    let mut connection = client::Connection::open(gateway.running.mirrors[0]).await.unwrap();
    let report = |consumer: &str, backend: &str| {
        json!({ "model": "gpt-4o", "consumer": consumer, "status": 200, "backend": backend, "deployment": "gpt4o" }).to_string()
    };
    let invented = (0..1100).map(|number| report(&format!("c{number}"), &format!("b{number}")));
    for body in invented.chain((0..5).map(|_| report("crm", "https://france.openai.azure.com/"))) {
        connection.send(client::post("/outcome", &[], body.as_bytes())).await.unwrap();
        assert_eq!(connection.answer_head().await.unwrap().0, 204);
    }
    let said = figures(&gateway).await;
    let comparison = &said["comparison"];
    assert_eq!((&comparison["limits"][0]["owner"], &comparison["limits"][0]["refused"]), (&json!("consumer 'crm'"), &json!(2)), "{said:#}");
    let requests: u64 = comparison["deployments"].as_array().unwrap().iter().map(|of| of["log_requests"].as_u64().unwrap()).sum();
    assert_eq!(requests, 5, "{said:#}");
}

/// The text of a config whose gateway takes mirrored requests.
fn mirrored_config(more: &str) -> String {
    TWO.replace("#shadow", &format!("allow_literal_secrets = true\n[shadow]\nlisten = [\"127.0.0.1:0\"]\n{more}"))
        .replace("{ env = \"NOT_SET_HERE\" }", "\"x\"")
        .replace("keys = []", &format!("keys = [{{ sha256 = \"{}\" }}]", spillway_plugins::auth::digest(CRM.as_bytes())))
}

async fn figures(gateway: &Gateway) -> Value {
    gateway.admin("/api/shadow").await.json()
}

#[tokio::test]
async fn mirrored_requests_get_204_and_are_decided_without_calling_anybody() {
    let gateway = Gateway::start(&mirrored_config("max_body = \"4KiB\"")).await;
    let mirror = gateway.running.mirrors[0];
    let body = json!({ "model": "gpt-4o", "max_tokens": 100, "messages": [{ "role": "user", "content": "hi" }] }).to_string();
    let path = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
    // Five of a consumer with three a minute, on one connection.
    let mut connection = client::Connection::open(mirror).await.unwrap();
    for _ in 0..5 {
        connection.send(client::post(path, &[("api-key", CRM)], body.as_bytes())).await.unwrap();
        let (status, head) = connection.answer_head().await.unwrap();
        assert_eq!((status, head.header("content-length")), (204, None));
    }
    // Somebody else's credential is no reason to refuse, and is not kept.
    for (headers, body) in [
        (vec![("authorization", "Bearer of-another-gateway")], body.as_str()),
        (vec![("x-shadow-status", "429"), ("x-shadow-backend", "https://sweden.openai.azure.com/")], &body),
        (vec![], "rubbish"),
        (vec![], &"x".repeat(5000)),
    ] {
        assert_eq!(client::ask(mirror, client::post(path, &headers, body.as_bytes())).await.unwrap().status, 204);
    }
    assert_eq!(client::ask(mirror, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap().status, 204);
    let report = json!({ "model": "gpt-4o", "consumer": "crm", "status": 200, "input": 10, "output": 5, "backend": "paid-france", "deployment": "gpt4o", "duration_ms": 30, "cost_usd": 0.5 });
    assert_eq!(client::ask(mirror, client::post("/outcome", &[], report.to_string().as_bytes())).await.unwrap().status, 204);

    let said = figures(&gateway).await;
    let (comparison, total) = (&said["comparison"], &said["outcome"]["total"]);
    assert_eq!((&said["requests"], &comparison["requests"]), (&json!(8), &json!(8)));
    assert_eq!((&comparison["limits"][0]["owner"], &comparison["limits"][0]["refused"]), (&json!("consumer 'crm'"), &json!(3)), "{said:#}");
    assert_eq!((&comparison["spared_429s"], &total["spilled_requests"]), (&json!(1), &json!(1)));
    assert_eq!((&comparison["log"]["served"], &comparison["newly_limited"]), (&json!(1), &json!(1)));
    for (result, count) in [("taken", 8.0), ("unreadable", 2.0), ("too_large", 1.0), ("dropped", 0.0)] {
        assert_eq!(gateway.metric(&format!("spillway_shadow_requests_total{{result=\"{result}\"}}")).await, count, "{result}");
    }
    assert!(!said.to_string().contains("another-gateway"));
    // The gateway itself has served nothing, and none of its own limits are used.
    let limits = gateway.admin("/api/limits").await.json();
    assert_eq!(limits["scopes"][0]["limits"]["requests_per_minute"]["used"], 0);
    assert_eq!(gateway.admin("/api/requests").await.json()["requests"], json!([]));
}

#[tokio::test]
async fn without_a_shadow_there_is_none() {
    let gateway =
        Gateway::start(&TWO.replace("{ env = \"NOT_SET_HERE\" }", "\"x\"").replace("#shadow", "allow_literal_secrets = true")).await;
    assert!(gateway.running.mirrors.is_empty());
    assert_eq!(gateway.admin("/api/shadow").await.status, 404);
}

/// A fenced block of the migration page after this heading.
fn documented(heading: &str, language: &str) -> String {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/migration.md")).unwrap();
    let (_, after) = page.split_once(heading).unwrap_or_else(|| panic!("'{heading}' is not in docs/migration.md"));
    let (_, block) = after.split_once(&format!("```{language}\n")).unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

/// The policy's report, with sample values in the place of its expressions.
fn rendered(policy: &str, values: &[(&str, Value)]) -> Value {
    let mut report = serde_json::Map::new();
    for part in policy.split("new JProperty(\"").skip(1) {
        let name = part.split_once('"').unwrap().0;
        let (_, value) = values.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no value for {name}"));
        report.insert(name.to_owned(), value.clone());
    }
    Value::Object(report)
}

#[tokio::test]
async fn the_documented_policy_of_api_management_posts_what_is_understood() {
    let policy = documented("### API Management reports what came of each request", "xml");
    let document = roxmltree::Document::parse(&policy).unwrap();
    let one = |name: &str| document.descendants().find(|node| node.has_tag_name(name)).unwrap();
    assert!(one("send-one-way-request").ancestors().any(|node| node.has_tag_name("outbound")), "after the answer is known");
    let url: http::Uri = one("set-url").text().unwrap().trim().parse().unwrap();
    assert_eq!((one("set-method").text(), url.path()), (Some("POST"), "/outcome"));
    let body = rendered(
        one("set-body").text().unwrap(),
        &[
            ("model", json!("gpt-4o")),
            ("consumer", json!("crm")),
            ("status", json!(429)),
            ("backend", json!("sweden.openai.azure.com")),
            ("duration_ms", json!(1200)),
            ("bytes", json!("400")),
            ("input", Value::Null),
            ("output", Value::Null),
        ],
    );
    let gateway = Gateway::start(&mirrored_config("")).await;
    let sent = client::post(url.path(), &[("content-type", "application/json")], body.to_string().as_bytes());
    assert_eq!(client::ask(gateway.running.mirrors[0], sent).await.unwrap().status, 204);
    let said = figures(&gateway).await;
    assert_eq!((&said["comparison"]["spared_429s"], &said["comparison"]["deployments"][0]["log_429s"]), (&json!(1), &json!(1)), "{said:#}");
    assert_eq!(said["comparison"]["unknown_backends"], json!([]));
}

/// Ends a process when dropped.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_mirror_of_nginx_shadows_and_is_never_in_the_way() {
    let backend = ScriptedBackend::start(|_| answered()).await;
    let gateway = Arc::new(Gateway::start(&mirrored_config("")).await);
    let folder = tempfile::tempdir().unwrap();
    // The mirror of the second one leads nowhere.
    let (port, second, nowhere) = (free_port(), free_port(), free_port());
    let block = documented("### nginx mirrors its requests", "nginx");
    for part in ["https://apim.example", "127.0.0.1:8081", "listen 8080;"] {
        assert!(block.contains(part), "{part} is not in\n{block}");
    }
    let block = block.replace("https://apim.example", &backend.url()).replace("listen 8080;", &format!("listen 127.0.0.1:{port};"));
    let working = block.replace("127.0.0.1:8081", &gateway.running.mirrors[0].to_string());
    let broken = block.replace("127.0.0.1:8081", &format!("127.0.0.1:{nowhere}")).replace(&format!(":{port};"), &format!(":{second};"));
    let folder_name = folder.path().display();
    let conf = format!(
        "daemon off;\nmaster_process off;\npid {folder_name}/pid;\nerror_log {folder_name}/error.log;\nevents {{}}\nhttp {{\naccess_log off;\n\
         client_body_temp_path {folder_name}/body;\nproxy_temp_path {folder_name}/proxy;\nfastcgi_temp_path {folder_name}/f;\nuwsgi_temp_path {folder_name}/u;\n\
         scgi_temp_path {folder_name}/s;\n{working}\n{broken}\n}}\n"
    );
    let file = written(folder.path(), "nginx.conf", &conf);
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    let nginx = Command::new("nginx")
        .env("PATH", path)
        .args(["-p", folder.path().to_str().unwrap(), "-c", &file])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _nginx = Child(nginx.expect("nginx is needed: `apt-get install nginx-light`"));
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    eventually("nginx listens", async || tokio::net::TcpStream::connect(address).await.is_ok()).await;
    let body = json!({ "model": "gpt-4o", "messages": [{ "role": "user", "content": "hi" }] }).to_string();
    let path = "/openai/v1/chat/completions";
    for _ in 0..4 {
        let answer = client::ask(address, client::post(path, &[("api-key", CRM)], body.as_bytes())).await.unwrap();
        assert_eq!((answer.status, &answer.json()["object"]), (200, &json!("chat.completion")));
    }
    let without = std::net::SocketAddr::from(([127, 0, 0, 1], second));
    let answer = client::ask(without, client::post(path, &[("api-key", CRM)], body.as_bytes())).await.unwrap();
    assert_eq!(answer.status, 200, "callers don't notice that there is no shadow");
    assert_eq!(backend.count(), 5);
    eventually("all are counted", async || figures(&gateway).await["requests"] == 4).await;
    let said = figures(&gateway).await;
    assert_eq!(said["comparison"]["limits"][0]["refused"], 1, "the fourth within a minute: {said:#}");
}
