//! kill -9, a hundred times: the ledger keeps what it promised, and nothing twice.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::json;
use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::{ask, post};

use crate::support::*;

/// What was settled this long before a kill must be there in a fast ledger.
const FAST: Duration = Duration::from_millis(100);

/// Kills a gateway under load `times` times; all that callers saw end, and when.
async fn kill_again_and_again(text: &str, times: u64, seed: u64) -> (BTreeMap<String, Instant>, Vec<Instant>) {
    let seen = Arc::new(Mutex::new(BTreeMap::new()));
    let mut kills = Vec::new();
    let mut rng = fastrand::Rng::with_seed(seed);
    for round in 0..times {
        let mut gateway = Process::launch(text, &[]).await;
        let address = gateway.address;
        let callers: Vec<_> = (0..8)
            .map(|caller| {
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    for number in 0.. {
                        let id = format!("r{round}-{caller}-{number}");
                        let body = json!({ "model": "m", "stream": number % 2 == 0, "max_tokens": 5, "messages": [] }).to_string();
                        let request = post("/v1/chat/completions", &[("api-key", "crm"), ("x-request-id", &id)], body.as_bytes());
                        match ask(address, request).await {
                            Ok(got) if got.status == 200 && got.ended == spillway_testkit::wire::Ended::Whole => {
                                seen.lock().insert(id, Instant::now());
                            }
                            _ => return,
                        }
                    }
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(rng.u64(20..180))).await;
        kills.push(Instant::now());
        gateway.child.0.kill().unwrap();
        gateway.child.0.wait().unwrap();
        for caller in callers {
            caller.await.unwrap();
        }
    }
    let seen = std::mem::take(&mut *seen.lock());
    (seen, kills)
}

async fn survives(durability: &str, times: u64) {
    let usage = json!({ "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5 });
    let backend = ScriptedBackend::start(move |request| {
        if request.json()["stream"] == true {
            let told = format!("data: {}\n\n", json!({ "id": "c", "choices": [], "usage": usage }));
            return Reply::sse([delta("x"), stop(), told, DONE.to_owned()]);
        }
        Reply::json(
            200,
            json!({ "id": "c", "choices": [{ "index": 0, "message": { "content": "x" }, "finish_reason": "stop" }], "usage": usage })
                .to_string(),
        )
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let limits = "[consumers.limits]\ntoken_quota = { tokens = 1_000_000_000, period = \"year\" }\n";
    let rest = consumer("crm", limits) + &format!("[ledger]\ndurability = \"{durability}\"\n");
    let text = config(&[member("a", &backend, 1)], "", &rest).replace("#server", &state_dir(folder.path()));
    let (seen, kills) = kill_again_and_again(&text, times, 7).await;
    assert!(seen.len() > usize::try_from(times).unwrap() * 5, "{}", seen.len());
    intact(folder.path());
    let rows = ledger_rows(folder.path());
    let ids: HashSet<&str> = rows.iter().map(|row| row["request"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), rows.len(), "nothing is charged twice");
    assert!(rows.iter().all(|row| row["input_tokens"].as_u64().unwrap() + row["output_tokens"].as_u64().unwrap() == 5), "no torn row");
    let promised = |id: &str, ended: Instant| {
        let round: usize = id[1..].split('-').next().unwrap().parse().unwrap();
        durability == "strict" || kills[round].saturating_duration_since(ended) > FAST
    };
    let lost: Vec<&String> =
        seen.iter().filter(|(id, ended)| promised(id, **ended) && !ids.contains(id.as_str())).map(|(id, _)| id).collect();
    assert!(lost.is_empty(), "{durability}: {} of {} lost: {lost:?}", lost.len(), seen.len());
    let gateway = Gateway::start(&text).await;
    let used = gateway.admin("/api/limits").await.json()["scopes"][0]["limits"]["token_quota"]["used"].as_u64().unwrap();
    assert_eq!(used, rows.len() as u64 * 5, "the quota goes on where the ledger says");
}

fn intact(folder: &Path) {
    let file = folder.join("ledger.sqlite");
    let python = format!("import sqlite3; print(sqlite3.connect('{}').execute('PRAGMA integrity_check').fetchone()[0])", file.display());
    let output = Command::new("python3").args(["-c", &python]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fast_ledger_survives_fifty_kills() {
    survives("fast", 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_ledger_survives_fifty_kills() {
    survives("strict", 50).await;
}
