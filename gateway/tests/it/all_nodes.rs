//! One report over all nodes: what it says is what the upstreams have counted, whatever happens to the nodes.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::{Connection, ask, post};

use crate::support::*;

/// A backend that counts what it bills: the answers that it gives. Requests that say "wait" get none until the test ends.
struct Upstream {
    backend: ScriptedBackend,
    answers: Arc<AtomicU64>,
    input: Arc<AtomicU64>,
    output: Arc<AtomicU64>,
}

impl Upstream {
    async fn start(seed: u64) -> Self {
        let (answers, input, output) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counters = (answers.clone(), input.clone(), output.clone());
        let backend = ScriptedBackend::start(move |request| {
            if String::from_utf8_lossy(&request.body).contains("wait") {
                return Reply::raw([Step::Hang]);
            }
            let number = counters.0.fetch_add(1, Ordering::Relaxed);
            let (input, output) = (11 + (number * 7 + seed) % 50, 3 + (number * 5 + seed) % 20);
            counters.1.fetch_add(input, Ordering::Relaxed);
            counters.2.fetch_add(output, Ordering::Relaxed);
            let usage = json!({ "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output });
            if request.json()["stream"] == true {
                let last = format!("data: {}\n\n", json!({ "id": "c", "choices": [], "usage": usage }));
                return Reply::sse([role(), delta("x"), stop(), last, DONE.to_owned()]);
            }
            let choice = json!({ "index": 0, "message": { "role": "assistant", "content": "x" }, "finish_reason": "stop" });
            Reply::json(200, json!({ "id": "c", "choices": [choice], "usage": usage }).to_string())
        })
        .await;
        Upstream { backend, answers, input, output }
    }

    fn counted(&self) -> (u64, u64, u64) {
        (self.answers.load(Ordering::Relaxed), self.input.load(Ordering::Relaxed), self.output.load(Ordering::Relaxed))
    }
}

fn ship_to(place: &str, more: &str) -> String {
    format!("[ledger]\ndurability = \"strict\"\n[ledger.ship]\nto = \"{place}\"\nevery = \"1s\"\n{more}")
}

/// Runs `spillway usage`: the exit code, standard output, and standard error.
async fn usage(arguments: &[&str]) -> (Option<i32>, String, String) {
    spillway(&[&["usage"], arguments].concat()).await
}

/// The same of any command.
async fn spillway(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spillway"));
    command.args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

async fn report(place: &Path, by: &str) -> Value {
    let (code, out, error) = usage(&["--all-nodes", "--from", place.to_str().unwrap(), "--json", "--by", by]).await;
    assert_eq!(code, Some(0), "{error}");
    serde_json::from_str(&out).unwrap()
}

/// Requests, input and output of the rows of a report in which this name has this value.
fn of(report: &Value, name: &str, value: &str) -> (u64, u64, u64) {
    let rows = report["rows"].as_array().unwrap().iter().filter(|row| row[name] == value);
    let counts = rows.map(|row| ["requests", "input_tokens", "output_tokens"].map(|name| row[name].as_u64().unwrap()));
    counts.fold((0, 0, 0), |sum, [requests, input, output]| (sum.0 + requests, sum.1 + input, sum.2 + output))
}

async fn load(process: &Process, consumer: &str, requests: usize) {
    for number in 0..requests {
        let mut body = chat(number % 2 == 0);
        body["n"] = json!(1);
        assert_eq!(ask_as(process.address, consumer, &body).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_node_killed_and_one_upgraded_the_report_says_what_the_upstreams_counted() {
    let (one, two) = (Upstream::start(1).await, Upstream::start(2).await);
    let place = tempfile::tempdir().unwrap();
    let rest = consumer("crm", "") + &consumer("shop", "") + &ship_to(place.path().to_str().unwrap(), "");
    let members = [member("one", &one.backend, 1), member("two", &two.backend, 1)];
    let text = config(&members, "", &rest).replace("#server", "state_dir = \"STATE\"\nwatch = false");
    let mut killed = Process::launch(&text, &[]).await;
    let (upgraded, ordinary) = (Process::launch(&text, &[]).await, Process::launch(&text, &[]).await);
    tokio::join!(load(&killed, "crm", 12), load(&upgraded, "crm", 12), load(&ordinary, "shop", 12));
    // While it is killed, four requests wait for answers that no upstream gives.
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut connection = Connection::open(killed.address).await.unwrap();
        let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "wait" }] }).to_string();
        connection.send(post("/v1/chat/completions", &[("api-key", "crm")], body.as_bytes())).await.unwrap();
        waiting.push(connection);
    }
    eventually("they wait", async || one.backend.count() + two.backend.count() >= 36 + 4).await;
    killed.child.0.kill().unwrap();
    killed.child.0.wait().unwrap();
    // Another process takes over while there is traffic at both.
    tokio::join!(
        async {
            load(&upgraded, "shop", 6).await;
        },
        upgraded.upgrade()
    );
    tokio::join!(load(&upgraded, "crm", 8), load(&ordinary, "crm", 8));
    // What the killed node has not shipped is in its ledger: its command line ships that.
    let file = killed.file();
    let (code, out, error) = usage(&["ship", "-c", file.to_str().unwrap()]).await;
    assert!(code == Some(0) && out.contains("files shipped"), "{out}{error}");
    let total = |counted: [(u64, u64, u64); 2]| (counted[0].0 + counted[1].0, counted[0].1 + counted[1].1, counted[0].2 + counted[1].2);
    let expected = [one.counted(), two.counted()];
    assert_eq!(total(expected).0, 36 + 6 + 16);
    eventually("everything is shipped", async || {
        let by_backend = report(place.path(), "backend").await;
        total([of(&by_backend, "backend", "one"), of(&by_backend, "backend", "two")]) == total(expected)
    })
    .await;
    let by_backend = report(place.path(), "backend,consumer").await;
    assert_eq!([of(&by_backend, "backend", "one"), of(&by_backend, "backend", "two")], expected);
    assert_eq!(of(&by_backend, "consumer", "crm").0, 12 + 12 + 16);
    assert_eq!(of(&by_backend, "consumer", "shop").0, 12 + 6);
    let nodes = by_backend["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3, "{nodes:#?}");
    assert!(nodes.iter().all(|node| node["missing"] == json!([]) && node["is_late"] == false), "{nodes:#?}");
    assert_eq!((&by_backend["set_aside"], &by_backend["conflicts"]), (&json!([]), &json!([])));
    // Started again, the killed node ships nothing twice.
    let again = Process::launch(&killed.text(), &[]).await;
    eventually("it has shipped", async || again.metric("spillway_ledger_ship_last_success_timestamp_seconds").await > 0.0).await;
    assert_eq!(again.metric("spillway_ledger_ship_files_total").await, 0.0);
    let after = report(place.path(), "backend").await;
    assert_eq!([of(&after, "backend", "one"), of(&after, "backend", "two")], expected);
    drop(waiting);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_is_gone_or_full_is_counted_and_told_once_and_no_request_notices() {
    let upstream = Upstream::start(3).await;
    let base = tempfile::tempdir().unwrap();
    let place = base.path().join("place");
    std::fs::create_dir(&place).unwrap();
    let text = config(&[member("one", &upstream.backend, 1)], "", &(consumer("crm", "") + &ship_to(place.to_str().unwrap(), "")));
    let process = Process::launch(&text.replace("#server", "state_dir = \"STATE\"\nwatch = false"), &[]).await;
    eventually("it ships", async || process.metric("spillway_ledger_ship_last_success_timestamp_seconds").await > 0.0).await;
    std::fs::remove_dir_all(&place).unwrap();
    load(&process, "crm", 3).await;
    eventually("it fails twice", async || process.metric("spillway_ledger_ship_failures_total").await >= 2.0).await;
    load(&process, "crm", 3).await;
    assert_eq!(process.metric("spillway_ledger_up").await, 1.0);
    assert!(!place.exists(), "a folder that is missing is not made");
    std::fs::create_dir(&place).unwrap();
    eventually("everything is shipped", async || of(&report(&place, "backend").await, "backend", "one") == upstream.counted()).await;
    let log = process.log();
    assert_eq!((log.matches("can't be shipped").count(), log.matches("can be shipped again").count()), (1, 1), "{log}");
    // It stops, and ships its last attempts before it ends.
    load(&process, "crm", 2).await;
    process.signal("-TERM");
    eventually("the last ones are shipped", async || of(&report(&place, "backend").await, "backend", "one") == upstream.counted()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_is_missing_stops_no_start_reload_upgrade_or_report() {
    let upstream = Upstream::start(5).await;
    let base = tempfile::tempdir().unwrap();
    let place = base.path().join("place");
    let text = config(&[member("one", &upstream.backend, 1)], "", &(consumer("crm", "") + &ship_to(place.to_str().unwrap(), "")));
    let process = Process::launch(&text.replace("#server", "state_dir = \"STATE\"\nwatch = false"), &[]).await;
    load(&process, "crm", 3).await;
    eventually("it fails", async || process.metric("spillway_ledger_ship_failures_total").await >= 1.0).await;
    process.write_config(&(process.text() + &consumer("shop", "")));
    assert_eq!(ask(process.admin, post("/api/reload", &[], b"")).await.unwrap().status, 200);
    process.upgrade().await;
    load(&process, "shop", 2).await;
    let file = process.file();
    let file = file.to_str().unwrap();
    eventually("its own report has all", async || {
        let (code, out, error) = usage(&["-c", file, "--json", "--by", "backend"]).await;
        assert_eq!(code, Some(0), "{error}");
        of(&serde_json::from_str(&out).unwrap(), "backend", "one") == upstream.counted()
    })
    .await;
    for arguments in [&["ship", "-c", file][..], &["-c", file, "--all-nodes"]] {
        let (code, _, error) = usage(arguments).await;
        assert!(code == Some(1) && error.contains("place' does not exist: mount the place that all nodes share"), "{arguments:?}: {error}");
    }
    let (code, out, error) = spillway(&["check", "-c", file]).await;
    assert!(code == Some(0) && out.contains(" warning: ledger.ship.to: the folder '") && out.contains("toml:"), "{out}{error}");
    std::fs::create_dir(&place).unwrap();
    let (code, out, _) = spillway(&["check", "-c", file]).await;
    assert!(code == Some(0) && !out.contains("ledger.ship.to"), "{out}");
    eventually("everything is shipped", async || of(&report(&place, "backend").await, "backend", "one") == upstream.counted()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_a_place_too_and_its_password_is_nowhere() {
    let mut redis = RedisServer::start(None);
    let upstream = Upstream::start(4).await;
    let url = format!("[redis]\nurl = \"redis://:CANARY-redis@127.0.0.1:{}\"\n", redis.port);
    let rest = consumer("crm", "") + &ship_to("redis", "") + &url;
    let text = config(&[member("one", &upstream.backend, 1)], "", &rest).replace("#server", "state_dir = \"STATE\"\nwatch = false");
    let nodes = [Process::launch(&text, &[]).await, Process::launch(&text, &[]).await];
    for node in &nodes {
        load(node, "crm", 4).await;
    }
    let file = nodes[0].file();
    let report = async || usage(&["--all-nodes", "-c", file.to_str().unwrap(), "--json", "--by", "backend"]).await;
    eventually("both have shipped", async || {
        let (code, out, error) = report().await;
        assert_eq!(code, Some(0), "{error}");
        of(&serde_json::from_str(&out).unwrap(), "backend", "one") == upstream.counted()
    })
    .await;
    let (_, table, _) = usage(&["--all-nodes", "-c", file.to_str().unwrap(), "--by", "consumer"]).await;
    assert!(table.contains("complete until") && table.contains("s ago)"), "{table}");
    redis.child.0.kill().unwrap();
    redis.child.0.wait().unwrap();
    load(&nodes[0], "crm", 1).await;
    eventually("it is told", async || nodes[0].log().contains("can't be shipped")).await;
    let (code, _, error) = report().await;
    assert!(code == Some(1) && error.contains("the shipped sums can't be read: Redis: can't be reached"), "{error}");
    for text in [nodes[0].log(), error, table] {
        assert!(!text.contains("CANARY"), "{text}");
    }
}

#[tokio::test]
async fn what_cannot_work_is_told_by_check_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().display().to_string();
    let backends = "[[backends]]\nname = \"a\"\nkind = \"openai\"\nurl = \"http://127.0.0.1:1\"\n[[pools]]\nname = \"p\"\nmodels = [\"m\"]\nmembers = [{ backend = \"a\" }]\n";
    let check = |server: &str, rest: &str| {
        let text = format!("[server]\nlisten = [\"127.0.0.1:0\"]\n{server}\n{backends}{rest}");
        let secrets = spillway::config::Secrets::default();
        spillway::config::Config::parse(&text, Path::new("t.toml"), &secrets).map(drop).map_err(|error| error.to_string())
    };
    let state = format!("state_dir = \"{here}\"");
    check(&state, &format!("[ledger.ship]\nto = \"{here}\"\nrows = true\nevery = \"30s\"\nretention = \"90d\"\n")).unwrap();
    for (server, rest, expected) in [
        ("", format!("[ledger.ship]\nto = \"{here}\"\n"), "needs a folder: set server.state_dir"),
        (&*state, "[ledger.ship]\nto = \"redis\"\n".to_owned(), "needs a [redis] section"),
        (&*state, "[ledger.ship]\nto = \"redis\"\nrows = true\n".to_owned(), "needs a folder in 'to'"),
        (&*state, "[ledger.ship]\nto = \"usage\"\n".to_owned(), "must be 'redis' or an absolute path"),
        (&*state, format!("[ledger.ship]\nto = \"{here}\"\nevery = \"10ms\"\n"), "must be from 1s to 1d"),
        (&*state, format!("[ledger.ship]\nto = \"{here}\"\nretention = \"2000d\"\n"), "longer than ledger.hours_retention"),
        (&*state, "[ledger.ship]\nevery = \"1m\"\n".to_owned(), "'to' is missing"),
    ] {
        let error = check(server, &rest).unwrap_err();
        assert!(error.contains(expected) && error.contains("t.toml:"), "{rest}: {error}");
    }
}

#[tokio::test]
async fn the_command_line_says_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let (code, _, error) = usage(&["--all-nodes", "--from", missing.to_str().unwrap()]).await;
    assert!(code == Some(1) && error.contains("missing' does not exist: mount the place"), "{error}");
    // Nothing is shipped yet: an empty report.
    let (code, out, error) = usage(&["--all-nodes", "--from", folder.path().to_str().unwrap(), "--json"]).await;
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), json!({ "rows": [], "nodes": [], "set_aside": [], "conflicts": [] }));
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let file = folder.path().join("spillway.toml");
    let state = tempfile::tempdir().unwrap();
    std::fs::write(&file, config(&[member("a", &backend, 1)], "", "").replace("#server", &state_dir(state.path()))).unwrap();
    let file = file.to_str().unwrap();
    for (arguments, expected) in [
        (&["-c", file, "--all-nodes"][..], "set ledger.ship.to, or give --from"),
        (&["-c", file, "--all-nodes", "--from", "redis"], "there is no [redis] section"),
        (&["-c", file, "--from", "/tmp"], "--all-nodes"),
        (&["-c", file, "--format", "focus", "--by", "model"], "--by has no effect on a FOCUS dataset"),
        (&["ship", "-c", file], "set ledger.ship.to"),
    ] {
        let (code, _, error) = usage(arguments).await;
        assert!(code != Some(0) && error.contains(expected), "{arguments:?}: {error}");
    }
    let gateway = Gateway::start(&std::fs::read_to_string(file).unwrap()).await;
    let request = post("/v1/chat/completions", &[], chat(false).to_string().as_bytes());
    assert_eq!(ask(gateway.address, request).await.unwrap().status, 200);
    ledger_of(state.path(), 1).await;
    let (code, out, error) = usage(&["-c", file, "--format", "focus"]).await;
    assert_eq!(code, Some(0), "{error}");
    let mut lines = out.lines();
    assert!(lines.next().unwrap().starts_with("BillingAccountId,BillingAccountName,") && lines.count() == 1, "{out}");
}

/// The lines of the blocks of a page that begin with ```` ```LANGUAGE ````.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let parts = page.split("\n```");
    parts
        .enumerate()
        .filter(|(at, _)| at % 2 == 1)
        .filter_map(|(_, block)| block.strip_prefix(&format!("{language}\n")).map(str::to_owned))
        .collect()
}

/// The config of docs/reports.md, with traffic, and each of its commands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_of_the_page_on_reports_works() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reports.md")).unwrap();
    let upstream = Upstream::start(5).await;
    let folder = tempfile::tempdir().unwrap();
    let (place, file, costs) = (folder.path().join("place"), folder.path().join("my.toml"), folder.path().join("costs.csv"));
    std::fs::create_dir(&place).unwrap();
    let text = blocks(&page, "toml")[0]
        .replace("/mnt/usage/spillway", place.to_str().unwrap())
        .replace("/var/lib/spillway", folder.path().join("state").to_str().unwrap())
        .replace("every = \"1m\"", "every = \"1s\"")
        .replace("https://api.openai.com", &upstream.backend.url());
    let process = Process::launch(&(text.clone() + "\n[log]\naccess = \"off\"\n"), &[]).await;
    std::fs::write(&file, text).unwrap();
    let body = json!({ "model": "gpt-4o", "messages": [] }).to_string();
    for team in ["red", "blue"] {
        let request = post("/v1/chat/completions", &[("x-team", team)], body.as_bytes());
        assert_eq!(ask(process.address, request).await.unwrap().status, 200);
    }
    eventually("it is shipped", async || of(&report(&place, "backend").await, "backend", "payg") == upstream.counted()).await;
    let today = report(&place, "day").await["rows"][0]["day"].as_str().unwrap().to_owned();
    let line = format!(
        "{today},/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/127,gpt 4o Inp glbl Tokens,0.02,1K,0.1"
    );
    std::fs::write(&costs, format!("Date,ResourceId,MeterName,Quantity,UnitOfMeasure,CostInBillingCurrency\n{line}\n")).unwrap();
    let mut ran = 0;
    for command in blocks(&page, "").iter().flat_map(|block| block.lines()).filter_map(|line| line.strip_prefix("spillway usage ")) {
        let command = command.split(" > ").next().unwrap();
        let words: Vec<String> = command
            .split(' ')
            .map(|word| match word {
                "my.toml" => file.display().to_string(),
                "costs.csv" => costs.display().to_string(),
                "/mnt/usage/spillway" => place.display().to_string(),
                // The months of the page are not those of the test.
                word if word.starts_with("2026-1") => {
                    if word.ends_with("11-01") {
                        "30d".to_owned()
                    } else {
                        "2100-01-01".to_owned()
                    }
                }
                word => word.to_owned(),
            })
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = Command::new(env!("CARGO_BIN_EXE_spillway")).arg("usage").args(&words).output().unwrap();
        assert!(output.status.success() && output.stdout.len() > 20, "{command}: {}", String::from_utf8_lossy(&output.stderr));
        ran += 1;
    }
    assert!(ran >= 9, "{ran}");
    // What the page says of files.
    let sums: Vec<_> = std::fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(sums.len(), 1);
    let mode = |path: &Path| std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o777;
    let day = sums[0].join(&today);
    let name = std::fs::read_dir(&day).unwrap().next().unwrap().unwrap().path();
    assert_eq!((mode(&name), mode(&day)), (0o640, 0o750));
}
