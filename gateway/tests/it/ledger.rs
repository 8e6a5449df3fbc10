//! The ledger: what was used stands there, to the token, whatever the API and the form, and however it ends.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::{Connection, ask, get, post};

use crate::support::*;
use crate::usage::{chat_usage, extra, metered, sse};

/// Prices such that every kind of token shows: input 1, output 10, cached 0.1, written 2 dollars a million.
const PRICES: &str = "prices = { m = { input = 1.0, output = 10.0, cached_input = 0.1, cache_write = 2.0 } }";
/// What 11 input tokens (3 cached, 2 written) and 7 output tokens cost then.
const COST: f64 = (6.0 * 1.0 + 3.0 * 0.1 + 2.0 * 2.0 + 7.0 * 10.0) / 1e6;

fn config_with(backend: &ScriptedBackend, folder: &Path, extra: &str, rest: &str) -> String {
    let extra = format!("{extra}\n{PRICES}");
    config(&[Member { name: "a", backend, priority: 1, extra: &extra }], "", rest).replace("#server", &state_dir(folder))
}

#[tokio::test]
async fn what_is_reported_is_in_the_ledger_for_every_api_and_form() {
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/images/generations", "/v1/messages"] {
        let backend = ScriptedBackend::start(metered).await;
        let folder = tempfile::tempdir().unwrap();
        let rest = consumer("crm", "") + "[ledger]\ndurability = \"strict\"\n";
        let gateway = Gateway::start(&config_with(&backend, folder.path(), extra(path), &rest)).await;
        let forms: &[bool] = if matches!(path, "/v1/embeddings" | "/v1/images/generations") { &[false] } else { &[false, true] };
        for (index, stream) in forms.iter().enumerate() {
            let body = json!({ "model": "m", "stream": stream, "input": "x", "prompt": "x", "messages": [] }).to_string();
            let request = post(path, &[("api-key", "crm"), ("x-request-id", "the-id")], body.as_bytes());
            assert_eq!(ask(gateway.address, request).await.unwrap().status, 200);
            // Strict: whoever has seen the end finds it written.
            let row = ledger_rows(folder.path()).pop().unwrap();
            for (name, expected) in [
                ("request", json!("the-id")),
                ("consumer", json!("crm")),
                ("model", json!("m")),
                ("backend", json!("a")),
                ("deployment", json!("m")),
                ("pool", json!("pool")),
                ("tier", json!(1)),
                ("attempt", json!(1)),
                ("answered", json!(true)),
                ("outcome", json!("ok")),
                ("status", json!(200)),
                ("source", json!("reported")),
                ("input_tokens", json!(11)),
                ("output_tokens", json!(7)),
                ("cached_input_tokens", json!(3)),
                ("cache_write_tokens", json!(2)),
                ("reasoning_tokens", json!(5)),
            ] {
                assert_eq!(row[name], expected, "{path} {stream}: {name} in {row:#}");
            }
            assert!((row["cost_usd"].as_f64().unwrap() - COST).abs() < 1e-12, "{path}: {row:#}");
            assert_eq!(ledger_rows(folder.path()).len(), index + 1);
        }
        let times = forms.len() as f64;
        let member = "{backend=\"a\",deployment=\"m\",pool=\"pool\"}";
        assert!((gateway.metric(&format!("spillway_cost_usd_total{member}")).await - COST * times).abs() < 1e-9);
        assert_eq!(gateway.metric("spillway_consumer_input_tokens_total{consumer=\"crm\"}").await, 11.0 * times);
        assert_eq!(gateway.metric("spillway_consumer_output_tokens_total{consumer=\"crm\"}").await, 7.0 * times);
        assert_eq!(gateway.metric("spillway_consumer_requests_total{consumer=\"crm\"}").await, times);
        assert_eq!(gateway.metric("spillway_ledger_rows_total").await, times);
    }
}

