//! A new config while the gateway runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use spillway_plugins::auth::digest;
use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::{self, Connection, post};

use crate::support::*;
use crate::traffic::Traffic;

async fn reload(process: &Process) -> client::Response {
    client::ask(process.admin, post("/api/reload", &[], b"")).await.unwrap()
}

fn throttled_for(seconds: u64) -> Reply {
    Reply::json(429, "{}").header("retry-after", seconds.to_string())
}

#[tokio::test]
async fn what_is_known_survives_and_the_new_rules_hold() {
    let ptu = ScriptedBackend::start(|_| throttled_for(60)).await;
    let payg = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let members = [member("ptu", &ptu, 1), member("payg", &payg, 2)];
    let limited =
        |limit: u64| consumer("crm", &format!("[consumers.limits]\nrequests_per_minute = {limit}\n")) + "[plugins.auth]\nrequired = true\n";
    let text = |limit: u64| config(&members, "", &limited(limit)).replace("#server", "watch = false");
    let process = Process::launch(&text(3), &[]).await;
    let chat = async || {
        client::ask(process.address, post("/v1/chat/completions", &[("api-key", "crm")], chat(false).to_string().as_bytes())).await.unwrap()
    };
    for _ in 0..3 {
        assert_eq!(chat().await.status, 200);
    }
    assert_eq!((chat().await.status, ptu.count()), (429, 1));
    client::ask(process.admin, post("/api/drain?backend=payg", &[], b"")).await.unwrap();
    process.write_config(&text(5));
    let answer = reload(&process).await;
    assert_eq!((answer.status, answer.json()["result"].as_str()), (200, Some("applied")), "{}", answer.text());
    assert_eq!((process.state("ptu").await.as_str(), process.state("payg").await.as_str()), ("throttled", "drained"));
    client::ask(process.admin, post("/api/undrain?backend=payg", &[], b"")).await.unwrap();
    // Three of the five are used.
    let statuses = [chat().await.status, chat().await.status, chat().await.status];
    assert_eq!((statuses, ptu.count()), ([200, 200, 429], 1));
    let answer = reload(&process).await;
    assert_eq!(answer.json()["result"], "unchanged");
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_why() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let text = config(&[member("a", &backend, 1)], "", "").replace("#server", "watch = false");
    let process = Process::launch(&text, &[]).await;
    let before = client::get(process.admin, "/api/config").await.unwrap().json();
    assert_eq!((before["loaded_by"].as_str(), before["rejected"].is_null()), (Some("start"), true));
    process.write_config(&text.replace("backend = \"a\"", "backend = \"gone\""));
    let answer = reload(&process).await;
    assert_eq!(answer.status, 422);
    assert!(answer.text().contains("unknown backend 'gone'"), "{}", answer.text());
    let after = client::get(process.admin, "/api/config").await.unwrap().json();
    assert_eq!(after["hash"], before["hash"]);
    assert!(after["rejected"]["reason"].as_str().unwrap().contains("unknown backend 'gone'"), "{after}");
    assert_eq!(process.metric("spillway_config_reload_successful").await, 0.0);
    assert_eq!(process.metric("spillway_config_reloads_total{result=\"rejected\"}").await, 1.0);
    assert_eq!(process.chat().await.status, 200);
    // What takes a restart is named, and the rest is used.
    process.write_config(&text.replace("listen = [\"127.0.0.1:0\"]", "listen = [\"127.0.0.1:1\"]").replace("#server", "max_in_flight = 7"));
    let answer = reload(&process).await;
    assert_eq!(answer.json()["needs_restart"], serde_json::json!(["server.listen"]));
    assert_eq!(process.metric("spillway_config_reload_successful").await, 1.0);
    assert_eq!(process.chat().await.status, 200);
}

#[tokio::test]
async fn a_hangup_and_a_changed_file_are_noticed() {
    let old = ScriptedBackend::start(|_| Reply::json(200, answer("old"))).await;
    let new = ScriptedBackend::start(|_| Reply::json(200, answer("new"))).await;
    let text = |backend: &ScriptedBackend| config(&[member("a", backend, 1)], "", "");
    let process = Process::launch(&text(&old), &[]).await;
    process.write_config(&text(&new));
    eventually("the changed file is used", async || process.chat().await.text().contains("new")).await;
    assert_eq!(client::get(process.admin, "/api/config").await.unwrap().json()["loaded_by"], "file");
    let quiet = text(&new).replace("#server", "watch = false");
    process.write_config(&quiet);
    eventually("the file is watched no more", async || process.log().matches("now active").count() == 2).await;
    process.write_config(&quiet.replace(&new.url(), &old.url()));
    process.signal("-HUP");
    eventually("the hangup is heard", async || process.chat().await.text().contains("old")).await;
    let answer = spillway_reload(&process).await;
    assert!(answer.contains("unchanged"), "{answer}");
}

