//! `spillway init`, as a program: flags, answers through a pipe, what it writes, and what it refuses.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use spillway_plugins::auth::key_text::is_key;
use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::{ask, post};

use crate::support::*;

fn init(folder: &Path, flags: &[&str], answers: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spillway"));
    command.arg("init").arg("--directory").arg(folder).args(flags).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may end before it reads.
    let _ = child.stdin.take().unwrap().write_all(answers.as_bytes());
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn check(folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spillway"));
    command.args(["check", "-c"]).arg(folder.join("spillway.toml")).env("CREDENTIALS_DIRECTORY", folder.join("credentials"));
    command.output().unwrap()
}

/// All files below a folder, with their modes.
fn files(folder: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            let (path, metadata) = (entry.path(), entry.metadata().unwrap());
            if metadata.is_dir() {
                open.push(path);
            } else {
                found.push((path.strip_prefix(folder).unwrap().to_owned(), metadata.permissions().mode() & 0o777));
            }
        }
    }
    found.sort();
    found
}

fn named(files: &[(PathBuf, u32)]) -> Vec<(&str, u32)> {
    files.iter().map(|(path, mode)| (path.to_str().unwrap(), *mode)).collect()
}

const FLAGS: [&str; 11] = [
    "--resource",
    "contoso-ptu",
    "--deployment",
    "gpt4o-ptu",
    "--model",
    "gpt-4o",
    "--ptu",
    "100",
    "--overflow",
    "contoso-frc=gpt-4o",
    "--yes",
];

#[test]
fn flags_write_a_config_that_passes_the_check() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("new/spillway");
    let output = init(&folder, &[&FLAGS[..], &["--managed-identity", "--consumer", "crm-bot"]].concat(), "");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(named(&files(&folder)), [("keys/crm-bot", 0o600), ("spillway.toml", 0o640)]);
    assert!(is_key(std::fs::read_to_string(folder.join("keys/crm-bot")).unwrap().trim()));
    let checked = check(&folder);
    assert!(checked.status.success() && !said(&checked).contains("warning"), "{}", said(&checked));
    assert!(said(&output).contains("Next:\n  1. spillway check -c "), "{}", said(&output));
}

#[test]
fn answers_through_a_pipe_write_keys_and_the_drop_in() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let answers = "contoso-ptu\ngpt4o-ptu\ngpt-4o\n100\ncontoso-frc=gpt-4o\n\nno\nfirst-secret\nsecond-secret\n\n";
    let output = init(folder, &[], answers);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(
        named(&files(folder)),
        [
            ("credentials/contoso-frc", 0o600),
            ("credentials/contoso-ptu", 0o600),
            ("keys/app", 0o600),
            ("spillway.service.d/credentials.conf", 0o644),
            ("spillway.toml", 0o640),
        ]
    );
    assert_eq!(std::fs::read_to_string(folder.join("credentials/contoso-ptu")).unwrap(), "first-secret\n");
    let drop_in = std::fs::read_to_string(folder.join("spillway.service.d/credentials.conf")).unwrap();
    assert!(drop_in.contains(&format!("\nLoadCredential=contoso-frc:{}/credentials/contoso-frc\n", folder.display())), "{drop_in}");
    let key = std::fs::read_to_string(folder.join("keys/app")).unwrap();
    let config = std::fs::read_to_string(folder.join("spillway.toml")).unwrap();
    for secret in ["first-secret", "second-secret", key.trim()] {
        assert!(!said(&output).contains(secret) && !config.contains(secret) && !drop_in.contains(secret), "{}", said(&output));
    }
    assert!(check(folder).status.success(), "{}", said(&check(folder)));
}

#[test]
fn what_exists_is_not_overwritten_and_nothing_else_is_written() {
    for occupied in ["spillway.toml", "spillway.service.d/credentials.conf", "credentials/contoso-frc", "keys/crm-bot"] {
        let temporary = tempfile::tempdir().unwrap();
        let (folder, key) = (temporary.path().join("to"), temporary.path().join("key"));
        std::fs::write(&key, "secret\n").unwrap();
        let path = folder.join(occupied);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "mine").unwrap();
        let (first, second) = (format!("contoso-ptu={}", key.display()), format!("contoso-frc={}", key.display()));
        let output = init(&folder, &[&FLAGS[..], &["--key-file", &first, "--key-file", &second, "--consumer", "crm-bot"]].concat(), "");
        let text = said(&output);
        assert!(
            output.status.code() == Some(2) && text.contains(&format!("{} exists, and nothing is overwritten", path.display())),
            "{text}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        let left: Vec<PathBuf> = files(&folder).into_iter().map(|(path, _)| path).collect();
        assert_eq!(left, [Path::new(occupied)], "{text}");
    }
}

