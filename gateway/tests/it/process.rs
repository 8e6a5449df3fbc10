//! The program itself: exit codes, signals, the mock backend and the demo.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::{Connection, ask, get, post};

use crate::support::*;

fn spillway(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spillway"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn started(backend: &ScriptedBackend, server: &str) -> Process {
    Process::start(&config(&[member("a", backend, 1)], "", "").replace("#server", server), &[])
}

impl Process {
    /// Waits for the end; its exit code and how long it took.
    async fn end(&mut self) -> (Option<i32>, Duration) {
        let began = Instant::now();
        for _ in 0..1000 {
            if let Some(status) = self.child.0.try_wait().unwrap() {
                return (status.code(), began.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it goes on and on");
    }
}

#[test]
fn a_broken_config_lists_every_error_and_fails() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("broken.toml");
    std::fs::write(&file, "[server]\nlisten = [\"nowhere\"]\nmax_bdy = \"1MiB\"\n\n[[pools]]\nname = \"p\"\nmodels = [\"m\"]\nmembers = [{ backend = \"gone\" }]\n").unwrap();
    for command in ["check", "run"] {
        let output = spillway(&[command, "-c", file.to_str().unwrap()]).output().unwrap();
        let text = text(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        for expected in [
            "broken.toml:2:11: server.listen[0]: 'nowhere' is not an address",
            "broken.toml:3:1: server.max_bdy: unknown key; did you mean 'max_body'?",
            "broken.toml:8:14: pools[0].members[0].backend: unknown backend 'gone'",
        ] {
            assert!(text.contains(expected), "{expected} is missing in\n{text}");
        }
    }
    let missing = spillway(&["check", "-c", "/nonexistent.toml"]).output().unwrap();
    assert!(missing.status.code() == Some(2) && text(&missing).contains("/nonexistent.toml"));
}

#[test]
fn every_example_passes_the_check() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap().flatten().filter(|file| file.path().extension().is_some_and(|e| e == "toml")) {
        let mut command = spillway(&["check", "-c", file.path().to_str().unwrap()]);
        let output = command
            .envs(["AOAI_FRANCE_KEY", "AOAI_PTU_KEY", "AOAI_SWEDEN_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"].map(|name| (name, "k")))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}\n{}", file.path().display(), text(&output));
        count += 1;
    }
    assert!(count >= 3);
}

#[tokio::test]
async fn a_port_in_use_ends_the_start_at_once() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, "{}")).await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("c.toml");
    let address = taken.local_addr().unwrap().to_string();
    std::fs::write(&file, config(&[member("a", &backend, 1)], "", "").replacen("127.0.0.1:0", &address, 1)).unwrap();
    let began = Instant::now();
    let output = tokio::task::spawn_blocking(move || spillway(&["run", "-c", file.to_str().unwrap()]).output().unwrap()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(60));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains(&format!("can't listen on {address}")), "{}", text(&output));
}

#[tokio::test]
async fn hangups_are_survived_and_an_idle_gateway_stops_at_once() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let mut process = started(&backend, "");
    process.signal("-HUP");
    let mut kept = Connection::open(process.address).await.unwrap();
    kept.send(post("/v1/chat/completions", &[], chat(false).to_string().as_bytes())).await.unwrap();
    assert_eq!(kept.answer().await.unwrap().status, 200);
    process.signal("-TERM");
    let (code, took) = process.end().await;
    assert_eq!(code, Some(0));
    // It would wait for five minutes if it waited for the connection.
    assert!(took < Duration::from_secs(60), "{took:?}, with an idle connection open");
}

#[tokio::test]
async fn a_stop_lets_streams_finish_and_a_second_signal_hurries() {
    let hold = std::sync::Arc::new(tokio::sync::Notify::new());
    let backend = ScriptedBackend::start({
        let hold = hold.clone();
        move |_| Reply::sse([role(), delta("a")]).then(Step::Until(hold.clone())).then(Step::Write((stop() + DONE).into_bytes()))
    })
    .await;
    let request = post("/v1/chat/completions", &[], chat(true).to_string().as_bytes());
    let mut process = started(&backend, "lb_delay = \"300ms\"");
    let mut stream = Connection::open(process.address).await.unwrap();
    stream.send(&request).await.unwrap();
    assert_eq!(stream.answer_head().await.unwrap().0, 200);
    process.signal("-TERM");
    eventually("not ready, while it still listens", async || get(process.admin, "/readyz").await.is_ok_and(|answer| answer.status == 503))
        .await;
    eventually("the listener closes", async || Connection::open(process.address).await.is_err()).await;
    hold.notify_one();
    let mut body = Vec::new();
    while let Some(chunk) = stream.chunk().await.unwrap() {
        if chunk.is_empty() {
            break;
        }
        body.extend(chunk);
    }
    assert!(String::from_utf8(body).unwrap().ends_with(DONE));
    assert_eq!(process.end().await.0, Some(0));

    let mut process = started(&backend, "");
    let mut stream = Connection::open(process.address).await.unwrap();
    stream.send(&request).await.unwrap();
    assert_eq!(stream.answer_head().await.unwrap().0, 200);
    process.signal("-TERM");
    eventually("the listener closes", async || Connection::open(process.address).await.is_err()).await;
    process.signal("-TERM");
    let (code, took) = process.end().await;
    assert!(code == Some(0) && took < Duration::from_secs(60), "{code:?} {took:?}");
}