async fn spillway_reload(process: &Process) -> String {
    let text = std::fs::read_to_string(process.file()).unwrap();
    // The command finds the port that the system chose in a file of its own.
    let file = process.file().with_extension("cli.toml");
    std::fs::write(&file, text.replace("admin = \"127.0.0.1:0\"", &format!("admin = \"{}\"", process.admin))).unwrap();
    let run = move || {
        let output =
            std::process::Command::new(env!("CARGO_BIN_EXE_spillway")).args(["reload", "--wait", "-c"]).arg(file).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// The file changes between the gateway's first reading of it and the command's check: the command reloads again.
#[tokio::test]
async fn reload_with_wait_ends_when_the_present_file_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let (used, cli) = (folder.path().join("used.toml"), folder.path().join("cli.toml"));
    std::fs::write(&used, "text").unwrap();
    let reloads = Arc::new(AtomicUsize::new(0));
    let admin = ScriptedBackend::start({
        let (used, reloads) = (used.clone(), Arc::clone(&reloads));
        move |request| match request.path() {
            "/api/reload" => {
                reloads.fetch_add(1, Ordering::SeqCst);
                Reply::json(200, r#"{ "result": "applied" }"#)
            }
            _ => {
                let loaded = if reloads.load(Ordering::SeqCst) > 1 { "text" } else { "earlier" };
                Reply::json(200, serde_json::json!({ "file": used, "hash": digest(loaded.as_bytes()).to_string() }).to_string())
            }
        }
    })
    .await;
    std::fs::write(&cli, format!("[server]\nadmin = \"{}\"\n", admin.address())).unwrap();
    for (arguments, expected) in [(vec!["reload", "-c"], 1), (vec!["reload", "--wait", "-c"], 2)] {
        reloads.store(0, Ordering::SeqCst);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_spillway"));
        command.args(arguments).arg(&cli);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(output.status.success() && output.stdout == b"applied\n", "{output:?}");
        assert_eq!(reloads.load(Ordering::SeqCst), expected);
    }
}

#[tokio::test]
async fn a_stream_finishes_on_the_config_that_it_began_with() {
    let hold = Arc::new(tokio::sync::Notify::new());
    let backend = ScriptedBackend::start({
        let hold = hold.clone();
        move |_| Reply::sse([role(), delta("a")]).then(Step::Until(hold.clone())).then(Step::Write((stop() + DONE).into_bytes()))
    })
    .await;
    let other = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let process = Process::launch(&config(&[member("a", &backend, 1)], "", "").replace("#server", "watch = false"), &[]).await;
    let mut stream = Connection::open(process.address).await.unwrap();
    stream.send(post("/v1/chat/completions", &[], chat(true).to_string().as_bytes())).await.unwrap();
    assert_eq!(stream.answer_head().await.unwrap().0, 200);
    process.write_config(&config(&[member("b", &other, 1)], "", "").replace("#server", "watch = false"));
    assert_eq!(reload(&process).await.status, 200);
    assert_eq!(process.chat().await.status, 200);
    assert_eq!(other.count(), 1, "new requests go where the new config says");
    let metrics = client::get(process.admin, "/metrics").await.unwrap().text();
    assert!(!metrics.contains("spillway_target_state{backend=\"a\""), "a target that is gone has no state");
    hold.notify_one();
    let mut body = Vec::new();
    while let Some(chunk) = stream.chunk().await.unwrap().filter(|chunk| !chunk.is_empty()) {
        body.extend(chunk);
    }
    assert!(String::from_utf8(body).unwrap().ends_with(DONE));
}

/// A hundred reloads under 500 streams and steady requests: nobody notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_break_nothing() {
    let traffic = Traffic::start(500).await;
    for round in 0..100 {
        let weight = 2 + round % 7;
        traffic.process.write_config(&traffic.text.replace("priority = 1 }", &format!("priority = 1, weight = {weight} }}")));
        let answer = reload(&traffic.process).await;
        assert_eq!((answer.status, answer.json()["result"].as_str()), (200, Some("applied")));
    }
    traffic.end().await;
}
