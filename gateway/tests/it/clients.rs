//! What real clients send, and what they make of the answer.

use serde_json::{Value, json};
use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::{Connection, Response, ask, post};

use crate::support::*;

/// Consumers with the keys `crm-key` and `none-key`; the other one may use no model.
fn keys() -> String {
    consumer("crm-key", "") + &consumer("none-key", "models = []")
}

async fn request(gateway: &Gateway, line: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    ask(gateway.address, format!("{line} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {length}\r\n\r\n{body}")).await.unwrap()
}

#[tokio::test]
async fn a_null_model_is_none_where_the_path_names_it() {
    for (extra, model, path) in [
        ("kind = \"openai\"", json!("m"), "/v1/chat/completions"),
        ("kind = \"azure-openai\"", json!("m"), "/openai/v1/chat/completions"),
        ("kind = \"azure-openai\"\napi = \"dated\"", Value::Null, "/openai/deployments/m/chat/completions"),
    ] {
        for given in ["null", "\"\""] {
            let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
            let gateway = Gateway::start(&config(&[Member { extra, ..member("a", &backend, 1) }], "", "")).await;
            let body = format!("{{\"model\":{given},\"messages\":[]}}");
            let got =
                ask(gateway.address, post("/openai/deployments/m/chat/completions?api-version=2024-10-21", &[], body.as_bytes())).await;
            assert_eq!(got.unwrap().status, 200, "{extra} {given}");
            let arrived = backend.received().pop().unwrap();
            assert!(arrived.path().starts_with(path), "{}", arrived.path());
            let sent = arrived.json()["model"].clone();
            assert!(sent == model || (model.is_null() && sent == json!("m")) || (model.is_null() && sent == json!("")), "{extra}: {sent}");
            let nameless = ask(gateway.address, post("/v1/chat/completions", &[], body.as_bytes())).await.unwrap();
            assert_eq!((nameless.status, nameless.code().as_str()), (400, "model_missing"), "{}", nameless.text());
        }
    }
}

#[tokio::test]
async fn callers_of_api_management_keep_their_key() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &keys())).await;
    let body = chat(false).to_string();
    let with = async |path: &str, headers: &[(&str, &str)]| request(&gateway, &format!("POST {path}"), headers, &body).await;
    let chat = "/v1/chat/completions";
    assert_eq!(with(chat, &[("Ocp-Apim-Subscription-Key", "crm-key")]).await.status, 200);
    assert_eq!(with(&format!("{chat}?subscription-key=crm-key&x=1"), &[]).await.status, 200);
    assert_eq!(with(&format!("{chat}?subscription-key=crm-key"), &[("api-key", "crm-key")]).await.status, 200);
    for arrived in backend.received() {
        assert!(!arrived.path().contains("crm-key"), "{}", arrived.path());
        assert!(arrived.head.headers.iter().all(|(_, value)| !value.contains("crm-key")));
    }
    assert_eq!(backend.count(), 3);
    assert_eq!(with(&format!("{chat}?Subscription%2DKey=c%72m-key"), &[]).await.status, 200, "however it is written");
    assert_eq!(backend.received().pop().unwrap().path(), chat);
    for wrong in ["wrong", "%e4", ""] {
        assert_eq!(with(&format!("{chat}?subscription-key={wrong}"), &[]).await.status, 401, "{wrong}");
    }
    let twice = with(&format!("{chat}?subscription-key=crm-key&subscription-key=none-key"), &[]).await;
    assert_eq!((twice.status, twice.code().as_str()), (400, "ambiguous_credentials"));
    assert_eq!(request(&gateway, "GET /v1/usage?subscription-key=crm-key", &[], "").await.code(), "no_ledger", "its query has no key");
    let two = with(&format!("{chat}?subscription-key=crm-key"), &[("api-key", "none-key")]).await;
    assert_eq!((two.status, two.code().as_str()), (400, "ambiguous_credentials"), "{}", two.text());
}

