//! What a caller says on a realtime socket is held to its rights, as its requests are.

use std::time::Duration;

use serde_json::{Value, json};
use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::{Connection, frame};

use crate::support::*;

async fn echo() -> ScriptedBackend {
    ScriptedBackend::start(|_| {
        let head = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: x\r\n\r\n";
        Reply::raw([Step::Write(head.into()), Step::Echo])
    })
    .await
}

async fn socket(gateway: &Gateway, who: &str) -> Connection {
    let mut connection = Connection::open(gateway.address).await.unwrap();
    let upgrade = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
    connection.send(format!("GET /v1/realtime?model=m HTTP/1.1\r\nhost: x\r\napi-key: {who}\r\n{upgrade}\r\n\r\n")).await.unwrap();
    assert_eq!(connection.answer_head().await.unwrap().0, 101);
    connection
}

/// Says something on a new socket: the error event that ends it.
async fn refused(gateway: &Gateway, who: &str, said: &[u8]) -> Value {
    let mut connection = socket(gateway, who).await;
    connection.send(frame(r#"{"type":"first"}"#)).await.unwrap();
    assert_eq!(connection.message().await.unwrap().1, br#"{"type":"first"}"#);
    connection.send(said).await.unwrap();
    let (first, event) = connection.message().await.unwrap();
    let event: Value = serde_json::from_slice(&event).unwrap();
    assert_eq!((first, &event["type"]), (0x81, &json!("error")), "{event}");
    let (first, close) = connection.message().await.unwrap();
    assert_eq!((first, &close[..2]), (0x88, &1008u16.to_be_bytes()[..]));
    // A caller that goes on all the same reaches nobody.
    connection.send(frame(r#"{"type":"after"}"#)).await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(10), connection.message()).await.unwrap();
    assert!(end.is_err(), "{end:?}");
    event["error"].clone()
}

fn session(session: Value) -> Vec<u8> {
    frame(&json!({ "type": "session.update", "session": session }).to_string())
}

#[tokio::test]
async fn a_model_that_a_message_names_needs_the_callers_rights() {
    let backend = echo().await;
    let rest = consumer("narrow", "models = [\"m\"]") + &consumer("wide", "");
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &rest)).await;
    let transcribed = |model: &str| json!({ "audio": { "input": { "transcription": { "model": model } } } });
    for (said, allowed) in [
        (json!({ "model": "gpt-4o" }), json!({ "model": "m" })),
        (json!({ "input_audio_transcription": { "model": "gpt-4o" } }), json!({ "input_audio_transcription": null })),
        (transcribed("whisper-1"), transcribed("m")),
    ] {
        let error = refused(&gateway, "narrow", &session(said.clone())).await;
        assert_eq!((&error["code"], &error["param"]), (&json!("model_not_allowed"), &json!("model")), "{error}");
        for (who, said) in [("narrow", allowed), ("wide", said)] {
            let mut connection = socket(&gateway, who).await;
            connection.send(session(said)).await.unwrap();
            let (_, echo) = connection.message().await.unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&echo).unwrap()["type"], "session.update");
        }
    }
    eventually("nothing is held any more", async || gateway.metric("spillway_in_flight_requests").await == 0.0).await;
    assert_eq!(gateway.metric("spillway_buffered_bytes").await, 0.0);
}

#[tokio::test]
async fn stored_things_of_others_and_what_could_be_read_differently_end_a_socket() {
    let backend = echo().await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &consumer("crm", ""))).await;
    let tool = json!({ "tools": [{ "type": "file_search", "vector_store_ids": ["vs_1"] }] });
    assert_eq!(refused(&gateway, "crm", &session(tool)).await["code"], "object_not_found");
    for said in [
        r#"{"type":"session.update","session":{"model":"m","model":"gpt-4o"}}"#,
        r#"{"type":"session.update","session":{"Model":"gpt-4o"}}"#,
        "no JSON",
    ] {
        assert_eq!(refused(&gateway, "crm", &frame(said)).await["code"], "invalid_json", "{said}");
    }
    let unmasked = [&[0x81, 16][..], br#"{"type":"second"}"#].concat();
    assert_eq!(refused(&gateway, "crm", &unmasked).await["code"], "invalid_form");
}

#[tokio::test]
async fn sound_of_any_length_passes() {
    let backend = ScriptedBackend::start(|_| {
        let head = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: x\r\n\r\n";
        Reply::raw([Step::Write(head.into()), Step::Hang])
    })
    .await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &consumer("crm", ""))).await;
    let mut connection = socket(&gateway, "crm").await;
    let sound = json!({ "type": "input_audio_buffer.append", "audio": "UklG".repeat(1 << 19) }).to_string();
    connection.send(frame(&sound)).await.unwrap();
    eventually("little of it is held", async || gateway.metric("spillway_buffered_bytes").await == 0.0).await;
    assert_eq!(gateway.metric("spillway_in_flight_requests").await, 1.0, "the socket lives");
}

#[tokio::test]
async fn sockets_of_one_consumer_leave_slots_for_anothers() {
    let backend = ScriptedBackend::start(|request| match request.header("upgrade") {
        Some(_) => {
            let head = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: x\r\n\r\n";
            Reply::raw([Step::Write(head.into()), Step::Echo])
        }
        _ => Reply::json(200, answer("fine")),
    })
    .await;
    let only = Member { name: "a", backend: &backend, priority: 1, extra: "max_concurrent = 4" };
    let gateway = Gateway::start(&config(&[only], "", &(consumer("hostile", "") + &consumer("ordinary", "")))).await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(socket(&gateway, "hostile").await);
    }
    let upgrade = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
    let request = format!("GET /v1/realtime?model=m HTTP/1.1\r\nhost: x\r\napi-key: hostile\r\n{upgrade}\r\n\r\n");
    let mut fourth = Connection::open(gateway.address).await.unwrap();
    fourth.send(request).await.unwrap();
    assert_eq!(fourth.answer_head().await.unwrap().0, 429);
    let chat = spillway_testkit::client::post("/v1/chat/completions", &[("api-key", "ordinary")], chat(false).to_string().as_bytes());
    assert_eq!(spillway_testkit::client::ask(gateway.address, chat).await.unwrap().status, 200);
    sockets.push(socket(&gateway, "ordinary").await);
}
