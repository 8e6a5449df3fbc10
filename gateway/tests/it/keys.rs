//! `spillway keys`.

use std::path::Path;
use std::process::{Command, Output};

use spillway_plugins::auth::key_text::is_key;
use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::{ask, post};

use crate::support::*;

fn keys(arguments: &[&str], pepper: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spillway"));
    command.arg("keys").args(arguments).envs(pepper.map(|pepper| ("PEPPER", pepper)));
    command.output().unwrap()
}

/// The key and the line for the config.
fn made(output: &Output) -> (String, String) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let (key, line) = text.trim().split_once('\n').unwrap();
    (key.to_owned(), line.to_owned())
}

#[tokio::test]
async fn a_new_key_works_as_pasted_and_is_listed_with_its_last_use() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let (key, line) = made(&keys(&["new", "--consumer", "crm", "--expires", "90d"], None));
    let (unused, later) = made(&keys(&["new", "--consumer", "crm", "--not-before", "2999-01-01"], None));
    assert!(is_key(&key) && is_key(&unused) && key != unused);
    assert!(!line.contains(&key) && line.contains("sha256 = ") && line.contains("expires = "), "{line}");
    let text = config(&[member("a", &backend, 1)], "", &format!("[[consumers]]\nname = \"crm\"\nkeys = [\n{line}\n{later}\n]\n"));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("c.toml");
    std::fs::write(&file, &text).unwrap();
    let list = async || {
        let file = file.clone();
        let output = tokio::task::spawn_blocking(move || keys(&["list", "-c", file.to_str().unwrap()], None)).await.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, before, error) = list().await;
    assert!(code == Some(1) && error.contains("Only the keys of the config") && error.contains("can't be reached"), "{error}");
    let row = |text: &str, key: &str| text.lines().find(|line| line.contains(&key[key.len() - 4..])).unwrap().to_owned();
    assert!(
        row(&before, &key).contains("today") && row(&before, &key).contains("valid until ") && row(&before, &key).ends_with('?'),
        "{before}"
    );
    let process = Process::launch(&text, &[]).await;
    std::fs::write(&file, text.replacen("admin = \"127.0.0.1:0\"", &format!("admin = \"{}\"", process.admin), 1)).unwrap();
    let status = async |key: &str| {
        ask(process.address, post("/v1/chat/completions", &[("api-key", key)], chat(false).to_string().as_bytes())).await.unwrap().status
    };
    assert_eq!((status(&key).await, status(&unused).await), (200, 401));
    let (code, after, error) = list().await;
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(row(&after, &key).ends_with("just now"), "{after}");
    assert!(row(&after, &unused).contains("not yet, from 2999-01-01") && row(&after, &unused).ends_with("not since the start"), "{after}");
    assert!(!after.contains(&key) && !before.contains(&key));
}

#[test]
fn a_pepper_in_the_config_is_used_and_consumers_are_looked_up() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("c.toml");
    let text = "[server]\nlisten = [\"127.0.0.1:0\"]\n\n[[backends]]\nname = \"a\"\nkind = \"openai\"\nurl = \"http://127.0.0.1:1\"\n\n[[pools]]\nname = \"p\"\nmodels = [\"m\"]\nmembers = [{ backend = \"a\" }]\n\n[[consumers]]\nname = \"crm\"\n\n[plugins.auth]\npepper = { env = \"PEPPER\" }\n";
    std::fs::write(&file, text).unwrap();
    let path: &Path = &file;
    let (key, line) = made(&keys(&["new", "--consumer", "crm", "-c", path.to_str().unwrap()], Some("pepper")));
    let expected = spillway_plugins::auth::Pepper::new(b"pepper").digest(key.as_bytes()).to_string();
    assert!(line.contains(&format!("hmac_sha256 = \"{expected}\"")), "{line}");
    let refused = keys(&["new", "--consumer", "nobody", "-c", path.to_str().unwrap()], Some("pepper"));
    assert!(refused.status.code() == Some(2) && String::from_utf8_lossy(&refused.stderr).contains("no consumer 'nobody'"));
    for bad in [["--expires", "soon"], ["--expires", "2001-01-01"]] {
        assert_eq!(keys(&[&["new", "--consumer", "crm"][..], &bad].concat(), None).status.code(), Some(2), "{bad:?}");
    }
}