#[tokio::test]
async fn a_subscription_key_is_passed_through_where_keys_are() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let extra = "kind = \"azure-openai\"\nauth = { type = \"passthrough\" }";
    let gateway = Gateway::start(&config(&[Member { extra, ..member("a", &backend, 1) }], "", "")).await;
    let got = gateway.post("/v1/chat/completions?subscription-key=theirs&x=y", &chat(false)).await;
    assert_eq!(got.status, 200);
    let arrived = backend.received().pop().unwrap();
    assert_eq!((arrived.path(), arrived.header("api-key")), ("/openai/v1/chat/completions?x=y", Some("theirs")));
    assert_eq!(arrived.header("ocp-apim-subscription-key"), None);
}

/// What Azure says where it doesn't know a path: of its v1 API, and of others.
const UNKNOWN: [&str; 2] = [
    r#"{"error":{"message":"Unknown request URL: POST /v1/responses/input_tokens.","type":"invalid_request_error","param":null,"code":"unknown_url"}}"#,
    r#"{"error":{"code":"404","message":"Resource not found"}}"#,
];

#[tokio::test]
async fn who_has_no_part_of_an_api_is_not_blamed_and_others_are_asked() {
    for unknown in UNKNOWN {
        let azure = ScriptedBackend::start(move |request| match request.path() {
            "/openai/v1/responses/input_tokens" => Reply::json(404, unknown),
            _ => Reply::json(200, answer("x")),
        })
        .await;
        let counted = json!({ "object": "response.input_tokens", "input_tokens": 7 }).to_string();
        let openai = ScriptedBackend::start(move |_| Reply::json(200, counted.clone())).await;
        let first = Member { extra: "kind = \"azure-openai\"", ..member("azure", &azure, 1) };
        let path = "/v1/responses/input_tokens";
        let body = json!({ "model": "m", "input": "x" });
        let alone = Gateway::start(&config(&[Member { ..first }], "", "")).await;
        for _ in 0..3 {
            let got = alone.post(path, &body).await;
            assert_eq!((got.status, got.text().as_str()), (404, unknown));
        }
        assert_eq!((alone.chat().await.status, alone.state("azure").await.as_str()), (200, "ready"));
        let both = Gateway::start(&config(&[first, member("openai", &openai, 2)], "", "")).await;
        let got = both.post(path, &body).await;
        assert_eq!((got.status, &got.json()["input_tokens"]), (200, &json!(7)), "{unknown}");
        assert_eq!(both.chat().await.header("x-spillway-backend"), Some("azure"));
    }
}

