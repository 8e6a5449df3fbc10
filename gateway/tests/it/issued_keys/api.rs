//! The admin listener's paths for keys and audit.

use serde_json::json;
use spillway_plugins::auth::key_text::is_key;
use spillway_testkit::client::{get, post};

use super::*;

#[tokio::test]
async fn an_issued_key_works_at_once_until_it_is_revoked() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let gateway = Gateway::start(&text(&backend, folder.path(), "")).await;
    let admin = gateway.running.admin;
    let body = json!({ "consumer": "crm", "label": "ci runner", "owner": "ada", "expires": "90d", "models": ["m"] });
    let (id, key) = issue(admin, body).await;
    assert!(is_key(&key) && id.starts_with("key-"), "{id} {key}");
    assert_eq!((chat_with(gateway.address, &key).await, chat_with(gateway.address, "crm").await), (200, 200));
    let shown = &listed(admin).await[0];
    for (name, value) in [
        ("id", json!(id)),
        ("consumer", json!("crm")),
        ("label", json!("ci runner")),
        ("owner", json!("ada")),
        ("models", json!(["m"])),
        ("by", json!("local")),
        ("state", json!("valid")),
        ("revoked", json!(null)),
    ] {
        assert_eq!(shown[name], value, "{name} of {shown}");
    }
    let lifetime = shown["expires"].as_i64().unwrap() - shown["created"].as_i64().unwrap();
    assert!(lifetime == 90 * 86_400 && shown["last_use"].as_i64() >= shown["created"].as_i64(), "{shown}");
    assert!(key.ends_with(&shown["hint"].as_str().unwrap()[13..]));
    assert_eq!(gateway.metric("spillway_issued_keys").await, 1.0);
    let got = revoke(admin, &id).await;
    assert_eq!((got.status, &got.json()["state"]), (200, &json!("revoked")));
    assert_eq!(got.json()["last_use"], shown["last_use"], "when it was used is known");
    let audit = audited(admin, "?limit=1").await;
    assert_eq!(audit[0]["after"]["last_use"], shown["last_use"], "{audit:?}");
    assert_eq!((chat_with(gateway.address, &key).await, chat_with(gateway.address, "crm").await), (401, 200));
    let first = listed(admin).await;
    assert_eq!(first[0]["last_use"], shown["last_use"], "a refused call is no use");
    assert_eq!(revoke(admin, &id).await.status, 200, "to revoke it again changes nothing");
    assert_eq!(listed(admin).await, first);
    assert_eq!(gateway.metric("spillway_issued_keys").await, 0.0);
}

#[tokio::test]
async fn a_key_for_fewer_models_than_its_consumer_opens_no_others() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let gateway = Gateway::start(&text(&backend, folder.path(), "")).await;
    let admin = gateway.running.admin;
    let (_, narrow) = issue(admin, json!({ "consumer": "crm", "models": ["gpt-4o"] })).await;
    let status = async |path: &str, body: serde_json::Value| {
        let got = ask(gateway.address, post(path, &[("api-key", &narrow)], body.to_string().as_bytes())).await.unwrap();
        (got.status, got.code())
    };
    let of = |model: &str| json!({ "model": model, "messages": [{ "role": "user", "content": "hi" }] });
    assert_eq!(status("/v1/chat/completions", of("gpt-4o")).await.0, 200);
    assert_eq!(status("/v1/chat/completions", of("m")).await, (403, "model_not_allowed".to_owned()));
    let embeddings = json!({ "model": "text-embedding-3-small", "input": "x" });
    assert_eq!(status("/v1/embeddings", embeddings).await, (403, "model_not_allowed".to_owned()));
    let request = format!("GET /v1/models HTTP/1.1\r\nhost: g\r\napi-key: {narrow}\r\n\r\n");
    let models = ask(gateway.address, request).await.unwrap().json();
    let ids: Vec<&str> = models["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["gpt-4o"]);
    // A batch's file names its models.
    let request = post("/v1/batches", &[("api-key", &narrow)], json!({ "input_file_id": "file-1" }).to_string().as_bytes());
    assert_eq!(ask(gateway.address, request).await.unwrap().code(), "api_not_allowed");
    let wider = send(admin, "POST", "/api/keys", &json!({ "consumer": "web", "models": ["gpt-4o"] }).to_string()).await;
    assert_eq!((wider.status, &wider.json()["error"]["field"]), (422, &json!("models")), "{}", wider.text());
}