#[tokio::test]
async fn the_access_log_can_be_for_people() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let text = config(&[member("a", &backend, 1)], "", "").replace("access = \"off\"", "format = \"text\"");
    let process = Process::launch(&text, &[]).await;
    process.chat().await;
    eventually("a line", async || process.stdout().contains('\n')).await;
    let line = process.stdout();
    assert!(line.contains(" 200 ok chat m consumer=- a/m=ok ") && line.contains("ms id="), "{line}");
}

#[tokio::test]
async fn the_access_log_tells_every_attempt() {
    let throttled = ScriptedBackend::start(|_| Reply::throttled(60_000)).await;
    let good = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("access.jsonl");
    let text = config(&[member("ptu", &throttled, 1), member("payg", &good, 2)], "", "")
        .replace("access = \"off\"", &format!("access = \"{}\"", log.display()));
    let gateway = Gateway::start(&text).await;
    gateway.chat().await;
    gateway.post("/v1/chat/completions", &serde_json::json!({ "model": "none" })).await;
    let lines = async || {
        std::fs::read_to_string(&log)
            .unwrap_or_default()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .collect::<Vec<_>>()
    };
    eventually("two lines", async || lines().await.len() == 2).await;
    let lines = lines().await;
    let attempts: Vec<(&str, &str, u64)> = lines[0]["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| (a["backend"].as_str().unwrap(), a["outcome"].as_str().unwrap(), a["status"].as_u64().unwrap()))
        .collect();
    assert_eq!(attempts, [("ptu", "throttled", 429), ("payg", "ok", 200)]);
    assert_eq!(
        (&lines[0]["status"], &lines[0]["end"], &lines[0]["pool"], &lines[0]["model"]),
        (&200.into(), &"ok".into(), &"pool".into(), &"m".into())
    );
    assert_eq!((&lines[1]["status"], &lines[1]["end"], &lines[1]["code"]), (&404.into(), &"refused".into(), &"model_not_found".into()));
}

/// A mock backend as a process.
fn mock(arguments: &[&str]) -> (Killed, SocketAddr) {
    let mut child = Killed(spillway(&[&["mock", "--listen", "127.0.0.1:0"], arguments].concat()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(child.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().rsplit('/').next().unwrap().parse().unwrap();
    (child, address)
}

/// A mock backend as a process, with a config.
fn mock_with(settings: &str) -> (Killed, SocketAddr) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), settings).unwrap();
    mock(&["--config", file.path().to_str().unwrap()])
}

#[tokio::test]
async fn the_mock_speaks_like_azure() {
    let (_mock, address) =
        mock_with("test_mode = true\nreply = \"one two three\"\n[default]\nptu = { tokens_per_minute = 600, utilisation_header = true }");
    let chat = |stream: bool| {
        serde_json::json!({ "stream": stream, "max_tokens": 50, "messages": [{ "role": "user", "content": "x" }], "stream_options": { "include_usage": true } }).to_string()
    };
    let dated = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
    let plain = ask(address, post(dated, &[], chat(false).as_bytes())).await.unwrap();
    assert_eq!((plain.status, plain.json()["choices"][0]["message"]["content"].as_str()), (200, Some("one two three")));
    assert!(plain.header("azure-openai-deployment-utilization").unwrap().ends_with('%'));
    assert_eq!(plain.header("x-ms-region"), Some("Sweden Central"));
    let streamed = ask(address, post(dated, &[], chat(true).as_bytes())).await.unwrap().text();
    let events: Vec<&str> = streamed.split("\n\n").filter(|event| !event.is_empty()).collect();
    assert!(
        events[0].contains("prompt_filter_results")
            && events[events.len() - 2].contains("\"prompt_tokens\"")
            && events[events.len() - 1] == "data: [DONE]",
        "{streamed}"
    );
    assert_eq!(
        ask(address, post("/openai/deployments/gpt-4o/chat/completions", &[], chat(false).as_bytes())).await.unwrap().code(),
        "404",
        "no api-version"
    );
    for (fault, status) in [("status=503", 503), ("throttle=1500", 429)] {
        let got = ask(address, post(dated, &[("x-mock-fault", fault)], chat(false).as_bytes())).await.unwrap();
        assert_eq!(got.status, status);
        assert_eq!(got.header("retry-after-ms").is_some(), status == 429);
    }
    let (_ptu, silent) = mock(&["--ptu", "600"]);
    let got = ask(silent, post(dated, &[], chat(false).as_bytes())).await.unwrap();
    assert_eq!((got.status, got.header("azure-openai-deployment-utilization")), (200, None), "Azure doesn't tell");
    let (_unlimited, free) = mock(&["--test-mode"]);
    let cut = ask(free, post(dated, &[("x-mock-fault", "cut=2")], chat(true).as_bytes())).await.unwrap();
    assert_eq!(cut.ended, spillway_testkit::wire::Ended::Cut);
    // 600 tokens a minute in bursts of ten seconds: full after a few requests.
    let mut throttled = None;
    for _ in 0..20 {
        let got = ask(address, post(dated, &[], chat(false).replace("50", "60").as_bytes())).await.unwrap();
        if got.status == 429 {
            throttled = Some(got);
            break;
        }
    }
    let throttled = throttled.expect("the PTU fills up");
    assert!(throttled.header("retry-after-ms").unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(throttled.code(), "429");
}

#[tokio::test]
async fn a_ptu_of_the_mock_counts_what_azure_counts() {
    let (_mock, address) = mock_with(
        "reply = \"x\"\n[default]\nptu = { tokens_per_minute = 60000, output_ratio = 8, utilisation_header = true, guess = 100 }",
    );
    let utilisation = async |cap: &str, prompt: &str| {
        let body = format!("{{\"model\":\"m\"{cap},\"messages\":[{{\"role\":\"user\",\"content\":\"{prompt}\"}}]}}");
        let got = ask(address, post("/v1/chat/completions", &[], body.as_bytes())).await.unwrap();
        let cached = got.json()["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64();
        (got.header("azure-openai-deployment-utilization").unwrap().trim_end_matches('%').parse::<f64>().unwrap(), cached)
    };
    let long = "word ".repeat(1000);
    let (first, cached) = utilisation(",\"max_tokens\":500", &long).await;
    assert!((52.0..54.0).contains(&first) && cached == Some(0), "1,250 tokens and 500 at the weight of 8: {first}, {cached:?}");
    let (second, cached) = utilisation("", &long).await;
    assert!(second < 22.0, "{second}: the cap was given back, the prompt is cached, 100 are guessed");
    assert!(cached.is_some_and(|cached| cached > 1000), "{cached:?}");
}

#[tokio::test]
async fn answers_of_the_mock_that_end_early_keep_nothing_reserved() {
    // 100 tokens in a burst, of which each request reserves more than 90.
    let (_mock, address) =
        mock_with("test_mode = true\nreply = \"x\"\n[default]\nptu = { tokens_per_minute = 600, utilisation_header = true }");
    let path = "/v1/chat/completions";
    let body = |most: u64| format!("{{\"model\":\"m\",\"stream\":true,\"max_tokens\":{most},\"messages\":[]}}");
    // What is asked for meanwhile uses nothing.
    let used = async || {
        let got = ask(address, post(path, &[("x-mock-fault", "status=503")], body(1).as_bytes())).await.unwrap();
        got.header("azure-openai-deployment-utilization").unwrap().trim_end_matches('%').parse::<f64>().unwrap()
    };
    for fault in ["cut=1", "status=503", "throttle=10"] {
        let got = ask(address, post(path, &[("x-mock-fault", fault)], body(90).as_bytes())).await;
        assert!(got.is_ok_and(|got| got.header("azure-openai-deployment-utilization").is_some()), "{fault}: it was admitted");
        // The caller may see the end of its answer a moment before the mock does.
        eventually("nothing is reserved", async || used().await < 50.0).await;
    }
    let mut left = Connection::open(address).await.unwrap();
    left.send(post(path, &[("x-mock-fault", "stall=1")], body(90).as_bytes())).await.unwrap();
    assert_eq!(left.answer_head().await.unwrap().0, 200);
    drop(left);
    eventually("nothing is reserved", async || used().await < 50.0).await;
}

#[test]
fn the_demo_shows_a_spillover_without_a_visible_429() {
    let directory = tempfile::tempdir().unwrap();
    let picture = directory.path().join("run.svg");
    let mut child = Killed(spillway(&["demo", "--picture", picture.to_str().unwrap()]).spawn().unwrap());
    let mut out = String::new();
    child.0.stdout.as_mut().unwrap().read_to_string(&mut out).unwrap();
    assert!(child.0.wait().unwrap().success(), "{out}");
    assert!(out.contains("callers saw 0 of them"), "{out}");
    let absorbed =
        out.lines().find_map(|line| line.split_once(" times a deployment answered 429")?.0.rsplit(' ').next()?.parse::<u64>().ok());
    assert!(absorbed.is_some_and(|count| count > 0), "{out}");
    // The picture shows what the lines say.
    let svg = std::fs::read_to_string(&picture).unwrap();
    let absorbed = absorbed.unwrap();
    assert!(
        svg.starts_with("<svg ") && svg.contains(&format!("429 from a deployment: {absorbed}")) && svg.contains("429 seen by a caller: 0")
    );
    for name in ["ptu-sweden", "payg-sweden", "payg-france"] {
        assert!(out.lines().any(|line| line.starts_with(name)) && svg.contains(&format!("<title>{name}, second ")), "{name}");
    }
}

#[test]
fn the_schema_is_json_schema() {
    let output = spillway(&["schema"]).output().unwrap();
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["title"], "Spillway configuration");
    assert_eq!(schema["additionalProperties"], false);
    assert!(schema["$defs"]["RawPool"]["properties"]["circuit"].is_object());
}