fn chunk(delta: Value, finish: Value, usage: Value) -> Value {
    json!({ "id": "c", "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }], "usage": usage })
}

fn told(usage: Value) -> Value {
    json!({ "id": "c", "choices": [], "usage": usage })
}

#[tokio::test]
async fn a_usage_chunk_may_be_missing_doubled_zero_or_cut() {
    let text = chunk(json!({ "content": "hello world" }), Value::Null, Value::Null);
    let stop = chunk(json!({}), json!("stop"), Value::Null);
    let zero = json!({ "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0 });
    // A prompt of eight tokens by the published rules, an answer of two.
    let estimate = ("estimated", 8, 2);
    // Of one that is cut nobody knows how much more there was.
    let reserved = ("estimated", (chat(true).to_string().len() as u64).div_ceil(4), 1024);
    let cases = [
        (vec![text.clone(), stop.clone(), told(chat_usage())], true, ("reported", 11, 7)),
        (vec![text.clone(), stop.clone(), told(chat_usage()), told(chat_usage())], true, ("reported", 11, 7)),
        (vec![text.clone(), stop.clone(), told(zero)], true, estimate),
        (vec![text.clone(), chunk(json!({}), json!("stop"), chat_usage())], true, ("reported", 11, 7)),
        (vec![text.clone(), stop.clone()], true, estimate),
        (vec![text.clone()], false, reserved),
    ];
    for (events, whole, expected) in cases {
        let mut events = sse(&events);
        if whole {
            events.push(DONE.to_owned());
        }
        // And half of the usage chunk, where it is cut.
        let reply = if whole {
            Reply::sse(events)
        } else {
            Reply::sse(events).then(Step::Write(b"data: {\"usage\":{\"prompt".to_vec())).then(Step::Reset)
        };
        let backend = ScriptedBackend::start(move |_| reply.clone()).await;
        let folder = tempfile::tempdir().unwrap();
        let gateway = Gateway::start(&config_with(&backend, folder.path(), "", "")).await;
        let got = gateway.stream().await;
        assert_eq!(got.status, 200);
        let row = ledger_of(folder.path(), 1).await.remove(0);
        assert_eq!(
            (row["source"].as_str().unwrap(), row["input_tokens"].as_u64().unwrap(), row["output_tokens"].as_u64().unwrap()),
            expected,
            "{row:#}"
        );
        assert_eq!((&row["answered"], &row["outcome"]), (&json!(true), &json!(if whole { "ok" } else { "reset" })));
    }
}

#[tokio::test]
async fn a_usage_chunk_may_be_split_at_every_byte() {
    let events = sse(&[
        chunk(json!({ "content": "x" }), Value::Null, Value::Null),
        chunk(json!({}), json!("stop"), Value::Null),
        told(chat_usage()),
    ]);
    let text = (events.concat() + DONE).into_bytes();
    let begin = events[..2].concat().len();
    let backend = ScriptedBackend::start(move |request| {
        let at = begin + request.header("x-cut").unwrap().parse::<usize>().unwrap();
        Reply::sse([text[..at].to_vec(), text[at..].to_vec()])
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&config_with(&backend, folder.path(), "", "[ledger]\ndurability = \"strict\"\n")).await;
    let length = events[2].len() + DONE.len();
    for cut in 1..length {
        let body = chat(true).to_string();
        let got = ask(gateway.address, post("/v1/chat/completions", &[("x-cut", &cut.to_string())], body.as_bytes())).await.unwrap();
        assert!(!got.text().contains("prompt_tokens") && got.text().ends_with(DONE), "{}", got.text());
    }
    let rows = ledger_rows(folder.path());
    assert_eq!(rows.len(), length - 1);
    assert!(rows.iter().all(|row| row["source"] == "reported" && row["input_tokens"] == 11 && row["output_tokens"] == 7));
}

#[tokio::test]
async fn a_caller_that_leaves_pays_what_was_reserved_and_one_that_is_refused_costs_nothing() {
    let backend = ScriptedBackend::start(|request| match request.json()["n"].as_u64() {
        Some(2) => Reply::json(400, r#"{"error":{"code":"invalid_request_error","message":"no"}}"#),
        Some(3) => Reply::json(400, r#"{"error":{"code":"content_filter","message":"no"}}"#),
        _ => Reply::sse([role(), delta("hello world")]).then(Step::Hang),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&config_with(&backend, folder.path(), "", "[usage]\non_disconnect = \"cancel\"\n")).await;
    let mut caller = Connection::open(gateway.address).await.unwrap();
    caller.send(post("/v1/chat/completions", &[], chat(true).to_string().as_bytes())).await.unwrap();
    caller.until("world").await.unwrap();
    drop(caller);
    let row = ledger_of(folder.path(), 1).await.remove(0);
    assert_eq!(
        (&row["source"], &row["outcome"], &row["input_tokens"], &row["output_tokens"]),
        (&json!("estimated"), &json!("cancelled"), &json!(chat(true).to_string().len().div_ceil(4)), &json!(1024))
    );
    assert!(row["cost_usd"].as_f64().unwrap() > 0.0);
    for (n, rows) in [(2, 1), (3, 2)] {
        let mut body = chat(false);
        body["n"] = json!(n);
        assert_eq!(gateway.post("/v1/chat/completions", &body).await.status, 400);
        ledger_of(folder.path(), rows).await;
    }
    let filtered = ledger_rows(folder.path()).pop().unwrap();
    assert_eq!(
        (&filtered["outcome"], &filtered["input_tokens"], &filtered["output_tokens"]),
        (&json!("caller_fault"), &json!(8), &json!(0)),
        "the prompt is billed"
    );
}

#[tokio::test]
async fn with_drain_an_abandoned_answer_is_read_on() {
    let backend = ScriptedBackend::start(|_| {
        let rest = sse(&[chunk(json!({}), json!("stop"), Value::Null), told(chat_usage())]).concat() + DONE;
        Reply::sse([role(), delta("hello world")]).then(Step::Pause(Duration::from_millis(300))).then(Step::Write(rest.into_bytes()))
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let rest = "[usage]\non_disconnect = \"drain\"\ndrain_timeout = \"5s\"\n";
    let gateway = Gateway::start(&config_with(&backend, folder.path(), "", rest)).await;
    let mut caller = Connection::open(gateway.address).await.unwrap();
    caller.send(post("/v1/chat/completions", &[], chat(true).to_string().as_bytes())).await.unwrap();
    caller.until("world").await.unwrap();
    drop(caller);
    let row = ledger_of(folder.path(), 1).await.remove(0);
    assert_eq!(
        (&row["source"], &row["outcome"], &row["input_tokens"], &row["output_tokens"]),
        (&json!("reported"), &json!("cancelled"), &json!(11), &json!(7))
    );
    eventually("its slot is given back", async || {
        gateway.metric("spillway_target_in_flight{backend=\"a\",deployment=\"m\",pool=\"pool\"}").await == 0.0
    })
    .await;
}

#[tokio::test]
async fn attempts_that_may_have_cost_something_are_kept_and_those_that_did_not_are_not() {
    let slow = ScriptedBackend::start(|_| Reply::raw([Step::Hang])).await;
    let throttled = ScriptedBackend::start(|_| Reply::throttled(60_000)).await;
    let good = ScriptedBackend::start(metered).await;
    let folder = tempfile::tempdir().unwrap();
    let members = [member("slow", &slow, 1), member("throttled", &throttled, 2), member("good", &good, 3)];
    let text = config(&members, "[pools.timeouts]\nanswer = \"200ms\"\n", "").replace("#server", &state_dir(folder.path()));
    let gateway = Gateway::start(&text).await;
    assert_eq!(gateway.chat().await.status, 200);
    let rows = ledger_of(folder.path(), 2).await;
    let row =
        |at: usize| (rows[at]["backend"].as_str().unwrap(), rows[at]["answered"].as_bool().unwrap(), rows[at]["source"].as_str().unwrap());
    assert_eq!((row(0), row(1)), (("slow", false, "estimated"), ("good", true, "reported")));
    assert_eq!(
        (&rows[0]["outcome"], &rows[0]["attempt"], &rows[1]["attempt"], &rows[0]["cost_usd"]),
        (&json!("timeout"), &json!(1), &json!(3), &Value::Null)
    );
}

#[tokio::test]
async fn an_answer_that_replaces_another_is_booked_and_the_other_at_what_was_reserved() {
    let stuck = ScriptedBackend::start(|_| Reply::sse([role()]).then(Step::Hang)).await;
    let good = ScriptedBackend::start(metered).await;
    let folder = tempfile::tempdir().unwrap();
    let members = [member("stuck", &stuck, 1), member("good", &good, 2)];
    let rest = consumer("crm", "[consumers.limits]\ntokens_per_minute = 10_000\n");
    let text = config(&members, "[pools.timeouts]\nfirst_token = \"200ms\"\n", &rest).replace("#server", &state_dir(folder.path()));
    let gateway = Gateway::start(&text).await;
    let got = ask_as(gateway.address, "crm", &chat(true)).await;
    assert!(got.status == 200 && got.text().ends_with(DONE));
    let rows = ledger_of(folder.path(), 2).await;
    let row =
        |at: usize| (rows[at]["backend"].as_str().unwrap(), rows[at]["answered"].as_bool().unwrap(), rows[at]["source"].as_str().unwrap());
    assert_eq!((row(0), row(1)), (("stuck", false, "estimated"), ("good", true, "reported")));
    let limits = gateway.admin("/api/limits").await.json();
    assert_eq!(limits["scopes"][0]["limits"]["tokens_per_minute"]["used"], 18 + chat(true).to_string().len().div_ceil(4) + 1024);
}

#[tokio::test]
async fn everybody_can_be_told_what_was_used() {
    let backend = ScriptedBackend::start(metered).await;
    let folder = tempfile::tempdir().unwrap();
    let rest = consumer("crm", "") + &consumer("shop", "") + "[ledger]\ndurability = \"strict\"\ntags = [\"X-Team\"]\n";
    let text = config_with(&backend, folder.path(), "", &rest);
    let gateway = Gateway::start(&text).await;
    for (name, team, model) in [("crm", "blue", "m"), ("crm", "red", "m"), ("shop", "red", "m"), ("shop", "red", "gpt-4o")] {
        let body = json!({ "model": model, "messages": [] }).to_string();
        let request = post("/v1/chat/completions", &[("api-key", name), ("x-team", team)], body.as_bytes());
        assert_eq!(ask(gateway.address, request).await.unwrap().status, 200);
    }
    let report = gateway.admin("/api/usage?since=1h").await.json();
    let rows = report["rows"].as_array().unwrap();
    let row = |consumer: &str, model: &str| rows.iter().find(|row| row["consumer"] == consumer && row["model"] == model).unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!(
        (&row("crm", "m")["requests"], &row("crm", "m")["input_tokens"], &row("crm", "m")["reasoning_tokens"]),
        (&json!(2), &json!(22), &json!(10))
    );
    assert!((row("crm", "m")["cost_usd"].as_f64().unwrap() - 2.0 * COST).abs() < 1e-9);
    assert!(row("shop", "gpt-4o")["cost_usd"].as_f64().unwrap() > 0.0, "the shipped table knows it");
    let by_team = gateway.admin("/api/usage?by=tag:x-team").await.json();
    assert_eq!(by_team["rows"][1]["tag:x-team"], "red");
    assert_eq!(by_team["rows"][1]["requests"], 3);
    assert_eq!(gateway.admin("/api/usage?by=colour").await.status, 400);
    let own = |name: &'static str, path: &'static str| {
        let address = gateway.address;
        async move { ask(address, format!("GET {path} HTTP/1.1\r\nhost: g\r\napi-key: {name}\r\n\r\n")).await.unwrap() }
    };
    let mine = own("shop", "/v1/usage?consumer=crm&by=consumer").await.json();
    assert_eq!((mine["rows"].as_array().unwrap().len(), &mine["rows"][0]["consumer"]), (1, &json!("shop")), "nobody else's");
    assert_eq!(get(gateway.address, "/v1/usage").await.unwrap().status, 401);
    assert_eq!(own("crm", "/v1/usage?since=soon").await.status, 400);
    let told = |arguments: &[&str]| {
        let file = folder.path().join("spillway.toml");
        std::fs::write(&file, &text).unwrap();
        let (command, rest) = arguments.split_at(usize::from(matches!(arguments[0], "export" | "reconcile")));
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_spillway"))
            .arg("usage")
            .args(command)
            .arg("-c")
            .arg(&file)
            .args(rest)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
    };
    let (code, json_report) = told(&["--json", "--since", "1h"]);
    assert_eq!((code, serde_json::from_str::<Value>(&json_report).unwrap()), (Some(0), report));
    let (_, table) = told(&["--by", "consumer"]);
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.lines().nth(1).unwrap().starts_with("crm "), "{table}");
    let (_, csv) = told(&["export"]);
    assert!(csv.starts_with("time,request,attempt,") && csv.lines().count() == 5, "{csv}");
    let (code, error) = told(&["--since", "soon"]);
    assert!(code == Some(1) && error.contains("'soon' is not a time"), "{error}");
    let today = chrono_today();
    let export = folder.path().join("costs.csv");
    let line = |meter: &str, quantity: f64| {
        format!(
            "{today},/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/127,{meter},{quantity},1K,0.5,\"{{\"\"deploymentName\"\":\"\"m\"\"}}\"\n"
        )
    };
    let costs = "Date,ResourceId,MeterName,Quantity,UnitOfMeasure,CostInBillingCurrency,AdditionalInfo\n".to_owned()
        + &line("gpt Inp Tokens", 0.024)
        + &line("gpt cached Inp Tokens", 0.009)
        + &line("gpt Outp Tokens", 0.042)
        + &line("Bandwidth", 9.0);
    std::fs::write(&export, costs).unwrap();
    let (code, compared) = told(&["reconcile", export.to_str().unwrap(), "--json"]);
    assert_eq!(code, Some(0), "{compared}");
    let rows = serde_json::from_str::<Value>(&compared).unwrap()["rows"].clone();
    let line = |at: usize| {
        (
            rows[at]["meter"].as_str().unwrap().to_owned(),
            rows[at]["billed_tokens"].as_i64().unwrap(),
            rows[at]["ledger_tokens"].as_i64().unwrap(),
        )
    };
    assert_eq!(
        (line(0), line(1), line(2)),
        (("input".into(), 24, 24), ("cached_input".into(), 9, 9), ("output".into(), 42, 21)),
        "half of the output is missing here"
    );
}

fn chrono_today() -> String {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let output = std::process::Command::new("date").args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%d"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_broken_ledger_is_set_aside_or_stops_the_start() {
    let backend = ScriptedBackend::start(metered).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ledger.sqlite"), "this is no database, and never was one. ".repeat(200)).unwrap();
    let required = config_with(&backend, folder.path(), "", "[ledger]\nrequired = true\n");
    let config = spillway::config::Config::parse(&required, Path::new("t"), &spillway::config::Secrets::default()).unwrap();
    let error = spillway::server::start(&config, spillway::clock::Clock::new()).await.err().unwrap().to_string();
    assert!(error.contains("not a database"), "{error}");
    let gateway = Gateway::start(&config_with(&backend, folder.path(), "", "")).await;
    assert_eq!(gateway.metric("spillway_ledger_failures_total").await, 1.0);
    assert_eq!(gateway.chat().await.status, 200);
    ledger_of(folder.path(), 1).await;
    let names: Vec<String> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().any(|name| name.starts_with("ledger.sqlite.broken-")), "{names:?}");
}

#[tokio::test]
async fn a_full_disk_costs_rows_or_answers_as_configured() {
    let backend = ScriptedBackend::start(metered).await;
    for required in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let rest = format!("[ledger]\nrequired = {required}\n");
        let gateway = Process::launch(&config_with(&backend, folder.path(), "", &rest), &[]).await;
        assert_eq!(gateway.chat().await.status, 200);
        ledger_of(folder.path(), 1).await;
        // No file may grow any more: what a full disk looks like to a process.
        let limit = |bytes: &str| {
            let pid = gateway.child.0.id().to_string();
            assert!(std::process::Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:")]).status().unwrap().success());
        };
        limit("100");
        assert_eq!(gateway.chat().await.status, 200, "nobody knows yet");
        eventually("the loss is seen", async || gateway.metric("spillway_ledger_up").await == 0.0).await;
        assert!(gateway.metric("spillway_ledger_rows_dropped_total").await >= 1.0);
        let got = gateway.chat().await;
        assert_eq!((got.status, got.code().as_str()), if required { (503, "ledger_unavailable") } else { (200, "") });
        limit("unlimited");
        eventually("it can be written again", async || gateway.metric("spillway_ledger_up").await == 1.0).await;
        let before = ledger_rows(folder.path()).len();
        assert_eq!(gateway.chat().await.status, 200);
        ledger_of(folder.path(), before + 1).await;
        assert_eq!(gateway.log().matches("can't be written").count(), 1, "told once: {}", gateway.log());
    }
}

/// A WebSocket frame with a short text.
fn frame(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap().to_be_bytes();
    [&[0x81, 126, length[0], length[1]], text.as_bytes()].concat()
}

#[tokio::test]
async fn every_turn_of_a_realtime_socket_is_counted() {
    let backend = ScriptedBackend::start(|_| {
        let head = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: x\r\n\r\n";
        let usage = json!({ "total_tokens": 30, "input_tokens": 20, "output_tokens": 10, "input_token_details": { "audio_tokens": 15, "cached_tokens": 4 }, "output_token_details": { "audio_tokens": 8 } });
        let done = frame(&json!({ "type": "response.done", "response": { "id": "r", "usage": usage } }).to_string());
        let (one, two) = done.split_at(70);
        Reply::raw([Step::Write(head.into()), Step::Write(one.to_vec()), Step::Pause(Duration::from_millis(20)), Step::Write(two.to_vec()), Step::Write(done.clone()), Step::Hang])
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let rest = consumer("crm", "[consumers.limits]\ntokens_per_minute = 10_000\n");
    let gateway = Gateway::start(&config_with(&backend, folder.path(), "", &rest)).await;
    let mut caller = Connection::open(gateway.address).await.unwrap();
    let upgrade = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-extensions: permessage-deflate";
    caller.send(format!("GET /v1/realtime?model=m HTTP/1.1\r\nhost: x\r\napi-key: crm\r\n{upgrade}\r\n\r\n")).await.unwrap();
    assert_eq!(caller.answer_head().await.unwrap().0, 101);
    let rows = ledger_of(folder.path(), 2).await;
    for row in &rows {
        let count = |name: &str| row[name].as_u64().unwrap();
        assert_eq!(
            (count("input_tokens"), count("output_tokens"), count("input_audio_tokens"), count("output_audio_tokens")),
            (20, 10, 15, 8)
        );
        assert_eq!((&row["api"], &row["source"]), (&json!("realtime"), &json!("reported")));
    }
    assert_eq!((&rows[0]["answered"], &rows[1]["answered"]), (&json!(true), &json!(false)), "one request, two answers");
    assert_eq!(backend.received()[0].header("sec-websocket-extensions"), None, "what is compressed can't be read");
    drop(caller);
    eventually("settled with what was used", async || {
        let limits = gateway.admin("/api/limits").await.json();
        limits["scopes"][0]["limits"]["tokens_per_minute"]["used"] == 60
    })
    .await;
    assert_eq!(ledger_rows(folder.path()).len(), 2, "the socket's end costs nothing more");
}

#[tokio::test]
async fn uploads_and_speech_are_counted_as_they_are_billed() {
    let backend = ScriptedBackend::start(|request| match request.path() {
        "/v1/audio/speech" => Reply::json(200, "sound").header("content-type", "audio/mpeg"),
        _ => Reply::json(200, r#"{"text":"hi","usage":{"type":"duration","seconds":1.5}}"#),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let prices = folder.path().join("prices.json");
    std::fs::write(&prices, r#"{"m": {"input_cost_per_character": 0.001, "input_cost_per_second": 0.01}}"#).unwrap();
    let rest = format!("[prices]\nfile = \"{}\"\n", prices.display());
    let text = config(&[member("a", &backend, 1)], "", &rest).replace("#server", &state_dir(folder.path()));
    let gateway = Gateway::start(&text).await;
    assert_eq!(gateway.post("/v1/audio/speech", &json!({ "model": "m", "input": "grüezi", "voice": "x" })).await.status, 200);
    let row = ledger_of(folder.path(), 1).await.remove(0);
    assert!((row["cost_usd"].as_f64().unwrap() - 0.006).abs() < 1e-9 && row["output_tokens"] == 0, "six characters: {row:#}");
    let form = "--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--XX--\r\n";
    let head = format!(
        "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: g\r\ncontent-type: multipart/form-data; boundary=XX\r\ncontent-length: {}\r\n\r\n",
        form.len()
    );
    assert_eq!(ask(gateway.address, head + form).await.unwrap().status, 200);
    let row = ledger_of(folder.path(), 2).await.remove(1);
    assert!((row["cost_usd"].as_f64().unwrap() - 0.015).abs() < 1e-9 && row["source"] == "reported", "{row:#}");
}

#[tokio::test]
async fn an_answer_that_tells_its_usage_too_early_is_not_taken_at_its_word() {
    let backend = ScriptedBackend::start(|_| {
        let events = [
            json!({ "type": "message_start", "message": { "usage": { "input_tokens": 25, "cache_read_input_tokens": 5, "output_tokens": 1 } } }),
            json!({ "type": "content_block_delta", "delta": { "type": "text_delta", "text": "one two three four five" } }),
        ];
        Reply::sse(events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()))).then(Step::Hang)
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let gateway =
        Gateway::start(&config_with(&backend, folder.path(), "kind = \"anthropic\"", "[usage]\non_disconnect = \"cancel\"\n")).await;
    let mut caller = Connection::open(gateway.address).await.unwrap();
    let body = json!({ "model": "m", "stream": true, "max_tokens": 100, "messages": [{ "role": "user", "content": "count" }] }).to_string();
    caller.send(post("/v1/messages", &[], body.as_bytes())).await.unwrap();
    caller.until("five").await.unwrap();
    drop(caller);
    let row = ledger_of(folder.path(), 1).await.remove(0);
    let count = |name: &str| row[name].as_u64().unwrap();
    assert_eq!(
        (&row["source"], count("input_tokens"), count("cached_input_tokens"), count("output_tokens")),
        (&json!("estimated"), 30, 5, 100)
    );
}

#[tokio::test]
async fn a_callers_metadata_hides_no_usage() {
    let backend = ScriptedBackend::start(|_| {
        let usage = json!({ "input_tokens": 11, "output_tokens": 7 });
        Reply::json(
            200,
            format!(r#"{{"id":"resp_1","output":[],"usage":{usage},"metadata":{{"usage":"none","more":"{{\"usage\":{{}}}}"}}}}"#),
        )
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&config_with(&backend, folder.path(), "", "[ledger]\ndurability = \"strict\"\n")).await;
    assert_eq!(gateway.post("/v1/responses", &json!({ "model": "m", "input": "x" })).await.status, 200);
    let row = ledger_rows(folder.path()).remove(0);
    assert_eq!((&row["source"], &row["input_tokens"], &row["output_tokens"]), (&json!("reported"), &json!(11), &json!(7)));
}

#[tokio::test]
async fn a_gateway_that_stops_books_what_it_was_still_reading() {
    let backend = ScriptedBackend::start(|_| Reply::sse([role(), delta("hello world")]).then(Step::Hang)).await;
    let folder = tempfile::tempdir().unwrap();
    let rest = "[usage]\non_disconnect = \"drain\"\ndrain_timeout = \"5m\"\n";
    let gateway = Gateway::start(&config_with(&backend, folder.path(), "", rest)).await;
    let mut caller = Connection::open(gateway.address).await.unwrap();
    caller.send(post("/v1/chat/completions", &[], chat(true).to_string().as_bytes())).await.unwrap();
    caller.until("world").await.unwrap();
    drop(caller);
    eventually("it is read on", async || gateway.metric("spillway_in_flight_requests").await == 0.0).await;
    assert!(ledger_rows(folder.path()).is_empty());
    gateway.running.stop(std::future::pending()).await;
    let row = ledger_rows(folder.path()).remove(0);
    assert_eq!((&row["source"], &row["output_tokens"]), (&json!("estimated"), &json!(1024)));
}

#[tokio::test]
async fn a_ledger_that_cannot_be_opened_stops_nothing_unless_it_must() {
    let backend = ScriptedBackend::start(metered).await;
    let folder = tempfile::tempdir().unwrap();
    // A folder where the file should be.
    std::fs::create_dir(folder.path().join("ledger.sqlite")).unwrap();
    let gateway = Gateway::start(&config_with(&backend, folder.path(), "", "")).await;
    assert_eq!((gateway.metric("spillway_ledger_up").await, gateway.chat().await.status), (0.0, 200));
    std::fs::remove_dir(folder.path().join("ledger.sqlite")).unwrap();
    eventually("it is opened", async || gateway.metric("spillway_ledger_up").await == 1.0).await;
    assert_eq!(gateway.chat().await.status, 200);
    eventually("and written", async || !ledger_rows(folder.path()).is_empty()).await;
}