#[tokio::test]
async fn parts_of_an_api_go_where_it_goes_and_counting_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let counted = json!({ "object": "response.input_tokens", "input_tokens": 123 }).to_string();
    let compacted =
        json!({ "id": "resp_c", "object": "response.compaction", "output": [], "usage": { "input_tokens": 90, "output_tokens": 4 } });
    let backend = ScriptedBackend::start(move |request| match request.path() {
        "/v1/responses/compact" => Reply::json(200, compacted.to_string()),
        _ => Reply::json(200, counted.clone()),
    })
    .await;
    let claude = ScriptedBackend::start(|_| Reply::json(200, r#"{"input_tokens":14}"#)).await;
    let members = [member("a", &backend, 1), Member { extra: "kind = \"anthropic\"", ..member("c", &claude, 2) }];
    let text = config(&members, "", &keys()).replace("#server", &state_dir(folder.path()));
    let gateway = Gateway::start(&text).await;
    let body = json!({ "model": "m", "input": "x", "messages": [] }).to_string();
    let key = [("api-key", "crm-key")];
    for (path, arrived) in [
        ("/v1/responses/compact", "/v1/responses/compact"),
        ("/openai/v1/responses/input_tokens", "/v1/responses/input_tokens"),
        ("/v1/messages/count_tokens?beta=true", "/v1/messages/count_tokens?beta=true"),
    ] {
        let got = request(&gateway, &format!("POST {path}"), &key, &body).await;
        assert_eq!(got.status, 200, "{path}: {}", got.text());
        let at = if path.contains("messages") { &claude } else { &backend };
        assert_eq!(at.received().pop().unwrap().path(), arrived);
        assert_eq!(request(&gateway, &format!("POST {path}"), &[("api-key", "none-key")], &body).await.status, 403, "{path}");
        assert_eq!(request(&gateway, &format!("GET {path}"), &key, "").await.status, 405, "{path}");
    }
    let rows = ledger_of(folder.path(), 1).await;
    assert_eq!((rows.len(), &rows[0]["input_tokens"], &rows[0]["source"]), (1, &json!(90), &json!("reported")), "{rows:?}");
}

#[tokio::test]
async fn parts_of_an_api_are_held_to_owners_and_to_what_is_sealed() {
    let named = |name: &'static str| {
        ScriptedBackend::start(move |request| match request.path() {
            "/v1/responses/compact" if name == "first" => Reply::throttled(1),
            "/v1/responses/compact" => {
                let item = json!({ "type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA-second" });
                let usage = json!({ "input_tokens": 9, "output_tokens": 4, "total_tokens": 13 });
                Reply::json(200, json!({ "id": "resp_c", "object": "response.compaction", "output": [item], "usage": usage }).to_string())
            }
            "/v1/responses/input_tokens" => Reply::json(200, r#"{"object":"response.input_tokens","input_tokens":7}"#),
            _ => Reply::json(200, json!({ "id": format!("resp_{name}"), "object": "response", "output": [] }).to_string()),
        })
    };
    let (first, second) = (named("first").await, named("second").await);
    let gateway =
        Gateway::start(&config(&[member("first", &first, 1), member("second", &second, 2)], "", &(keys() + &consumer("other-key", ""))))
            .await;
    let ask = async |path: &str, key: &str, more: Value| {
        let mut body = json!({ "model": "m", "input": "x" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let got = request(&gateway, &format!("POST {path}"), &[("api-key", key)], &body.to_string()).await;
        let backend = got.header("x-spillway-backend").map(str::to_owned);
        (got.status, backend, got)
    };
    // What was sealed goes back to who sealed it, whoever is first.
    let (status, backend, compacted) = ask("/v1/responses/compact", "crm-key", json!({})).await;
    assert_eq!((status, backend.as_deref()), (200, Some("second")));
    let items = compacted.json()["output"].clone();
    eventually("the first is back", async || ask("/v1/responses", "crm-key", json!({})).await.1.as_deref() == Some("first")).await;
    for path in ["/v1/responses", "/v1/responses/compact", "/v1/responses/input_tokens"] {
        assert_eq!(ask(path, "crm-key", json!({ "input": items })).await.1.as_deref(), Some("second"), "{path}");
    }
    // What is stored is its owner's.
    let mine = ask("/v1/responses", "crm-key", json!({})).await.2.json()["id"].clone();
    for path in ["/v1/responses/compact", "/v1/responses/input_tokens"] {
        let (status, _, foreign) = ask(path, "other-key", json!({ "previous_response_id": mine })).await;
        assert_eq!((status, foreign.code().as_str()), (404, "object_not_found"), "{path}");
    }
    assert_eq!(ask("/v1/responses/input_tokens", "crm-key", json!({ "previous_response_id": mine })).await.1.as_deref(), Some("first"));
    // Further models need rights there, too.
    let narrow = json!({ "models": ["gpt-4o"] });
    assert_eq!(ask("/v1/responses/input_tokens", "none-key", narrow).await.0, 403);
}

#[tokio::test]
async fn errors_have_the_shape_of_the_api() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &keys())).await;
    for (line, status) in
        [("POST /v1/messages/nothing", 404), ("GET /v1/messages", 405), ("POST /anthropic/v1/nothing", 404), ("POST /v1/messages", 401)]
    {
        let headers: &[(&str, &str)] = if status == 401 { &[] } else { &[("x-api-key", "crm-key")] };
        let got = request(&gateway, line, headers, "").await;
        assert_eq!(
            (got.status, &got.json()["type"], got.json()["error"]["type"].is_string()),
            (status, &json!("error"), true),
            "{line}: {}",
            got.text()
        );
    }
    let secret = request(&gateway, "POST /v1/realtime/client_secrets", &[("api-key", "crm-key")], "{}").await;
    assert_eq!((secret.status, secret.code().as_str()), (403, "client_secrets_not_allowed"));
    assert!(secret.text().contains("/v1/realtime"), "it says what to do instead");
}

