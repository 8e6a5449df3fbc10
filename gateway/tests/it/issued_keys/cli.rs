//! `spillway keys issue`, `revoke`, `rotate` and `list`.

use std::process::{Command, Output};

use spillway_plugins::auth::key_text::is_key;

use super::*;

async fn keys(process: &Process, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spillway"));
    command.arg("keys").args(arguments).arg("-c").arg(process.file());
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap().trim().to_owned()
}

#[tokio::test]
async fn keys_are_issued_rotated_and_revoked_at_the_running_gateway() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let process = Process::launch(&text(&backend, folder.path(), ""), &[]).await;
    process.write_config(&process.text().replacen("admin = \"127.0.0.1:0\"", &format!("admin = \"{}\"", process.admin), 1));
    let first = said(&keys(&process, &["issue", "--consumer", "crm", "--label", "ci", "--expires", "90d", "--models", "m,gpt-4o"]).await);
    assert!(is_key(&first), "{first}");
    assert_eq!(chat_with(process.address, &first).await, 200);
    let answer: Value = serde_json::from_str(&said(&keys(&process, &["issue", "--consumer", "web", "--json"]).await)).unwrap();
    let (id, other) = (answer["id"].as_str().unwrap(), answer["key"].as_str().unwrap());
    let second = said(&keys(&process, &["rotate", id, "--grace", "0s"]).await);
    assert!(is_key(&second));
    assert_eq!((chat_with(process.address, other).await, chat_with(process.address, &second).await), (401, 200));
    let id = listed(process.admin).await.iter().find(|key| key["consumer"] == "crm").unwrap()["id"].as_str().unwrap().to_owned();
    let list = said(&keys(&process, &["list"]).await);
    let row = list.lines().find(|line| line.contains(&id)).unwrap();
    assert!(row.starts_with("crm") && row.contains(" ci ") && row.contains("valid until ") && row.ends_with("just now"), "{list}");
    let answer: Value = serde_json::from_str(&said(&keys(&process, &["list", "--json"]).await)).unwrap();
    let issued: Vec<Value> = answer["keys"].as_array().unwrap().iter().filter(|key| key["source"] == "issued").cloned().collect();
    assert_eq!(issued, listed(process.admin).await);
    assert!(said(&keys(&process, &["revoke", &id]).await).ends_with("is revoked"));
    assert_eq!(chat_with(process.address, &first).await, 401);
    let list = said(&keys(&process, &["list"]).await);
    assert!(list.lines().any(|line| line.contains(&id) && line.contains("revoked 2")), "{list}");
    assert!([&first, &second].iter().all(|key| !list.contains(&key[8..20])));
    for (arguments, words) in [
        (&["issue", "--consumer", "nobody"][..], "no consumer 'nobody'"),
        (&["issue", "--consumer", "crm", "--expires", "soon"], "such as 90d"),
        (&["revoke", "key-0"], "no issued key has this id"),
        (&["rotate", &id], "revoked or expired"),
    ] {
        let output = keys(&process, arguments).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && error.contains(words), "{arguments:?}: {error}");
    }
}

#[tokio::test]
async fn the_list_names_owners_and_says_of_a_wrong_token_that_it_is_wrong() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let token = |token: &str| format!("admin_token = \"{token}\"\n");
    let text = text(&backend, folder.path(), "").replacen("state_dir", &(token("right") + "state_dir"), 1);
    let process = Process::launch(&text, &[]).await;
    let body = json!({ "consumer": "crm", "label": "ci", "owner": "ada@example.com" }).to_string();
    let made = post("/api/keys", &[("content-type", "application/json"), ("authorization", "Bearer right")], body.as_bytes());
    assert_eq!(ask(process.admin, made).await.unwrap().status, 201);
    process.write_config(&process.text().replacen("admin = \"127.0.0.1:0\"", &format!("admin = \"{}\"", process.admin), 1));
    let list = said(&keys(&process, &["list"]).await);
    let row = list.lines().find(|line| line.contains("key-")).unwrap();
    assert!(row.contains(" ci ") && row.contains(" ada@example.com ") && row.contains(" valid "), "{list}");
    process.write_config(&process.text().replace(&token("right"), &token("wrong")));
    for arguments in [&["list"][..], &["list", "--json"]] {
        let output = keys(&process, arguments).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && error.contains("the admin token is wrong"), "{arguments:?}: {error}");
    }
    let without = spillway_testkit::client::get(process.admin, "/api/keys").await.unwrap();
    assert!(without.status == 401 && without.text().contains("send the admin token as"), "{}", without.text());
}
