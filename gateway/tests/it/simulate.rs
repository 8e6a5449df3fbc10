//! `spillway simulate` on the ledger of a gateway: what it says is what the gateway did.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use spillway::clock::Clock;
use spillway::simulate::bucket::{Arrival, Deployment as _, Mocked};
use spillway_testkit::backend::{Received, Reply, ScriptedBackend};
use spillway_testkit::client;

use crate::support::*;

/// Tokens of each answer, and the cap of each request.
const OUTPUT: u64 = 100;
const INPUT: u64 = 20;
/// Requests, and the time between them.
const REQUESTS: usize = 400;
const PAUSE: Duration = Duration::from_millis(8);

/// It takes 6,000 input tokens a second, 3,000 in a burst: 50 of these requests a second.
const PTU: &str =
    "ptu = { m = { tokens_per_minute = 360000, output_ratio = 1, depth = \"500ms\" } }\nprices = { m = { usd_per_hour = 2.0 } }";
const PAID: &str = "prices = { m = { input = 1.0, output = 10.0 } }";

fn used() -> Reply {
    let body = json!({
        "id": "c", "object": "chat.completion", "model": "m",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": "x" }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": INPUT, "completion_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT },
    });
    Reply::json(200, body.to_string())
}

/// A deployment that refuses as Azure's documentation says.
fn provisioned() -> impl Fn(&Received) -> Reply + Send + Sync + 'static {
    let (clock, bucket) = (Clock::new(), Mutex::new(Mocked::ptu(6_000.0, 1.0, Duration::from_millis(500), 0.0, 1)));
    move |_| match bucket.lock().admit(&Arrival { prompt: INPUT, cached: 0, cap: Some(OUTPUT), choices: 1 }, clock.now()) {
        Ok(_) => used(),
        Err(wait) => Reply::json(429, r#"{"error":{"code":"429","message":"The deployment has no capacity left"}}"#)
            .header("retry-after-ms", wait.as_millis().to_string()),
    }
}

fn simulate(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spillway"));
    let output = command.arg("simulate").args(arguments).stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_ledger_says_what_the_gateway_did() {
    let (ptu, paid) = (ScriptedBackend::start(provisioned()).await, ScriptedBackend::start(|_| used()).await);
    let folder = tempfile::tempdir().unwrap();
    let members = [Member { extra: PTU, ..member("ptu", &ptu, 1) }, Member { extra: PAID, ..member("paid", &paid, 2) }];
    let text = config(&members, "", "").replace("#server", &state_dir(folder.path()));
    let gateway = Arc::new(Gateway::start(&text).await);
    let body = json!({ "model": "m", "max_tokens": OUTPUT, "messages": [{ "role": "user", "content": "hi" }] }).to_string();
    let mut sent = Vec::new();
    for _ in 0..REQUESTS {
        let request = client::post("/v1/chat/completions", &[], body.as_bytes());
        let address = gateway.address;
        sent.push(tokio::spawn(async move { client::ask(address, request).await.unwrap().status }));
        tokio::time::sleep(PAUSE).await;
    }
    for one in sent {
        assert_eq!(one.await.unwrap(), 200);
    }
    let answered = |rows: &[Value]| rows.iter().filter(|row| row["answered"] == true).cloned().collect::<Vec<Value>>();
    eventually("all are in the ledger", async || answered(&ledger_rows(folder.path())).len() == REQUESTS).await;
    let rows = answered(&ledger_rows(folder.path()));
    let spilled: Vec<&Value> = rows.iter().filter(|row| row["tier"] == 2).collect();
    let cost: f64 = spilled.iter().map(|row| row["cost_usd"].as_f64().unwrap()).sum();

    let file = folder.path().join("c.toml");
    std::fs::write(&file, &text).unwrap();
    let (file, page) = (file.to_str().unwrap().to_owned(), folder.path().join("page.html"));
    let (code, said) = simulate(&["-c", &file, "--json", "--picture", page.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    let said: Value = serde_json::from_str(&said).unwrap();
    let total = &said["outcomes"][0]["total"];
    assert_eq!((&said["traffic"]["requests"], &total["requests"]), (&json!(REQUESTS), &json!(REQUESTS)));
    assert!(spilled.len() > REQUESTS / 10 && spilled.len() < REQUESTS * 9 / 10, "{} of {REQUESTS} spilled", spilled.len());
    // 3 %, and three requests for the milliseconds that the ledger doesn't have.
    let (simulated, real) = (total["spilled_requests"].as_f64().unwrap(), spilled.len() as f64);
    assert!((simulated - real).abs() <= real * 0.03 + 3.0, "spilled: {simulated} simulated, {real} really");
    let (simulated, by_use) = (total["by_use_usd"].as_f64().unwrap(), cost);
    assert!((simulated - by_use).abs() <= by_use * 0.03 + 3.0 * by_use / real, "cost: {simulated} simulated, {by_use} really");
    assert_eq!(total["refused"], 0);
    assert!(std::fs::read_to_string(&page).unwrap().contains("<svg"));

    let (code, text) = simulate(&["-c", &file, "--hours", "--set", "backends.ptu.ptu.m.tokens_per_minute=3600000", "--compare", &file]);
    assert_eq!(code, Some(0), "{text}");
    let spilled = text.lines().find(|line| line.starts_with("spilled from PTUs, requests")).unwrap();
    assert!(spilled.split_whitespace().nth(4) == Some("0") && text.contains("difference"), "{text}");
}

#[test]
fn what_is_wrong_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (file, csv) = (folder.path().join("c.toml"), folder.path().join("day.csv"));
    let text = "[server]\nlisten = [\"127.0.0.1:0\"]\n[[backends]]\nname = \"paid\"\nkind = \"openai\"\nurl = \"http://127.0.0.1:1\"\nauth = { type = \"api-key\", key = { env = \"NOT_HERE\" } }\n\
                [[pools]]\nname = \"p\"\nmodels = [\"gpt-4o\"]\nmembers = [{ backend = \"paid\" }]\n";
    std::fs::write(&file, text).unwrap();
    std::fs::write(&csv, "time,model,input,output\n2026-11-01T00:00:00Z,gpt-4o,1000,100\n2026-11-01T00:00:01Z,gpt-x,1000,100\n").unwrap();
    let (file, csv) = (file.to_str().unwrap(), csv.to_str().unwrap());
    let (code, said) = simulate(&["-c", file, "--csv", csv]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("gpt-x") && said.contains("served by tier 1"), "{said}");
    for (arguments, code, word) in [
        (vec!["-c", file], 1, "give --ledger or --csv"),
        (vec!["-c", file, "--csv", "/nonexistent.csv"], 1, "/nonexistent.csv"),
        (vec!["-c", file, "--csv", csv, "--ptu", "50"], 2, "no backend has one"),
        (vec!["-c", file, "--csv", csv, "--set", "pools.q.spill=ahead"], 2, "there is no 'q'; there are: p"),
        (vec!["-c", file, "--csv", csv, "--set", "pools.p.spil=ahead"], 2, "unknown key"),
        (vec!["-c", file, "--csv", csv, "--limit", "paid"], 2, "BACKEND/DEPLOYMENT"),
        (vec!["-c", file, "--csv", csv, "--limit", "x/y=5"], 1, "--limit x/y"),
        (vec!["-c", file, "--csv", file], 1, "no column 'time'"),
    ] {
        let (ended, said) = simulate(&arguments);
        assert!(ended == Some(code) && said.contains(word), "{arguments:?}: {ended:?}\n{said}");
    }
}