#[test]
fn the_packages_own_config_makes_room_if_nobody_has_changed_it() {
    let packaged = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/debian/spillway.toml")).unwrap();
    let flags = [&FLAGS[..], &["--managed-identity"]].concat();
    let temporary = tempfile::tempdir().unwrap();
    let config = temporary.path().join("spillway.toml");
    std::fs::write(&config, packaged.clone() + "# mine\n").unwrap();
    assert_eq!(init(temporary.path(), &flags, "").status.code(), Some(2));
    std::fs::write(&config, &packaged).unwrap();
    let output = init(temporary.path(), &flags, "");
    assert!(output.status.success() && said(&output).contains("spillway.toml.package"), "{}", said(&output));
    assert_eq!(std::fs::read_to_string(temporary.path().join("spillway.toml.package")).unwrap(), packaged);
    assert!(check(temporary.path()).status.success());
}

#[test]
fn bad_flags_and_missing_answers_name_the_flag() {
    let temporary = tempfile::tempdir().unwrap();
    let bad = temporary.path().join("bad");
    std::fs::write(&bad, "two words\n").unwrap();
    let bad = format!("contoso={}", bad.display());
    for (flags, answers, expected) in [
        (&["--yes"][..], "", "--resource is missing"),
        (&[], "contoso\n", "no answer to \"Name of its deployment\": give --deployment, or --yes"),
        (&[], "contoso\ngpt-4o\n\nmany\n", "--ptu: 'many' is not a number of PTUs"),
        (&["--resource", "http://contoso.openai.azure.com", "--yes"], "", "is not encrypted"),
        (&["--resource", "contoso", "--deployment", "gpt-4o", "--yes"], "", ""),
        (&["--key-file", "nothing"], "", "--key-file: 'nothing' is not NAME=FILE"),
        (&["--key-file", "contoso=/nonexistent"], "", "--key-file: can't read /nonexistent"),
        (&["--key-file", &bad], "", "--key-file: this is not a key"),
    ] {
        let folder = temporary.path().join(format!("to-{}", expected.len()));
        let output = init(&folder, flags, answers);
        let text = said(&output);
        if expected.is_empty() {
            assert!(output.status.success(), "the defaults are enough: {text}");
            continue;
        }
        assert!(output.status.code() == Some(2) && text.contains(expected) && !text.contains("two words"), "{text}");
        assert!(files(&folder).is_empty());
    }
}

#[tokio::test]
async fn what_is_written_serves_a_request_and_asks_for_its_key() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("served"))).await;
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let key = folder.join("mock.key");
    std::fs::write(&key, "secret-of-the-mock").unwrap();
    let key = format!("ptu={}", key.display());
    let url = backend.url();
    let flags = ["--resource", url.as_str(), "--deployment", "gpt4o-ptu", "--model", "gpt-4o", "--ptu", "15", "--key-file", &key, "--yes"];
    let output = init(&folder.join("etc"), &flags, "");
    assert!(output.status.success(), "{}", said(&output));
    let text = std::fs::read_to_string(folder.join("etc/spillway.toml")).unwrap();
    // Only the ports are those of a test.
    let text = text.replace("127.0.0.1:8080", "127.0.0.1:0").replace("127.0.0.1:9090", "127.0.0.1:0");
    let credentials = folder.join("etc/credentials");
    let process = Process::launch(&text, &[("CREDENTIALS_DIRECTORY", &credentials)]).await;
    let application = std::fs::read_to_string(folder.join("etc/keys/app")).unwrap();
    let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;
    let with = async |key: &str| ask(process.address, post("/v1/chat/completions", &[("api-key", key)], body.as_bytes())).await.unwrap();
    assert_eq!(with("spw_wrong").await.status, 401);
    let served = with(application.trim()).await;
    assert!(served.status == 200 && served.text().contains("served"), "{}", served.text());
    let received = backend.received();
    assert_eq!(received.len(), 1);
    assert!(received[0].json()["model"] == "gpt4o-ptu" && received[0].header("api-key") == Some("secret-of-the-mock"));
}
