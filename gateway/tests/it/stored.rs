//! What backends store goes back to where it is, for its owner alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use spillway_plugins::auth::digest;
use spillway_testkit::backend::{Received, Reply, ScriptedBackend};
use spillway_testkit::client::{Response, ask, post};

use crate::support::*;

/// A backend that names what it makes `PREFIX-1`, `PREFIX-2` and so on.
async fn keeper(prefix: &'static str) -> ScriptedBackend {
    let made = Arc::new(AtomicUsize::new(0));
    ScriptedBackend::start(move |request| keep(prefix, &made, request)).await
}

fn keep(prefix: &str, made: &AtomicUsize, request: &Received) -> Reply {
    let make = || format!("{prefix}-{}", made.fetch_add(1, Ordering::Relaxed) + 1);
    let path = request.path().split('?').next().unwrap_or_default().to_owned();
    let streamed = request.json()["stream"] == true;
    match (request.head.line[0].as_str(), path.as_str()) {
        ("POST", "/v1/responses") if streamed => {
            let id = make();
            let event = |kind: &str, more: serde_json::Value| {
                let mut event = json!({ "type": kind, "sequence_number": 1 });
                event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                format!("event: {kind}\ndata: {event}\n\n")
            };
            Reply::sse([
                event("response.created", json!({ "response": { "id": id, "object": "response" } })),
                event("response.output_text.delta", json!({ "delta": "x" })),
                event("response.output_item.done", json!({ "item": { "id": format!("msg_of_{id}") } })),
                event("response.completed", json!({ "response": { "id": id, "output": [] } })),
            ])
        }
        ("POST", "/v1/responses") => {
            let id = make();
            let output = json!([{ "id": format!("msg_of_{id}") }]);
            Reply::json(200, json!({ "id": id, "object": "response", "output": output }).to_string())
        }
        ("POST", "/v1/files" | "/v1/conversations" | "/v1/batches") => Reply::json(200, json!({ "id": make(), "object": "x" }).to_string()),
        ("GET", batch) if batch.starts_with("/v1/batches/") => Reply::json(
            200,
            json!({ "id": batch.rsplit('/').next(), "status": "completed", "output_file_id": format!("{prefix}-output") }).to_string(),
        ),
        ("GET", content) if content.ends_with("/content") => Reply::json(200, r#"{"id":"other-consumers-id","object":"response"}"#),
        (method, path) => Reply::json(200, json!({ "method": method, "path": path, "by": prefix }).to_string()),
    }
}

fn consumers() -> String {
    let consumer = |name: &str, key: &str, more: &str| {
        format!("[[consumers]]\nname = \"{name}\"\nkeys = [{{ sha256 = \"{}\" }}]\n{more}\n", digest(key.as_bytes()))
    };
    consumer("one", "one", "")
        + &consumer("two", "two", "")
        + &consumer("chat-only", "chat", "apis = [\"chat\"]")
        + &consumer("fenced", "fenced", "models = [\"m\"]")
        + &consumer("unfenced", "unfenced", "models = [\"m\"]\napis = [\"batches\"]")
}

struct Caller<'g> {
    gateway: &'g Gateway,
    key: &'static str,
}