#[tokio::test]
async fn a_rotated_key_ends_after_its_grace() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let gateway = Gateway::start(&text(&backend, folder.path(), "")).await;
    let admin = gateway.running.admin;
    let (old, old_key) = issue(admin, json!({ "consumer": "crm", "label": "ci", "expires": "10d" })).await;
    let rotate = async |id: &str, body: &str| send(admin, "POST", &format!("/api/keys/{id}/rotate"), body).await;
    let got = rotate(&old, "").await;
    assert_eq!(got.status, 201, "{}", got.text());
    let (new, new_key) = (got.json()["id"].as_str().unwrap().to_owned(), got.json()["key"].as_str().unwrap().to_owned());
    assert_eq!((chat_with(gateway.address, &old_key).await, chat_with(gateway.address, &new_key).await), (200, 200));
    let of = async |id: &str| listed(admin).await.into_iter().find(|key| key["id"] == id).unwrap();
    let span = |key: &serde_json::Value| key["expires"].as_i64().unwrap() - key["created"].as_i64().unwrap();
    assert_eq!(of(&new).await["label"], "ci");
    assert!((86_400..86_500).contains(&span(&of(&old).await)), "a day, unless the request says so");
    assert_eq!(span(&of(&new).await), 10 * 86_400, "as long as the old one was meant to last");
    let again = rotate(&old, r#"{ "grace": "0s" }"#).await;
    assert_eq!((again.status, again.text().contains("rotate that one")), (409, true), "a key has one successor: {}", again.text());
    assert_eq!(revoke(admin, &old).await.status, 200);
    assert_eq!((chat_with(gateway.address, &old_key).await, chat_with(gateway.address, &new_key).await), (401, 200));
    assert_eq!(rotate(&old, "").await.status, 409, "it has ended");
    assert_eq!(rotate("key-0", "").await.status, 404);
}

