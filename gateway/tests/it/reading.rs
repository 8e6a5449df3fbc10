//! Two readers of one request can't disagree on it: what could be understood differently is refused, and nothing of
//! it reaches a backend.

use std::io::Write as _;

use serde_json::json;
use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::{Connection, ask, post};

use crate::support::*;

const CHAT: &str = "/v1/chat/completions";

async fn gateway(server: &str, rest: &str) -> (Gateway, ScriptedBackend) {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let text = config(&[member("a", &backend, 1)], "", rest).replace("#server", server);
    (Gateway::start(&text).await, backend)
}

#[tokio::test]
async fn names_that_could_be_read_differently_are_refused() {
    let (gateway, backend) = gateway("", "").await;
    for (path, body) in [
        (CHAT, r#"{"model":"m","Model":"gpt-4o","messages":[]}"#),
        (CHAT, r#"{"model":"m","\u004dodel":"gpt-4o","messages":[]}"#),
        (CHAT, r#"{"model":"m","messages":[],"messages":[]}"#),
        (CHAT, r#"{"model":"m","messages":[],"maxTokens":9}"#),
        (CHAT, r#"{"model":"m","messages":[{"Role":"user","content":"x"}]}"#),
        (CHAT, r#"{"model":"m","x":1,"X":2}"#),
        ("/v1/responses", r#"{"model":"m","Previous_Response_Id":"resp_1"}"#),
        ("/v1/responses", r#"{"model":"m","input":[{"type":"item_reference","id":"a","id":"b"}]}"#),
        ("/v1/responses", r#"{"model":"m","tools":[{"type":"file_search","vector_store_ids":[],"Vector_Store_Ids":["vs_1"]}]}"#),
        (CHAT, "\u{feff}{\"model\":\"m\"}"),
        (CHAT, r#"{"model":"m","max_tokens":1e400}"#),
        (CHAT, r#"{"model":"m\ud800"}"#),
        (CHAT, r#"{"model":"m","n":NaN}"#),
        (CHAT, r#"{"model":"m",}"#),
    ] {
        let got = ask(gateway.address, post(path, &[], body.as_bytes())).await.unwrap();
        assert_eq!((got.status, got.code().as_str()), (400, "invalid_json"), "{body}");
    }
    assert_eq!(backend.count(), 0);
    let message = ask(gateway.address, post(CHAT, &[], br#"{"Model":"m"}"#)).await.unwrap().json()["error"]["message"].clone();
    assert_eq!(message, "the name at byte 1 could be read as 'model'; write exactly 'model'");
}

#[tokio::test]
async fn a_model_that_is_null_or_empty_is_none_where_the_path_names_it() {
    for (kind, expected) in [("kind = \"azure-openai\"\n", json!("dep")), ("kind = \"azure-openai\"\napi = \"dated\"\n", json!("dep"))] {
        let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
        let extra = format!("{kind}deployments = {{ m = \"dep\" }}");
        let gateway = Gateway::start(&config(&[Member { name: "a", backend: &backend, priority: 1, extra: &extra }], "", "")).await;
        for model in [json!(null), json!("")] {
            let body = json!({ "model": model, "messages": [] });
            assert_eq!(gateway.post("/openai/deployments/m/chat/completions?api-version=x", &body).await.status, 200);
            assert_eq!(backend.received().pop().unwrap().json()["model"], expected);
            let nowhere = gateway.post(CHAT, &body).await;
            assert_eq!((nowhere.status, nowhere.code().as_str()), (400, "model_missing"));
        }
    }
}

#[tokio::test]
async fn a_tools_model_needs_the_callers_rights() {
    let (gateway, backend) = gateway("", &consumer("narrow", "models = [\"m\"]")).await;
    let responses = async |body: serde_json::Value| {
        let request = post("/v1/responses", &[("api-key", "narrow")], body.to_string().as_bytes());
        let got = ask(gateway.address, request).await.unwrap();
        (got.status, if got.status == 200 { String::new() } else { got.code() })
    };
    let tool = |model: &str| json!({ "model": "m", "input": "x", "tools": [{ "type": "image_generation", "model": model }] });
    assert_eq!(responses(tool("m")).await.0, 200);
    assert_eq!(responses(tool("gpt-4o")).await, (403, "model_not_allowed".into()));
    assert_eq!(responses(tool("gpt-image-1")).await, (403, "model_not_allowed".into()), "one that the gateway doesn't know");
    assert_eq!(responses(json!({ "model": "m", "input": "x", "models": ["gpt-4o"] })).await, (403, "model_not_allowed".into()));
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn compressed_bodies_are_read_as_what_they_are() {
    let (gateway, backend) = gateway("max_body = \"64KiB\"", "").await;
    let body = chat(false).to_string();
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |text: &str| zstd::stream::encode_all(text.as_bytes(), 1).unwrap();
    let send = async |coding: &str, bytes: &[u8]| ask(gateway.address, post(CHAT, &[("content-encoding", coding)], bytes)).await.unwrap();
    for (coding, bytes) in [("gzip", gzip(&body)), ("x-gzip", gzip(&body)), ("zstd", zstd(&body)), ("identity", body.clone().into_bytes())]
    {
        assert_eq!(send(coding, &bytes).await.status, 200, "{coding}");
        let arrived = backend.received().pop().unwrap();
        assert_eq!((arrived.header("content-encoding"), &arrived.body[..]), (None, body.as_bytes()), "{coding}");
    }
    let served = backend.count();
    for coding in ["br", "deflate", "gzip, gzip", "gzip\r\ncontent-encoding: gzip"] {
        let got = send(coding, &gzip(&body)).await;
        assert_eq!((got.status, got.code().as_str()), (415, "unsupported_media_type"), "{coding}");
    }
    assert_eq!(send("gzip", body.as_bytes()).await.status, 400);
    assert_eq!(send("gzip", &gzip(r#"{"model":"m","Model":"x"}"#)).await.code(), "invalid_json");
    let bomb = format!("{{\"model\":\"m\",\"x\":\"{}\"}}", "y".repeat(10_000_000));
    assert_eq!(send("gzip", &gzip(&bomb)).await.status, 413);
    assert_eq!(send("zstd", &zstd(&bomb)).await.status, 413);
    assert_eq!(backend.count(), served);
    for kind in ["application/json; charset=utf-16", "application/json\r\ncontent-type: application/json"] {
        let request = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        assert_eq!(ask(gateway.address, request).await.unwrap().status, 415, "{kind}");
    }
    assert_eq!(backend.count(), served);
}

#[tokio::test]
async fn what_chooses_for_the_operator_travels_only_for_whom_it_may() {
    let rest = consumer("plain", "") + &consumer("chosen", "headers = [\"X-MS-Service-Tier\"]");
    let (gateway, backend) = gateway("", &rest).await;
    let withheld = [
        "x-ms-oai-image-generation-deployment",
        "x-ms-service-tier",
        "x_ms_service_tier",
        "x-ms_service-tier",
        "x_api_key",
        "transfer_encoding",
        "x-policy-id",
        "azureml-model-deployment",
        "anthropic-user-profile-id",
        "apim-debug",
    ];
    let travels = ["x-ms-client-request-id", "x-stainless-lang", "openai-beta", "session_id", "x-ms-useragent"];
    let mut keys = Vec::new();
    for who in ["plain", "chosen"] {
        let headers: Vec<(&str, &str)> =
            withheld.into_iter().chain(travels).map(|name| (name, "v")).chain([("api-key", who), ("idempotency-key", "v")]).collect();
        assert_eq!(ask(gateway.address, post(CHAT, &headers, chat(false).to_string().as_bytes())).await.unwrap().status, 200);
        let arrived = backend.received().pop().unwrap();
        for name in withheld {
            assert_eq!(arrived.header(name).is_some(), who == "chosen" && name == "x-ms-service-tier", "{who} {name}");
        }
        for name in travels {
            assert_eq!(arrived.header(name), Some("v"), "{name}");
        }
        keys.push(arrived.header("idempotency-key").unwrap().to_owned());
    }
    assert_ne!(keys[0], keys[1], "consumers share the backend's account, and not their keys");
}

#[tokio::test]
async fn a_browsers_key_is_no_subprotocol() {
    let backend = ScriptedBackend::start(|_| {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: x\r\n\r\n";
        Reply::raw([Step::Write(head.to_vec()), Step::Echo])
    })
    .await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &consumer("browser", ""))).await;
    let upgrade = |offer: &str| {
        format!(
            "GET /v1/realtime?model=m HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: {offer}\r\n\r\n"
        )
    };
    let mut connection = Connection::open(gateway.address).await.unwrap();
    connection.send(upgrade("realtime, openai-insecure-api-key.browser, openai-organization.org")).await.unwrap();
    let (status, head) = connection.answer_head().await.unwrap();
    assert_eq!((status, head.header("sec-websocket-protocol")), (101, Some("realtime")));
    let arrived = backend.received().pop().unwrap();
    assert_eq!(arrived.header("sec-websocket-protocol"), Some("realtime"));
    assert!(arrived.head.headers.iter().all(|(_, value)| !value.contains("browser")));
    for offer in ["realtime", "realtime, openai-insecure-api-key.wrong"] {
        assert_eq!(ask(gateway.address, upgrade(offer)).await.unwrap().status, 401, "{offer}");
    }
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn heads_that_could_be_read_differently_end_their_connection() {
    let (gateway, backend) = gateway("", "").await;
    let body = chat(false).to_string();
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let request = |line: &str, lines: &str, body: &str| format!("{line} HTTP/1.1\r\n{lines}\r\n\r\n{body}");
    let with_coding = |coding: &str| request(&format!("POST {CHAT}"), &format!("host: x\r\n{coding}"), &chunked);
    let with_length = |length: &str| request(&format!("POST {CHAT}"), &format!("host: x\r\n{length}"), &body);
    let chunks = |body: &str| request(&format!("POST {CHAT}"), "host: x\r\ntransfer-encoding: chunked", &format!("{body}\r\n0\r\n\r\n"));
    let length = body.len();
    for (head, status) in [
        (with_coding("transfer-encoding: chunked, chunked"), 501),
        (with_coding("transfer-encoding: gzip, chunked"), 501),
        (with_coding("transfer-encoding: identity, chunked"), 501),
        (with_coding("transfer-encoding: chunked\r\ntransfer-encoding: chunked"), 501),
        (with_coding("transfer-encoding: chunked\r\ncontent-length: 5"), 400),
        (chunks("e;a\n{\"model\":\"m\"}"), 400),
        (chunks("e\n{\"model\":\"m\"}"), 400),
        (chunks("e;\r{\"model\":\"m\"}"), 400),
        (chunks("e\r\n{\"model\":\"m\"}\r\n0;a\n"), 400),
        (chunks("{\"model\":\"m\"}"), 400),
        (with_length(&format!("content-length: {length}, {length}")), 400),
        (with_length(&format!("content-length: {length}\r\ncontent-length: {length}")), 400),
        (with_length(&format!("content-length: 0{length}")), 400),
        (with_length(&format!("content-length: +{length}")), 400),
        (with_length(&format!("content-length: {length}\nx-y: z")), 400),
        (with_length(&format!("content-length: {length}\r\nx: y\r\n folded")), 400),
        (with_length(&format!("content-length : {length}")), 400),
        (request("GET /v1/models\0", "host: x", ""), 400),
        (request("GET /v1/\rmodels", "host: x", ""), 400),
        (request("GET /v1/models?a=%00", "host: x", ""), 400),
        (request("GET /v1/models#x", "host: x", ""), 400),
        (
            request(
                &format!("POST {CHAT}?a=b#x"),
                &format!("host: x\r\ncontent-type: application/json\r\ncontent-length: {length}"),
                &body,
            ),
            400,
        ),
        (request("GET /v1/models", "host: a b", ""), 400),
        (request("GET /v1/models", "host: a/b", ""), 400),
        (request("GET /v1/models", "host: u@a", ""), 400),
        (request("GET /v1/models", "host: a\r\nhost: a", ""), 400),
        (request("GET /v1/models", "host:", ""), 400),
        (request("GET http://b/v1/models", "host: a", ""), 400),
        (request("GET /v1/models HTTP/1.1 x", "host: a", ""), 400),
        (request("GET /v1/models a", "host: a", ""), 400),
        (request("GET  /v1/models", "host: a", ""), 400),
    ] {
        let mut connection = Connection::open(gateway.address).await.unwrap();
        connection.send(format!("{head}GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")).await.unwrap();
        let got = connection.answer().await.unwrap_or_else(|error| panic!("{head:?}: {error}"));
        assert_eq!((got.status, got.code().as_str(), got.header("connection")), (status, "invalid_request", Some("close")), "{head:?}");
        assert!(connection.answer_head().await.is_err(), "what follows is no request: {head:?}");
    }
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn chunks_are_read_in_one_way_however_they_come() {
    let (gateway, backend) = gateway("", "").await;
    let body = chat(false).to_string();
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    let (first, rest) = body.split_at(10);
    let good = format!("a;x=\"y\"\r\n{first}\r\n{:x} ;z\r\n{rest}\r\n0;end\r\ntrailer: t\r\n\r\n", rest.len());
    let bad = good.replace(" ;z\r\n", " ;z\n4\r\n");
    let mut connection = Connection::open(gateway.address).await.unwrap();
    for pieces in [
        vec![format!("{head}{good}")],
        vec![head.clone(), good.clone()],
        good.chars().fold(vec![head.clone()], |mut all, one| {
            all.push(one.to_string());
            all
        }),
    ] {
        for piece in &pieces {
            connection.send(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(connection.answer().await.unwrap().status, 200);
    }
    assert_eq!(backend.count(), 3);
    for pieces in [vec![format!("{head}{bad}")], vec![head.clone(), bad.clone()], vec![format!("{head}a\r\n"), bad[9..].to_owned()]] {
        let mut connection = Connection::open(gateway.address).await.unwrap();
        for piece in &pieces {
            connection.send(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        let got = connection.answer().await.unwrap();
        assert_eq!((got.status, got.code().as_str(), got.header("connection")), (400, "invalid_request", Some("close")));
    }
    assert_eq!(backend.count(), 3);
}

#[tokio::test]
async fn a_head_has_64_kib() {
    let (gateway, backend) = gateway("", "").await;
    let mut connection = Connection::open(gateway.address).await.unwrap();
    let lines = format!("x-y: {}\r\n", "z".repeat(2000)).repeat(60);
    connection.send(format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\n{lines}")).await.unwrap();
    let got = connection.answer().await.unwrap();
    assert_eq!((got.status, got.code().as_str()), (431, "head_too_large"));
    let fits = format!("x-y: {}\r\n", "z".repeat(2000)).repeat(30);
    let body = chat(false).to_string();
    let request = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\n{fits}content-length: {}\r\n\r\n{body}", body.len());
    assert_eq!(ask(gateway.address, request).await.unwrap().status, 200);
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn what_follows_a_body_hides_no_farewell() {
    let backend = ScriptedBackend::start(|_| Reply::raw([Step::Hang])).await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", "")).await;
    let body = chat(false).to_string();
    for (number, after) in ["\r\n", "G", "GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"].into_iter().enumerate() {
        let mut connection = Connection::open(gateway.address).await.unwrap();
        connection.send(post(CHAT, &[], body.as_bytes())).await.unwrap();
        eventually("it is asked", async || backend.count() == number + 1).await;
        connection.send(after).await.unwrap();
        drop(connection);
        eventually("the backend is let go", async || backend.hung_up() == number + 1).await;
    }
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_turn() {
    let (gateway, backend) = gateway("", "").await;
    let mut connection = Connection::open(gateway.address).await.unwrap();
    let one = post(CHAT, &[], chat(false).to_string().as_bytes());
    connection.send([&one[..], &one, b"\r\n", &one].concat()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(connection.answer().await.unwrap().status, 200);
    }
    assert_eq!(backend.count(), 3);
}

#[tokio::test]
async fn a_redirect_is_no_answer() {
    let place = "https://elsewhere.example/v1?api-key=CANARY";
    for status in [301, 302, 303, 307, 308] {
        let lost = ScriptedBackend::start(move |_| Reply::json(status, "CANARY").header("location", place)).await;
        let good = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
        let gateway = Gateway::start(&config(&[member("lost", &lost, 1), member("good", &good, 2)], "", "")).await;
        let got = gateway.chat().await;
        assert_eq!((got.status, got.header("x-spillway-backend")), (200, Some("good")), "{status}");
        let alone = Gateway::start(&config(&[member("lost", &lost, 1)], "", "")).await;
        let got = alone.chat().await;
        assert!(got.status == 502 || got.status == 503, "{status}: {}", got.status);
        assert!(got.header("location").is_none() && !got.text().contains("CANARY"), "{status}");
    }
    let lost = ScriptedBackend::start(move |_| Reply::json(302, "CANARY").header("location", place)).await;
    let gateway = Gateway::start(&config(&[member("lost", &lost, 1)], "", "")).await;
    let upgrade = "GET /v1/realtime?model=m HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let got = ask(gateway.address, upgrade).await.unwrap();
    assert!(got.status == 502 || got.status == 503, "{}", got.status);
    assert!(got.header("location").is_none() && !got.text().contains("CANARY"));
}