impl Caller<'_> {
    async fn post(&self, path: &str, body: serde_json::Value) -> Response {
        ask(self.gateway.address, post(path, &[("api-key", self.key)], body.to_string().as_bytes())).await.unwrap()
    }

    async fn send(&self, method: &str, path: &str) -> Response {
        let request = format!("{method} {path} HTTP/1.1\r\nhost: g\r\napi-key: {}\r\n\r\n", self.key);
        ask(self.gateway.address, request).await.unwrap()
    }

    /// Makes a response; its name and the backend that made it.
    async fn respond(&self, more: serde_json::Value) -> (String, String) {
        let mut body = json!({ "model": "m", "input": "x" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let got = self.post("/v1/responses", body).await;
        assert_eq!(got.status, 200, "{}", got.text());
        let backend = got.header("x-spillway-backend").unwrap().to_owned();
        let text = got.text();
        let id = match got.json()["id"].as_str() {
            Some(id) => id.to_owned(),
            None => text.split("\"id\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned(),
        };
        (id, backend)
    }
}

/// Two backends of one tier, which names what it made after itself.
async fn two() -> (ScriptedBackend, ScriptedBackend, Gateway) {
    let (a, b) = (keeper("a").await, keeper("b").await);
    let gateway = Gateway::start(&config(&[member("a", &a, 1), member("b", &b, 1)], "", &consumers())).await;
    (a, b, gateway)
}

#[tokio::test]
async fn a_conversation_stays_where_it_began_and_with_whom() {
    let (_a, _b, gateway) = two().await;
    let (one, two) = (Caller { gateway: &gateway, key: "one" }, Caller { gateway: &gateway, key: "two" });
    for stream in [false, true] {
        let mut seen = std::collections::BTreeSet::new();
        // A fair choice among two, sixty times in a row the same: not in this universe.
        for round in 0..60 {
            if round >= 8 && seen.len() == 2 {
                break;
            }
            let (id, backend) = one.respond(json!({ "stream": stream })).await;
            seen.insert(backend.clone());
            assert!(id.starts_with(&backend), "{id} of {backend}");
            for _ in 0..3 {
                assert_eq!(one.respond(json!({ "previous_response_id": id, "stream": stream })).await.1, backend);
            }
            let got = one.send("GET", &format!("/v1/responses/{id}")).await;
            assert_eq!((got.status, got.json()["by"].as_str()), (200, Some(&*backend)));
            assert_eq!(
                one.send("GET", &format!("/v1/responses/{id}/input_items?limit=3")).await.json()["path"],
                format!("/v1/responses/{id}/input_items")
            );
            assert_eq!(one.send("DELETE", &format!("/openai/v1/responses/{id}")).await.json()["method"], "DELETE");
            let item = json!({ "input": [{ "type": "item_reference", "id": format!("msg_of_{id}") }] });
            assert_eq!(one.respond(item.clone()).await.1, backend);
            assert_eq!(two.post("/v1/responses", json!({ "model": "m", "input": item["input"] })).await.code(), "object_not_found");
            // Another consumer gets what it would get for a name that doesn't exist.
            let foreign = two.post("/v1/responses", json!({ "model": "m", "input": "x", "previous_response_id": id })).await;
            let unknown = two.post("/v1/responses", json!({ "model": "m", "input": "x", "previous_response_id": "resp_none" })).await;
            assert_eq!((foreign.status, foreign.code()), (404, "object_not_found".into()));
            assert_eq!(foreign.text().replace(&id, "NAME"), unknown.text().replace("resp_none", "NAME"));
            assert_eq!(two.send("GET", &format!("/v1/responses/{id}")).await.status, 404);
        }
        assert_eq!(seen.len(), 2, "new ones are spread over both");
    }
}

#[tokio::test]
async fn files_batches_and_conversations_are_their_owners() {
    let (a, b, gateway) = two().await;
    let (one, two) = (Caller { gateway: &gateway, key: "one" }, Caller { gateway: &gateway, key: "two" });
    let form = "--XX\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"model\"\r\n\r\n{\"custom_id\":1}\r\n--XX--\r\n";
    let upload = |key: &str, chunked: bool| {
        let framing = if chunked { "transfer-encoding: chunked".to_owned() } else { format!("content-length: {}", form.len()) };
        let body = if chunked { format!("{:x}\r\n{form}\r\n0\r\n\r\n", form.len()) } else { form.to_owned() };
        format!(
            "POST /v1/files HTTP/1.1\r\nhost: g\r\napi-key: {key}\r\ncontent-type: multipart/form-data; boundary=XX\r\n{framing}\r\n\r\n{body}"
        )
    };
    for chunked in [false, true] {
        let got = ask(gateway.address, upload("one", chunked)).await.unwrap();
        assert_eq!(got.status, 200, "{}", got.text());
        let (file, backend) = (got.json()["id"].as_str().unwrap().to_owned(), got.header("x-spillway-backend").unwrap().to_owned());
        let received = if backend == "a" { a.received() } else { b.received() };
        assert_eq!(String::from_utf8_lossy(&received.last().unwrap().body), form, "byte for byte");
        assert_eq!(one.send("GET", &format!("/v1/files/{file}")).await.json()["by"], *backend);
        assert_eq!(two.send("GET", &format!("/v1/files/{file}")).await.code(), "object_not_found");
        assert_eq!(two.send("GET", &format!("/v1/files/{file}/content")).await.status, 404);
        let batch =
            one.post("/v1/batches", json!({ "input_file_id": file, "endpoint": "/v1/responses", "completion_window": "24h" })).await;
        assert_eq!(batch.header("x-spillway-backend"), Some(&*backend), "where its file is");
        let batch = batch.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(two.post("/v1/batches", json!({ "input_file_id": file })).await.status, 404);
        let polled = one.send("GET", &format!("/v1/batches/{batch}")).await.json();
        let output = polled["output_file_id"].as_str().unwrap();
        assert_eq!(one.send("GET", &format!("/v1/files/{output}/content")).await.status, 200, "what a batch wrote is its owner's");
        assert_eq!(two.send("GET", &format!("/v1/files/{output}/content")).await.status, 404);
        assert_eq!(one.send("GET", "/v1/responses/other-consumers-id").await.status, 404, "a file's content makes nobody an owner");
        // Deep inside a request, and with escaped letters.
        let with_file =
            |id: &str| format!(r#"{{"model":"m","input":[{{"role":"user","content":[{{"type":"input_file","fil\u0065_id":"{id}"}}]}}]}}"#);
        let got = ask(gateway.address, post("/v1/responses", &[("api-key", "one")], with_file(&file).as_bytes())).await.unwrap();
        assert_eq!(got.header("x-spillway-backend"), Some(&*backend));
        let got = ask(gateway.address, post("/v1/responses", &[("api-key", "two")], with_file(&file).as_bytes())).await.unwrap();
        assert_eq!(got.code(), "object_not_found");
        let mounted = json!({ "model": "m", "input": "x", "tools": [{ "type": "code_interpreter", "container": { "type": "auto", "file_ids": [file] } }] });
        assert_eq!(one.post("/v1/responses", mounted.clone()).await.header("x-spillway-backend"), Some(&*backend));
        assert_eq!(two.post("/v1/responses", mounted).await.code(), "object_not_found");
    }
    let conversation = one.post("/v1/conversations", json!({})).await;
    let (id, backend) =
        (conversation.json()["id"].as_str().unwrap().to_owned(), conversation.header("x-spillway-backend").unwrap().to_owned());
    for conversation in [json!(id), json!({ "id": id })] {
        assert_eq!(one.respond(json!({ "conversation": conversation })).await.1, backend);
        assert_eq!(two.post("/v1/responses", json!({ "model": "m", "input": "x", "conversation": conversation })).await.status, 404);
    }
    assert_eq!(one.post(&format!("/v1/conversations/{id}/items"), json!({ "items": [] })).await.json()["by"], *backend);
    for (method, path) in [("GET", "/v1/files"), ("GET", "/v1/batches"), ("GET", "/v1/conversations")] {
        assert_eq!(one.send(method, path).await.status, 405, "a list would show what others stored");
    }
    assert_eq!(Caller { gateway: &gateway, key: "chat" }.post("/v1/conversations", json!({})).await.code(), "api_not_allowed");
    let fenced = Caller { gateway: &gateway, key: "fenced" };
    assert_eq!(fenced.post("/v1/batches", json!({})).await.code(), "api_not_allowed", "a batch's models can't be checked");
    assert_eq!(fenced.post("/openai/deployments/gpt-4o/batches", json!({})).await.code(), "model_not_allowed");
    let unfenced = Caller { gateway: &gateway, key: "unfenced" };
    assert_eq!(unfenced.post("/v1/batches", json!({})).await.status, 200, "unless batches are allowed by name");
}

#[tokio::test]
async fn a_keeper_that_is_out_gives_a_clear_answer_and_never_anothers() {
    let made = Arc::new(AtomicUsize::new(0));
    let full = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let a = {
        let full = Arc::clone(&full);
        ScriptedBackend::start(
            move |request| if full.load(Ordering::Relaxed) { Reply::throttled(20_000) } else { keep("a", &made, request) },
        )
        .await
    };
    let b = keeper("b").await;
    let rest = consumers() + "[[backends]]\nname = \"sorry\"\nkind = \"mock\"\n";
    let gateway = Gateway::start(&config(&[member("a", &a, 1), member("b", &b, 2)], "", &rest)).await;
    let one = Caller { gateway: &gateway, key: "one" };
    let (id, backend) = one.respond(json!({})).await;
    assert_eq!(backend, "a");
    full.store(true, Ordering::Relaxed);
    let got = one.post("/v1/responses", json!({ "model": "m", "input": "x", "previous_response_id": id })).await;
    assert_eq!((got.status, got.code()), (429, "rate_limit_exceeded".into()), "{}", got.text());
    assert!(got.header("retry-after").is_some());
    assert_eq!(b.count(), 0);
    let got = one.send("GET", &format!("/v1/responses/{id}")).await;
    assert!(got.status == 429 && b.count() == 0, "{}", got.text());
    assert_eq!(one.respond(json!({})).await.1, "b", "what is new goes on");
}

#[tokio::test]
async fn things_that_live_apart_or_elsewhere_are_refused_by_name() {
    let (a, b, c) = (keeper("a").await, keeper("b").await, keeper("c").await);
    let second = format!(
        "[[backends]]\nname = \"c\"\nkind = \"openai\"\nurl = \"{}\"\n\n[[pools]]\nname = \"second\"\nmodels = [\"n\"]\nmembers = [{{ backend = \"c\" }}]\n\n",
        c.url()
    );
    let gateway = Gateway::start(&config(&[member("a", &a, 1), member("b", &b, 1)], "", &(second + &consumers()))).await;
    let one = Caller { gateway: &gateway, key: "one" };
    let (mut at_a, mut at_b) = (None, None);
    while at_a.is_none() || at_b.is_none() {
        let (id, backend) = one.respond(json!({})).await;
        if backend == "a" { at_a = Some(id) } else { at_b = Some(id) }
    }
    let apart = one.post("/v1/responses", json!({ "model": "m", "input": "x", "previous_response_id": at_a, "conversation": at_b })).await;
    assert_eq!((apart.status, apart.code()), (400, "objects_apart".into()));
    let elsewhere = one.post("/v1/responses", json!({ "model": "n", "input": "x", "previous_response_id": at_a })).await;
    assert_eq!((elsewhere.status, elsewhere.code()), (400, "object_elsewhere".into()));
    for bad in [json!(7), json!("../x"), json!({ "x": 1 })] {
        assert_eq!(one.post("/v1/responses", json!({ "model": "m", "previous_response_id": bad })).await.status, 404, "{bad}");
    }
    let lenient = r#"{"input_file_id":"x", /* */ "endpoint":"/v1/responses"}"#;
    let broken = ask(gateway.address, post("/v1/batches", &[("api-key", "one")], lenient.as_bytes())).await.unwrap();
    assert_eq!((broken.status, broken.code()), (400, "invalid_json".into()), "what we can't read goes nowhere");
    let chosen =
        ask(gateway.address, post("/v1/conversations", &[("api-key", "one"), ("x-spillway-pool", "second")], b"{}")).await.unwrap();
    assert_eq!(chosen.header("x-spillway-backend"), Some("c"));
    let nowhere =
        ask(gateway.address, post("/v1/conversations", &[("api-key", "one"), ("x-spillway-pool", "third")], b"{}")).await.unwrap();
    assert_eq!(nowhere.code(), "no_pool_for_objects");
    assert!(c.received()[0].header("x-spillway-pool").is_none());
}

#[tokio::test]
async fn memory_is_bounded_and_what_was_used_last_stays() {
    let a = keeper("a").await;
    let gateway = Gateway::start(&config(&[member("a", &a, 1)], "", &(consumers() + "[objects]\nmax = 20\n"))).await;
    let one = Caller { gateway: &gateway, key: "one" };
    let (first, _) = one.respond(json!({})).await;
    for _ in 0..200 {
        one.respond(json!({})).await;
    }
    assert_eq!(one.post("/v1/responses", json!({ "model": "m", "previous_response_id": first })).await.status, 404);
    let (last, _) = one.respond(json!({})).await;
    assert_eq!(one.respond(json!({ "previous_response_id": last })).await.1, "a");
    let (unstored, _) = one.respond(json!({ "store": false })).await;
    assert_eq!(one.send("GET", &format!("/v1/responses/{unstored}")).await.status, 404);
}

#[tokio::test]
async fn nodes_share_what_they_know_and_losing_redis_is_no_hang() {
    let redis = RedisServer::start(None);
    let (a, b) = (keeper("a").await, keeper("b").await);
    let rest = consumers() + &format!("[redis]\nurl = \"redis://:CANARY-redis@127.0.0.1:{}\"\n", redis.port);
    let text = config(&[member("a", &a, 1), member("b", &b, 1)], "", &rest);
    let (first, second) = (Gateway::start(&text).await, Gateway::start(&text).await);
    let (here, there) = (Caller { gateway: &first, key: "one" }, Caller { gateway: &second, key: "one" });
    let (id, backend) = here.respond(json!({})).await;
    eventually("the other node knows", async || there.send("GET", &format!("/v1/responses/{id}")).await.status == 200).await;
    assert_eq!(there.respond(json!({ "previous_response_id": id })).await.1, backend);
    assert_eq!(Caller { gateway: &second, key: "two" }.send("GET", &format!("/v1/responses/{id}")).await.status, 404);
    let port = redis.port;
    drop(redis);
    let (later, _) = here.respond(json!({})).await;
    let began = Instant::now();
    assert_eq!(here.send("GET", &format!("/v1/responses/{later}")).await.status, 200, "what a node made it knows");
    let unsure = there.send("GET", &format!("/v1/responses/{later}")).await;
    assert_eq!((unsure.status, unsure.code()), (503, "overloaded".into()), "not known is not the same as not there");
    assert!(began.elapsed() < Duration::from_secs(60));
    assert_eq!(there.respond(json!({ "previous_response_id": id })).await.1, backend, "what it knew it still knows");
    let _redis = RedisServer::start(Some(port));
    eventually("what was made meanwhile is known, too", async || there.send("GET", &format!("/v1/responses/{later}")).await.status == 200)
        .await;
    assert_eq!(first.metric("spillway_stored_objects_unshared_total").await, 0.0);
    let page = first.admin("/metrics").await.text();
    assert!(!page.contains("CANARY"));
}