#[tokio::test]
async fn bad_requests_name_the_field_and_issue_nothing() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let gateway = Gateway::start(&text(&backend, folder.path(), "")).await;
    let admin = gateway.running.admin;
    let long = format!(r#"{{ "consumer": "crm", "label": "{}" }}"#, "x".repeat(129));
    for (body, status, field, words) in [
        (r#"{ "consumer": "nobody" }"#, 422, Some("consumer"), "known: crm, web"),
        ("{}", 400, Some("consumer"), "missing"),
        (r#"{ "consumer": "crm", "expires": "soon" }"#, 400, Some("expires"), "such as 90d"),
        (r#"{ "consumer": "crm", "expires": "2001-01-01" }"#, 422, Some("expires"), "never be valid"),
        (r#"{ "consumer": "crm", "not_before": "20d", "expires": "10d" }"#, 422, Some("expires"), "never be valid"),
        (r#"{ "consumer": "crm", "label": "a\u0007b" }"#, 422, Some("label"), "control characters"),
        (&long, 422, Some("label"), "128"),
        (r#"{ "consumer": "crm", "models": [] }"#, 422, Some("models"), "1 to 100"),
        (r#"{ "consumer": "crm", "models": ["unheard-of"] }"#, 422, Some("models"), "no model 'unheard-of'"),
        (r#"{ "consumer": "crm", "secret": "x" }"#, 400, Some("secret"), "unknown field"),
        ("[]", 400, None, "JSON object"),
        ("{\n \"consumer\": }", 400, None, "line 2"),
    ] {
        let got = send(admin, "POST", "/api/keys", body).await;
        let error = &got.json()["error"];
        assert_eq!((got.status, error["field"].as_str()), (status, field), "{body}: {}", got.text());
        assert!(error["message"].as_str().unwrap().contains(words), "{body}: {}", got.text());
    }
    let got = send(admin, "POST", "/api/keys", &"x".repeat(65_537)).await;
    assert_eq!(got.status, 413, "{}", got.text());
    for (method, path, status) in [
        ("PUT", "/api/keys", 405),
        ("DELETE", "/api/keys", 405),
        ("POST", "/api/keys/key-1", 405),
        ("GET", "/api/keys/key-1", 405),
        ("DELETE", "/api/keys/key-1/rotate", 405),
        ("DELETE", "/api/keys/key-1", 404),
    ] {
        assert_eq!(send(admin, method, path, "").await.status, status, "{method} {path}");
    }
    assert!(listed(admin).await.is_empty());
    // Those that were understood are recorded as refused.
    let acts = audited(admin, "").await;
    assert!(acts.iter().all(|act| act["result"] == "failed") && acts.iter().any(|act| act["what"] == "key.issue"), "{acts:#?}");
}

#[tokio::test]
async fn without_a_folder_for_them_keys_are_refused_with_the_remedy() {
    let backend = backend().await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &consumer("crm", ""))).await;
    let got = send(gateway.running.admin, "POST", "/api/keys", &for_crm().to_string()).await;
    assert!(got.status == 404 && got.text().contains("set server.state_dir"), "{}", got.text());
    let got = gateway.admin("/api/audit").await;
    assert!(got.status == 404 && got.text().contains("set server.state_dir"), "{}", got.text());
    let keys = gateway.admin("/api/keys").await.json();
    assert_eq!((keys["keys"].as_array().unwrap().len(), &keys["keys"][0]["source"]), (1, &json!("config")));
}

#[tokio::test]
async fn a_key_is_refused_while_its_consumer_is_not_in_the_config() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let whole = text(&backend, folder.path(), "");
    let without = config(&[member("a", &backend, 1)], "", &(consumer("other", "") + &consumer("web", "models = [\"m\"]")))
        .replace("#server", &state_dir(folder.path()));
    let process = Process::launch(&whole, &[]).await;
    let (id, key) = issue(process.admin, for_crm()).await;
    let (_, other) = issue(process.admin, json!({ "consumer": "web" })).await;
    let state = async |id: &str| listed(process.admin).await.into_iter().find(|key| key["id"] == id).unwrap()["state"].clone();
    let reload = async |text: &str| {
        process.write_config(text);
        assert_eq!(ask(process.admin, post("/api/reload", &[], b"")).await.unwrap().status, 200);
    };
    assert_eq!((chat_with(process.address, &key).await, state(&id).await), (200, json!("valid")));
    reload(&without).await;
    assert_eq!((chat_with(process.address, &key).await, state(&id).await), (401, json!("no consumer")));
    assert_eq!(chat_with(process.address, &other).await, 200, "its consumer is at another place of the config");
    reload(&whole).await;
    assert_eq!((chat_with(process.address, &key).await, state(&id).await), (200, json!("valid")));
}

#[tokio::test]
async fn with_a_pepper_the_file_has_hmacs() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let rest = "[plugins.auth]\npepper = \"a pepper of some length\"\n";
    let gateway = Gateway::start(&text(&backend, folder.path(), rest)).await;
    let (_, key) = issue(gateway.running.admin, for_crm()).await;
    assert_eq!(chat_with(gateway.address, &key).await, 200);
    let file = std::fs::read_to_string(folder.path().join("keys")).unwrap();
    let hmac = spillway_plugins::auth::Pepper::new(b"a pepper of some length").digest(key.as_bytes()).to_string();
    assert!(file.contains(&format!("\"hmac_sha256\":\"{hmac}\"")) && !file.contains("\"sha256\""), "{file}");
}

#[tokio::test]
async fn every_administrative_act_is_in_the_audit_log() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let text = text(&backend, folder.path(), "").replace("access = \"off\"", "access = \"stdout\"");
    let process = Process::launch(&text, &[]).await;
    let admin = process.admin;
    let (id, _) = issue(admin, json!({ "consumer": "crm", "label": "ci" })).await;
    let rotated = send(admin, "POST", &format!("/api/keys/{id}/rotate"), "").await.json()["id"].as_str().unwrap().to_owned();
    revoke(admin, &id).await;
    for path in ["/api/drain?backend=a", "/api/undrain?backend=a", "/api/reset?backend=a&deployment=m", "/api/drain?backend=none"] {
        ask(admin, post(path, &[], b"")).await.unwrap();
    }
    for path in ["/api/log?level=warn", "/api/log?level=spillway%3Dloud", "/api/reload"] {
        ask(admin, post(path, &[], b"")).await.unwrap();
    }
    for (level, expected) in [("wran", "did you mean 'warn'?"), ("info,spilway=debug", "did you mean 'spillway'?")] {
        let refused = ask(admin, post(&format!("/api/log?level={level}"), &[], b"")).await.unwrap();
        assert!(refused.status == 400 && refused.text().contains(expected), "{level}: {}", refused.text());
    }
    process.write_config(&(text.clone() + "\n[oops]\n"));
    process.signal("-HUP");
    eventually("the broken config was refused", async || {
        audited(admin, "").await.iter().any(|act| act["who"] == "SIGHUP" || act["who"] == "config file")
    })
    .await;
    process.write_config(&text);
    let acts: Vec<Value> = audited(admin, "?since=1h&limit=1000").await.into_iter().rev().collect();
    let whats: Vec<(&str, &str, &str)> = acts
        .iter()
        .filter(|act| act["role"] == "administrator")
        .map(|act| (act["what"].as_str().unwrap(), act["object"].as_str().unwrap(), act["result"].as_str().unwrap()))
        .collect();
    assert_eq!(
        whats,
        [
            ("key.issue", id.as_str(), "done"),
            ("key.rotate", &id, "done"),
            ("key.revoke", &id, "done"),
            ("backend.drain", "a", "done"),
            ("backend.undrain", "a", "done"),
            ("backend.reset", "a/m", "done"),
            ("backend.drain", "(unknown)", "failed"),
            ("log.level", "", "done"),
            ("log.level", "", "failed"),
            ("config.reload", "", "done"),
            ("log.level", "", "failed"),
            ("log.level", "", "failed"),
        ]
    );
    assert_eq!((&acts[0]["after"]["label"], &acts[0]["who"]), (&json!("ci"), &json!("local")));
    assert!(acts[0]["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{}", acts[0]);
    assert_eq!(acts[1]["after"]["id"], json!(rotated));
    assert_eq!((&acts[2]["before"]["revoked"], acts[2]["after"]["revoked"].is_i64()), (&json!(null), true));
    assert_eq!((&acts[3]["before"]["a/m"]["drained"], &acts[3]["after"]["a/m"]["drained"]), (&json!(false), &json!(true)));
    assert!(acts[7]["after"]["level"].as_str().unwrap().contains("warn"), "{}", acts[7]);
    let refused = acts.iter().find(|act| act["role"] == "system").unwrap();
    assert!(refused["reason"].as_str().unwrap().contains("oops") && refused["result"] == "failed", "{refused}");
    assert_eq!(audited(admin, "?limit=2").await.len(), 2);
    for query in ["?limit=0", "?limit=x", "?since=soon"] {
        assert_eq!(get(admin, &format!("/api/audit{query}")).await.unwrap().status, 400, "{query}");
    }
    // The same lines are in the access log.
    eventually("the access log has them", async || {
        let log = process.stdout();
        ["key.issue", "key.rotate", "key.revoke", "backend.drain", "log.level", "config.reload"]
            .iter()
            .all(|what| log.contains(&format!("\"what\":\"{what}\"")))
    })
    .await;
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(folder.path().join("audit.log")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_key_for_later_gives_a_key_for_later() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let gateway = Gateway::start(&text(&backend, folder.path(), "")).await;
    let admin = gateway.running.admin;
    let (old, _) = issue(admin, json!({ "consumer": "crm", "not_before": "30d", "expires": "40d" })).await;
    let got = send(admin, "POST", &format!("/api/keys/{old}/rotate"), "").await;
    assert_eq!(got.status, 201, "{}", got.text());
    let (new, key) = (got.json()["id"].clone(), got.json()["key"].as_str().unwrap().to_owned());
    assert_eq!(chat_with(gateway.address, &key).await, 401, "not yet");
    let all = listed(admin).await;
    let times = |id: &Value| {
        let key = all.iter().find(|key| key["id"] == *id).unwrap();
        (key["not_before"].as_i64().unwrap(), key["created"].as_i64().unwrap(), key["expires"].as_i64().unwrap())
    };
    let (old_from, ..) = times(&json!(old));
    let (from, _, until) = times(&new);
    assert_eq!((from, until - from), (old_from, 10 * 86_400), "it is valid as long as the old one would have been");
}

#[tokio::test]
async fn requests_that_are_refused_again_and_again_push_nothing_out_of_the_audit_log() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let gateway = Gateway::start(&text(&backend, folder.path(), "")).await;
    let admin = gateway.running.admin;
    let (id, key) = issue(admin, for_crm()).await;
    let long = "x\u{1}".repeat(1_000);
    let asked = json!({ "consumer": key, "label": long, "owner": long, "models": vec![long.as_str(); 2] }).to_string();
    for _ in 0..30 {
        assert_eq!(send(admin, "POST", "/api/keys", &asked).await.status, 422);
        ask(admin, post(&format!("/api/drain?backend={}", "a".repeat(1000)), &[], b"")).await.unwrap();
    }
    let acts = audited(admin, "?limit=1000").await;
    // The clock may have come to another minute.
    assert!((11..=22).contains(&acts.len()), "{}", acts.len());
    assert_eq!((acts.last().unwrap()["object"].as_str(), &acts.last().unwrap()["result"]), (Some(id.as_str()), &json!("done")));
    assert!(gateway.metric("spillway_audit_summed_up_total").await >= 38.0);
    let file = std::fs::read_to_string(folder.path().join("audit.log")).unwrap();
    assert!(file.len() < 22 * 8_000, "{}", file.len());
    assert!(!file.contains(&key[8..20]) && file.contains("(a key)"), "somebody put a key into a wrong field");
    assert!(file.contains("(unknown)") && !file.contains("aaaa"));
}

#[tokio::test]
async fn what_has_an_effect_is_recorded_however_often_it_had_none() {
    let (busy, folder) =
        (ScriptedBackend::start(|_| Reply::json(429, "{}").header("retry-after", "60")).await, tempfile::tempdir().unwrap());
    let token = folder.path().join("token");
    std::fs::write(&token, "first-admin-token").unwrap();
    let server = format!("[server]\nadmin_token = {{ file = \"{}\" }}", token.display());
    let process = Process::launch(&text(&busy, folder.path(), "").replace("[server]", &server).replace("#watch", ""), &[]).await;
    let bearer = |token: &str| format!("Bearer {token}");
    let act =
        async |path: &str, token: &str| ask(process.admin, post(path, &[("authorization", &bearer(token))], b"")).await.unwrap().status;
    for _ in 0..30 {
        assert_eq!(act("/api/reset?backend=a", "first-admin-token").await, 200);
    }
    assert_eq!(chat_with(process.address, "crm").await, 429);
    assert_eq!(act("/api/reset?backend=a", "first-admin-token").await, 200);
    std::fs::write(&token, "second-admin-token").unwrap();
    assert_eq!(act("/api/reload", "first-admin-token").await, 200);
    assert_eq!(act("/api/reload", "first-admin-token").await, 401, "the secret in the file has changed");
    let log = std::fs::read_to_string(folder.path().join("audit.log")).unwrap();
    let acts: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let reset = acts.iter().find(|act| act["before"].to_string().contains("throttled")).unwrap_or_else(|| panic!("{log}"));
    assert_eq!((&reset["what"], &reset["after"]["a/m"]["state"]), (&json!("backend.reset"), &json!("ready")));
    assert!(acts.iter().any(|act| act["what"] == "config.reload" && act["result"] == "done"), "{log}");
}

#[tokio::test]
async fn a_request_without_the_admin_token_changes_nothing() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let text = text(&backend, folder.path(), "").replace("[server]", "[server]\nadmin_token = \"admin-secret\"");
    let gateway = Gateway::start(&text).await;
    let admin = gateway.running.admin;
    for (method, path) in [("POST", "/api/keys"), ("DELETE", "/api/keys/key-1"), ("POST", "/api/keys/key-1/rotate"), ("GET", "/api/audit")]
    {
        assert_eq!(send(admin, method, path, &for_crm().to_string()).await.status, 401, "{method} {path}");
    }
    let request = post("/api/keys", &[("authorization", "Bearer admin-secret")], for_crm().to_string().as_bytes());
    let got = ask(admin, request).await.unwrap();
    assert_eq!((got.status, got.header("cache-control")), (201, Some("no-store")));
}

#[tokio::test]
async fn the_key_is_in_its_answer_and_nowhere_else() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let server = RedisServer::start(None);
    let pepper = "[plugins.auth]\npepper = \"a pepper of some length\"\n";
    let rest = format!("[redis]\nurl = \"redis://:CANARY-redis@127.0.0.1:{}\"\n{pepper}", server.port);
    let text = text(&backend, folder.path(), &rest).replace("access = \"off\"", "access = \"stdout\"\nlevel = \"trace\"");
    let process = Process::launch(&text, &[]).await;
    let admin = process.admin;
    let (id, first) = issue(admin, json!({ "consumer": "crm", "expires": "1d" })).await;
    let got = send(admin, "POST", &format!("/api/keys/{id}/rotate"), "").await;
    let second = got.json()["key"].as_str().unwrap().to_owned();
    let mut shown = Vec::new();
    for key in [&first, &second] {
        assert_eq!(chat_with(process.address, key).await, 200);
        // Somebody takes the key for its id.
        for (method, path) in [("DELETE", format!("/api/keys/{key}")), ("POST", format!("/api/keys/{key}/rotate"))] {
            let got = send(admin, method, &path, "").await;
            assert_eq!(got.status, 404);
            shown.push(got.text());
        }
    }
    revoke(admin, &id).await;
    shown.push(ask_as(process.address, &first, &chat(false)).await.text());
    for path in ["/metrics", "/api/keys", "/api/audit", "/api/status", "/api/requests", "/api/config", "/api/limits"] {
        shown.push(get(admin, path).await.unwrap().text());
    }
    eventually("the access log is written", async || process.stdout().contains("key.revoke")).await;
    shown.extend([process.stdout(), process.log()]);
    for name in ["keys", "audit.log"] {
        shown.push(std::fs::read_to_string(folder.path().join(name)).unwrap());
    }
    let redis = |command: &[&str]| {
        let connect = ["-p", &server.port.to_string(), "-a", "CANARY-redis", "--no-auth-warning"];
        let output = std::process::Command::new("redis-cli").args(connect).args(command).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let stored = || redis(&["HGETALL", redis(&["KEYS", "spillway:{issued-keys:*}:parts"]).trim()]);
    eventually("Redis has it", async || stored().contains(&format!("{id}!revoked"))).await;
    let stored = stored();
    shown.push(stored);
    for key in [&first, &second] {
        for text in &shown {
            // Neither the whole key, nor more of it than may be shown.
            assert!(!text.contains(&key[8..20]) && !text.contains(&key[20..32]), "{text}");
        }
    }
}