#[tokio::test]
async fn slashes_of_base_urls_and_of_names_are_understood() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let extra = "deployments = { m = \"meta-llama/Llama-3.1-8B\" }";
    let text = config(&[Member { extra, ..member("a", &backend, 1) }], "", &keys()).replace("\"gpt-4o\"", "\"meta/llama-3\"");
    let gateway = Gateway::start(&text).await;
    let key = [("api-key", "crm-key")];
    let body = chat(false).to_string();
    for path in
        ["//v1/chat/completions", "/v1//chat/completions", "/v1/chat/completions/", "//openai/deployments/m/chat/completions?api-version=1"]
    {
        assert_eq!(request(&gateway, &format!("POST {path}"), &key, &body).await.status, 200, "{path}");
    }
    let got = request(&gateway, "POST /openai/deployments/meta/llama-3/chat/completions", &key, r#"{"messages":[]}"#).await;
    assert_eq!(got.status, 200, "{}", got.text());
    assert_eq!(backend.received().pop().unwrap().json()["model"], "meta/llama-3");
    assert_eq!(request(&gateway, "POST /v1/chat/completions", &key, &body).await.status, 200);
    assert_eq!(backend.received().pop().unwrap().json()["model"], "meta-llama/Llama-3.1-8B");
    for path in ["/v1/models/meta/llama-3", "/v1/models/meta%2Fllama-3"] {
        assert_eq!(request(&gateway, &format!("GET {path}"), &key, "").await.json()["id"], "meta/llama-3");
    }
    assert_eq!(request(&gateway, "POST //v1/files", &key, "").await.status, 404, "names of what is stored are exact");
}

#[tokio::test]
async fn models_are_listed_for_whoever_may_use_none() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &keys())).await;
    let none = request(&gateway, "GET /v1/models", &[("api-key", "none-key")], "").await;
    assert_eq!((none.status, &none.json()["data"]), (200, &json!([])));
    assert_eq!(request(&gateway, "GET /v1/models", &[], "").await.status, 401);
    // The answer to HEAD has a length and no body: the next answer follows at once.
    let mut connection = Connection::open(gateway.address).await.unwrap();
    connection.send("HEAD /v1/models HTTP/1.1\r\nhost: x\r\napi-key: crm-key\r\n\r\n").await.unwrap();
    let (status, head) = connection.answer_head().await.unwrap();
    assert_eq!((status, head.header("content-length").is_some_and(|length| length != "0")), (200, true));
    connection.send("GET /v1/models HTTP/1.1\r\nhost: x\r\napi-key: crm-key\r\n\r\n").await.unwrap();
    assert_eq!(connection.answer().await.unwrap().json()["data"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn pages_of_allowed_origins_may_call() {
    let backend =
        ScriptedBackend::start(|_| Reply::json(200, answer("x")).header("access-control-allow-origin", "https://theirs.example")).await;
    let text = config(&[member("a", &backend, 1)], "", &keys());
    let gateway = Gateway::start(&text.replace("[log]", "[server.cors]\norigins = [\"https://app.example\"]\n\n[log]")).await;
    let body = chat(false).to_string();
    let asks = [("access-control-request-method", "POST"), ("access-control-request-headers", "authorization,content-type")];
    let preflight =
        request(&gateway, "OPTIONS /v1/chat/completions", &[&[("origin", "https://app.example")][..], &asks].concat(), "").await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, Some("https://app.example")));
    assert_eq!(preflight.header("access-control-allow-headers"), Some("authorization,content-type"));
    let other = request(&gateway, "OPTIONS /v1/chat/completions", &[&[("origin", "https://evil.example")][..], &asks].concat(), "").await;
    assert_eq!((other.status, other.header("access-control-allow-origin")), (401, None));
    for (key, status) in [("crm-key", 200), ("wrong", 401)] {
        for (origin, expected) in [("https://app.example", Some("https://app.example")), ("https://evil.example", None)] {
            let got = request(&gateway, "POST /v1/chat/completions", &[("origin", origin), ("api-key", key)], &body).await;
            assert_eq!((got.status, got.header("access-control-allow-origin")), (status, expected));
            assert_eq!(got.header("vary").is_some_and(|vary| vary.contains("origin")), expected.is_some());
        }
    }
    assert!(backend.received().iter().all(|arrived| arrived.header("origin").is_none()));
    let long = ["x-a,"; 400].concat();
    let asks = [("origin", "https://app.example"), ("access-control-request-method", "POST"), ("access-control-request-headers", &*long)];
    let bounded = request(&gateway, "OPTIONS /v1/chat/completions", &asks, "").await;
    assert_eq!((bounded.status, bounded.header("access-control-allow-headers")), (204, None));
    let closed = Gateway::start(&text).await;
    let got = request(&closed, "OPTIONS /v1/chat/completions", &[&[("origin", "https://app.example")][..], &asks].concat(), "").await;
    assert_eq!((got.status, got.header("access-control-allow-origin")), (401, None));
}

