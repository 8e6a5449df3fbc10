//! Commands as operators and scripts use them: without the gateway's secrets, in pipes, and before the first request.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use spillway_testkit::backend::{Received, Reply, ScriptedBackend};

use crate::support::*;
use crate::usage::metered;

/// A config that calls nothing.
const MOCK: &str = r#"[server]
listen = ["127.0.0.1:0"]
admin = "127.0.0.1:0"
[[backends]]
name = "a"
kind = "mock"
[[pools]]
name = "p"
models = ["m"]
members = [{ backend = "a" }]
"#;

/// The exit code, standard output and standard error of a command.
async fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spillway"));
    command.args(arguments).env_remove("NOT_SET").stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// An Azure OpenAI resource with one deployment, `there`, that fails a request for a chat that has no messages.
async fn resource() -> ScriptedBackend {
    ScriptedBackend::start(|request: &Received| {
        let names = |name: &str| request.path().contains(&format!("/deployments/{name}/")) || request.json()["model"] == name;
        match request.path().split('?').next().unwrap_or_default() {
            "/openai/v1/models" | "/openai/models" => Reply::json(200, r#"{"data":[]}"#),
            _ if request.header("api-key") != Some("k") => Reply::json(401, "{}"),
            path if !path.ends_with("/chat/completions") || !request.json()["messages"].is_null() => Reply::json(500, "{}"),
            _ if names("there") => Reply::json(400, r#"{"error":{"message":"Missing required parameter: 'messages'."}}"#),
            _ if names("busy") => Reply::throttled(1000),
            _ if names("ill") => Reply::json(503, r#"{"error":{"message":"out of order"}}"#),
            _ => Reply::json(404, r#"{"error":{"code":"DeploymentNotFound","message":"The API deployment does not exist"}}"#),
        }
    })
    .await
}

async fn check_online(text: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    std::fs::write(&file, text).unwrap();
    let (code, out, err) = run(&["check", "--online", "-c", file.to_str().unwrap()]).await;
    (code, out + &err)
}

fn azure(backend: &ScriptedBackend, prefix: &str, api: &str, deployments: &str, models: &str) -> String {
    format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nallow_literal_secrets = true\n[[backends]]\nname = \"main\"\nkind = \"azure-openai\"\n\
         url = \"{}{prefix}\"\nauth = {{ type = \"api-key\", key = \"k\" }}\n{api}\ndeployments = {{ {deployments} }}\n\
         [[pools]]\nname = \"p\"\nmodels = [{models}]\nmembers = [{{ backend = \"main\" }}]\n",
        backend.url()
    )
}

#[tokio::test]
async fn check_online_asks_each_deployment_without_a_cost() {
    let backend = resource().await;
    for api in ["", "api = \"dated\""] {
        let good = azure(&backend, "", api, "\"gpt-4o\" = \"there\"", "\"gpt-4o\"");
        let (code, said) = check_online(&good).await;
        assert!(code == Some(0) && said.contains("main: ok\n") && said.contains("main: deployment 'there': ok\n"), "{said}");
        let typo = azure(&backend, "", api, "\"gpt-4o\" = \"ther\"", "\"gpt-4o\", \"there\"");
        let (code, said) = check_online(&typo).await;
        assert!(code == Some(1) && said.contains("main: deployment 'there': ok"), "{said}");
        assert!(said.contains("main: deployment 'ther' is not there (404: The API deployment does not exist)"), "{said}");
        assert!(said.contains("backends[0].deployments.gpt-4o names it"), "{said}");
        let unnamed = azure(&backend, "", api, "\"gpt-4o\" = \"there\"", "\"gpt-4o\", \"gpt-4o-mini\"");
        let (code, said) = check_online(&unnamed).await;
        assert!(code == Some(1) && said.contains("deployment 'gpt-4o-mini' is not there") && said.contains("pools[0].models[1]"), "{said}");
        let not_now = azure(&backend, "", api, "\"gpt-4o\" = \"busy\", \"gpt-4.1\" = \"ill\"", "\"gpt-4o\", \"gpt-4.1\"");
        let (code, said) = check_online(&not_now).await;
        assert!(code == Some(0) && said.contains("'busy': at its rate limit now, so it is there"), "{said}");
        assert!(said.contains("'ill': answered 503 (out of order): whether it is there isn't known"), "{said}");
    }
}

#[tokio::test]
async fn check_online_finds_a_wrong_path_and_models_that_are_not_listed() {
    let nothing = ScriptedBackend::start(|_| Reply::json(404, "{}")).await;
    let (code, said) = check_online(&azure(&nothing, "/team-a", "", "\"gpt-4o\" = \"there\"", "\"gpt-4o\"")).await;
    assert!(code == Some(1) && said.contains("/team-a/openai/v1/models; 'url' has the path '/team-a', which may be wrong"), "{said}");
    let (code, said) = check_online(&config(&[member("a", &nothing, 1)], "", "")).await;
    assert!(code == Some(0) && said.contains("a: ok (it doesn't list its models: 404)"), "{said}");
    let listing = ScriptedBackend::start(|_| Reply::json(200, r#"{"data":[{"id":"gpt-4o"},{"id":"text-embedding-3-small"}]}"#)).await;
    let (code, said) = check_online(&config(&[member("a", &listing, 1)], "", "")).await;
    assert!(code == Some(0) && said.contains("a: ok\na: note: its list of models has no 'm', which pools[0].models[0] names\n"), "{said}");
    assert_eq!(listing.count(), 1, "nothing is asked that may cost something");
    let (code, said) = check_online(MOCK).await;
    assert!(code == Some(0) && said.contains("nothing was asked: every backend is a mock"), "{said}");
}

/// A config whose secrets are all missing here.
fn without_secrets(folder: &Path) -> String {
    format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:1\"\nstate_dir = \"{}\"\n[[backends]]\nname = \"a\"\nkind = \"openai\"\n\
         url = \"https://localhost:9\"\nauth = {{ type = \"api-key\", key = {{ env = \"NOT_SET\" }} }}\nca = \"/nonexistent.pem\"\n\
         [[pools]]\nname = \"p\"\nmodels = [\"m\"]\nmembers = [{{ backend = \"a\" }}]\n[redis]\nurl = {{ credential = \"redis\" }}\n\
         [plugins.prompt_log]\nenabled = true\npath = \"{}\"\n[[consumers]]\nname = \"c\"\nkeys = [{{ sha256 = \"{}\" }}]\n",
        folder.join("state").display(),
        folder.join("logs/p.jsonl").display(),
        "a".repeat(64)
    )
}

#[tokio::test]
async fn commands_that_call_no_backend_need_no_secret_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    std::fs::write(&file, without_secrets(folder.path())).unwrap();
    // It makes the ledger.
    let gateway = format!("{MOCK}[log]\naccess = \"off\"\n").replacen(
        "[server]",
        &format!("[server]\n{}", state_dir(&folder.path().join("state"))),
        1,
    );
    Gateway::start(&gateway).await.running.stop(async {}).await;
    std::fs::create_dir(folder.path().join("logs")).unwrap();
    let file = file.to_str().unwrap();
    for (arguments, code) in [
        (vec!["usage"], 0),
        (vec!["usage", "export"], 0),
        (vec!["logs", "grep"], 1),
        (vec!["keys", "new", "--consumer", "c"], 0),
        // The gateway doesn't run: the keys of the config are listed.
        (vec!["keys", "list"], 1),
    ] {
        let (got, out, err) = run(&[&arguments[..], &["-c", file]].concat()).await;
        assert!(got == Some(code) && !err.contains("is not set") && !err.contains("NOT_SET"), "{arguments:?}: {got:?}\n{out}\n{err}");
    }
    let (_, keys, _) = run(&["keys", "list", "-c", file]).await;
    assert!(keys.contains("c  "), "{keys}");
    let (code, _, err) = run(&["usage", "--all-nodes", "--from", "redis", "-c", file]).await;
    assert!(code == Some(2) && err.contains("redis.url: credential redis: CREDENTIALS_DIRECTORY is not set"), "{err}");
    assert!(!err.contains("NOT_SET"), "{err}");
}

#[tokio::test]
async fn a_prompt_log_that_cannot_be_read_is_not_one_without_a_match() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    std::fs::write(&file, without_secrets(folder.path())).unwrap();
    let grep = ["logs", "grep", "-c", file.to_str().unwrap()];
    let logs = folder.path().join("logs");
    let (code, _, err) = run(&grep).await;
    assert!(code == Some(2) && err.contains(&format!("{}: No such file", logs.display())), "{code:?} {err}");
    std::fs::create_dir_all(&logs).unwrap();
    assert_eq!(run(&grep).await.0, Some(1), "nothing was recorded yet");
    // A circle of links can't be opened by anybody.
    std::os::unix::fs::symlink("p.jsonl.20260101T000000000", logs.join("p.jsonl.20260101T000000000")).unwrap();
    let (code, _, err) = run(&grep).await;
    assert!(code == Some(2) && err.contains("p.jsonl.20260101T000000000: Too many levels"), "{code:?} {err}");
}

#[test]
fn a_reader_that_leaves_ends_no_command_with_a_panic() {
    for arguments in [&["schema"][..], &["schema", "--format", "markdown"], &["completions", "bash"], &["--help"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_spillway"))
            .args(arguments)
            .env("RUST_BACKTRACE", "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success() && said.is_empty(), "{arguments:?}: {status} {said}");
    }
}

#[tokio::test]
async fn provisioned_throughput_without_a_price_costs_a_budget_nothing() {
    let backend = ScriptedBackend::start(metered).await;
    let folder = tempfile::tempdir().unwrap();
    let rest = consumer("crm", "limits = { budget = { usd = 0.0002, period = \"month\" } }") + "[ledger]\ndurability = \"strict\"\n";
    let extra = "ptu = { \"gpt-4o\" = { units = 15 }, m = { tokens_per_minute = 1000 }, \"text-embedding-3-small\" = { tokens_per_minute = 1000 } }";
    let text = config(&[Member { extra, ..member("a", &backend, 1) }], "", &rest).replace("#server", &state_dir(folder.path()));
    let gateway = Gateway::start(&text).await;
    let body = json!({ "model": "gpt-4o", "messages": [{ "role": "user", "content": "hi" }] });
    for _ in 0..3 {
        let answer = ask_as(gateway.address, "crm", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.code());
    }
    let row = ledger_rows(folder.path()).pop().unwrap();
    assert_eq!((&row["cost_usd"], row["input_tokens"].as_u64()), (&json!(0.0), Some(11)), "{row:#}");
    let usage = gateway.admin("/api/usage?by=consumer").await;
    let usage = usage.json();
    assert_eq!((usage["rows"][0]["cost_usd"].as_f64(), usage["rows"][0]["requests"].as_u64()), (Some(0.0), Some(3)), "{usage:#}");
}
