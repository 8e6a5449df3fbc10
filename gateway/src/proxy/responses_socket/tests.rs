//! Sockets in memory: their messages are requests of the gateway to itself.

use serde_json::{Value, json};
use spillway_testkit::client::frame;
use tokio::io::DuplexStream;
use tokio::sync::mpsc::Receiver;

use super::*;
use crate::clock::Clock;
use crate::proxy::fixtures::{self, CallerEnd, Setup, answer_own, consumer, facts, facts_of, get, with_own_requests};
use crate::request::InFlight;

const ASKS: [(&str, &str); 5] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("api-key", "one"),
];
/// A close frame without a code.
const CLOSE: [u8; 6] = [0x88, 0x80, 0, 0, 0, 0];

/// Serves a socket while its caller talks, and says how it ended.
async fn served<T>(talk: impl AsyncFnOnce(&Gateway, &mut Receiver<DuplexStream>, &mut CallerEnd) -> T) -> (T, Reply) {
    let (gateway, mut own) = with_own_requests(&Setup::default().text(), Clock::standing());
    let (mut session, mut caller) = fixtures::pingora_session(get("/v1/responses", &ASKS)).await;
    let (mut facts, mut timing, mut reply) = (facts(&gateway), Timing::default(), Reply::default());
    let mut counted = Counted { in_flight: Some(InFlight::new(&gateway.metrics.requests.in_flight)), one_of: None };
    let talks = async {
        let head = caller.head().await;
        assert_eq!((head.line[1].as_str(), head.header("sec-websocket-accept")), ("101", Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
        assert_eq!(gateway.metrics.requests.in_flight.get(), 0, "its messages are requests in flight; it is none itself");
        talk(&gateway, &mut own, &mut caller).await
    };
    let serving = serve(&gateway, &mut session, &mut facts, &mut timing, &mut counted, &mut reply);
    let (served, talked) = tokio::join!(serving, talks);
    assert!(matches!(served, Ok(IntakeOutcome::Answered)));
    assert_eq!((reply.status, gateway.metrics.requests.buffered.get()), (Some(101), 0));
    (talked, reply)
}

fn stream(events: &[Value]) -> String {
    let events: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n{events}", events.len())
}

#[tokio::test]
async fn a_message_is_a_request_and_its_events_are_messages() {
    let created = json!({ "type": "response.created", "response": { "id": "resp_1" } });
    let completed = json!({ "type": "response.completed", "response": { "id": "resp_1", "output": [] } });
    let events = [created, completed];
    let ((asked, told), reply) = served(async |_, own, caller| {
        caller.send(frame(r#"{"type":"response.create","model":"m","input":"hi","stream":false}"#)).await;
        let asked = answer_own(own, &stream(&events)).await;
        let mut told = Vec::new();
        for _ in 0..2 {
            told.push(serde_json::from_str::<Value>(&caller.message().await.1).unwrap());
        }
        caller.send(CLOSE).await;
        assert_eq!(caller.message().await.0, 0x88);
        (asked, told)
    })
    .await;
    assert_eq!(told, events);
    assert_eq!(&asked.head.line[..2], ["POST", "/v1/responses"]);
    assert_eq!((asked.head.header("x-request-id"), asked.head.header("api-key")), (Some("the-id-1"), Some("one")));
    assert_eq!(asked.head.header("upgrade"), None);
    let body: Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!(body, json!({ "stream": true, "model": "m", "input": "hi" }));
    assert_eq!(reply.end, End::Complete);
    assert!(reply.bytes_out > 100, "{reply:?}");
}

#[tokio::test]
async fn what_is_wrong_with_a_message_is_told_and_the_socket_goes_on() {
    let ((), reply) = served(async |_, own, caller| {
        caller.send(frame("nonsense")).await;
        let told: Value = serde_json::from_str(&caller.message().await.1).unwrap();
        assert_eq!(told["type"], "error", "{told}");
        caller.send(frame(r#"{"type":"response.create","model":"m","input":"hi"}"#)).await;
        let refused = json!({ "error": { "code": "rate_limit_exceeded", "message": "no" } }).to_string();
        let head =
            format!("HTTP/1.1 429 X\r\nretry-after: 3\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", refused.len());
        answer_own(own, &(head + &refused)).await;
        let told: Value = serde_json::from_str(&caller.message().await.1).unwrap();
        assert_eq!((&told["status"], &told["error"]["code"]), (&json!(429), &json!("rate_limit_exceeded")), "{told}");
        caller.send(CLOSE).await;
        caller.message().await;
    })
    .await;
    assert_eq!(reply.end, End::Complete);
}

#[tokio::test]
async fn a_warm_up_asks_nobody_and_the_next_message_goes_on_from_it() {
    served(async |_, own, caller| {
        caller.send(frame(r#"{"type":"response.create","model":"m","generate":false,"input":"hi"}"#)).await;
        let id = loop {
            let told: Value = serde_json::from_str(&caller.message().await.1).unwrap();
            if told["type"] == "response.completed" {
                break told["response"]["id"].as_str().unwrap().to_owned();
            }
        };
        assert!(own.try_recv().is_err());
        let next = json!({ "type": "response.create", "model": "m", "input": "ho", "previous_response_id": id });
        caller.send(frame(&next.to_string())).await;
        let asked = answer_own(own, &stream(&[json!({ "type": "response.completed", "response": { "id": "resp_2" } })])).await;
        let body = String::from_utf8(asked.body).unwrap();
        assert!(body.contains("hi") && body.contains("ho") && !body.contains("previous_response_id"), "{body}");
        caller.message().await;
        caller.send(CLOSE).await;
        caller.message().await;
    })
    .await;
}

#[tokio::test]
async fn a_response_that_no_backend_stores_is_known_as_long_as_its_socket() {
    served(async |_, own, caller| {
        caller.send(frame(r#"{"type":"response.create","model":"m","store":false,"input":"hi"}"#)).await;
        let said =
            json!({ "type": "message", "id": "msg_1", "role": "assistant", "content": [{ "type": "output_text", "text": "hello" }] });
        let completed = json!({ "type": "response.completed", "response": { "id": "resp_1", "output": [said] } });
        answer_own(own, &stream(&[completed])).await;
        caller.message().await;
        let next = r#"{"type":"response.create","model":"m","store":false,"input":"ho","previous_response_id":"resp_1"}"#;
        caller.send(frame(next)).await;
        let asked = answer_own(own, &stream(&[json!({ "type": "response.completed", "response": { "id": "resp_2" } })])).await;
        let body = String::from_utf8(asked.body).unwrap();
        assert!(["hi", "hello", "ho"].iter().all(|text| body.contains(text)) && !body.contains("previous_response_id"), "{body}");
        assert_eq!(asked.head.header("x-request-id"), Some("the-id-2"));
        caller.message().await;
        caller.send(CLOSE).await;
        caller.message().await;
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_is_gone_ends_it() {
    let (gateway, _own) = with_own_requests(&Setup::default().text(), Clock::standing());
    let (mut session, mut caller) = fixtures::pingora_session(get("/v1/responses", &ASKS)).await;
    let (mut facts, mut timing, mut reply) = (facts(&gateway), Timing::default(), Reply::default());
    let mut counted = Counted { in_flight: None, one_of: None };
    let leaves = async {
        caller.head().await;
        drop(caller);
    };
    let (served, ()) = tokio::join!(serve(&gateway, &mut session, &mut facts, &mut timing, &mut counted, &mut reply), leaves);
    assert!(served.is_ok() && reply.end == End::CallerLeft);
}

#[tokio::test]
async fn some_get_no_socket() {
    let rest = consumer("one", "apis = [\"chat\"]") + &consumer("two", "");
    let gateway = Setup { rest: &rest, server: "max_connections = 2", ..Setup::default() }.gateway();
    let refused = async |name: &str| {
        let (mut session, caller) = fixtures::pingora_session(get("/v1/responses", &ASKS)).await;
        let (mut facts, mut timing, mut reply) = (facts_of(&gateway, name), Timing::default(), Reply::default());
        let mut counted = Counted { in_flight: None, one_of: None };
        let served = serve(&gateway, &mut session, &mut facts, &mut timing, &mut counted, &mut reply).await;
        drop(session);
        assert_eq!((caller.bytes().await.len(), reply.status), (0, None));
        match served {
            Err(IntakeError::Refuse(refusal)) => refusal,
            _ => panic!("it is refused"),
        }
    };
    assert_eq!(refused("one").await, Refusal::ApiNotAllowed { api: "responses" });
    let _held = gateway.sockets.take(Some("two".into())).unwrap();
    assert_eq!(refused("two").await, Refusal::Overloaded { what: "sockets" });
}