#[tokio::test]
async fn pages_may_read_streams_and_what_stands_beside_them() {
    let backend = ScriptedBackend::start(|_| {
        let theirs = [("access-control-allow-credentials", "true"), ("access-control-expose-headers", "x-theirs"), ("vary", "accept")];
        theirs.into_iter().fold(Reply::sse(whole_stream("x")), |reply, (name, value)| reply.header(name, value))
    })
    .await;
    let text = config(&[member("a", &backend, 1)], "", &keys());
    let gateway = Gateway::start(&text.replace("[log]", "[server.cors]\norigins = [\"*\"]\n\n[log]")).await;
    let headers = [("origin", "https://any.example"), ("api-key", "crm-key")];
    let got = request(&gateway, "POST /v1/chat/completions", &headers, &chat(true).to_string()).await;
    assert_eq!((got.status, got.header("access-control-allow-origin")), (200, Some("https://any.example")));
    assert_eq!(got.header("access-control-allow-credentials"), None);
    let exposed = got.header("access-control-expose-headers").unwrap();
    for name in ["x-request-id", "retry-after", "x-ratelimit-remaining-tokens", "x-spillway-backend"] {
        assert!(exposed.split(", ").any(|one| one == name), "{name} in {exposed}");
    }
    assert!(!exposed.contains("x-theirs"));
    let without = request(&gateway, "POST /v1/chat/completions", &headers[1..], &chat(true).to_string()).await;
    assert_eq!((without.status, without.header("access-control-allow-origin")), (200, None));
    assert_eq!(without.header("access-control-expose-headers"), None);
}

#[tokio::test]
async fn the_answer_to_head_has_no_body_whatever_it_is() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &keys())).await;
    let mut connection = Connection::open(gateway.address).await.unwrap();
    for (path, key, expected) in [
        ("/v1/models", "wrong", 401),
        ("/v1/models/nope", "crm-key", 404),
        ("/v1/models/m", "crm-key", 200),
        ("/v1/models", "none-key", 200),
    ] {
        connection.send(format!("HEAD {path} HTTP/1.1\r\nhost: x\r\napi-key: {key}\r\n\r\n")).await.unwrap();
        let (status, head) = connection.answer_head().await.unwrap();
        assert_eq!((status, head.header("content-length").is_some_and(|length| length != "0")), (expected, true), "{path}");
    }
    let unknown = request(&gateway, "GET /v1/models", &[], "").await;
    assert_eq!((unknown.status, unknown.json()["error"]["code"].is_string()), (401, true));
}

#[tokio::test]
async fn the_dated_image_api_gets_no_model() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, r#"{"created":1,"data":[]}"#)).await;
    let extra = "kind = \"azure-openai\"\napi = \"dated\"";
    let gateway = Gateway::start(&config(&[Member { extra, ..member("a", &backend, 1) }], "", "")).await;
    let got = gateway.post("/v1/images/generations", &json!({ "model": "m", "prompt": "a cat", "n": 1 })).await;
    assert_eq!(got.status, 200, "{}", got.text());
    assert_eq!(backend.received().pop().unwrap().json(), json!({ "prompt": "a cat", "n": 1 }));
}
