//! Heads of requests to backends.

use super::*;
use crate::provider::AzureOpenAi;

fn caller(method: Method, more: &[(&'static str, &'static str)]) -> RequestHeader {
    let mut caller = RequestHeader::build(method, b"/v1/x?api-version=1&a=b", None).unwrap();
    let usual = [
        ("host", "gateway"),
        ("authorization", "Bearer key"),
        ("x-custom", "1"),
        ("x-request-id", "theirs"),
        ("accept-encoding", "gzip"),
        ("content-length", "7"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
    ];
    for (name, value) in usual.iter().chain(more) {
        caller.insert_header(*name, *value).unwrap();
    }
    caller
}

/// The first line and the fields, in order.
fn built(caller: &RequestHeader, kind: &BackendKind, target: RequestTarget<'_>, framing: Framing) -> (String, Vec<String>) {
    let host = "res.example".to_owned();
    let endpoint =
        Endpoint { tls: true, host: host.clone(), port: 443, server_name: host.clone(), authority: host, prefix: "/base".to_owned() };
    let request = UpstreamRequest { caller, allowed: &[], kind, endpoint: &endpoint, target, framing, id: "ours", owner: None };
    let head = request.head().unwrap();
    let mut fields: Vec<String> = head.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect();
    fields.sort();
    (format!("{} {}", head.method(), String::from_utf8_lossy(head.target())), fields)
}

const COMMON: [&str; 4] = ["accept-encoding: identity", "host: res.example", "x-custom: 1", "x-request-id: ours"];

/// One table for both drivers: whole bodies are sent by the attempt loop, the others by Pingora's own.
#[test]
fn every_kind_of_request_has_one_head() {
    let chat = RequestTarget::Model { api: Api::Chat, part: None, deployment: "d" };
    let messages = RequestTarget::Model { api: Api::Messages, part: None, deployment: "d" };
    let upload = RequestTarget::Model { api: Api::Transcriptions, part: None, deployment: "d" };
    let socket = RequestTarget::Model { api: Api::Realtime, part: None, deployment: "d" };
    let file = RequestTarget::Stored { path: "files/f" };
    let rest = RequestTarget::Rest { path: "responses/r", query: "stream=true&starting_after=3" };
    let v1 = BackendKind::AzureOpenAi(AzureOpenAi::V1);
    let dated = BackendKind::AzureOpenAi(AzureOpenAi::dated(Some("2024-10-21")));
    let key = ("sec-websocket-key", "k");
    let protocol = ("sec-websocket-protocol", "realtime, openai-insecure-api-key.secret");
    let post = Method::POST;
    for (name, method, more, kind, target, framing, line, own) in [
        (
            "chat",
            post.clone(),
            vec![],
            &v1,
            chat,
            Framing::Whole(9),
            "POST /base/openai/v1/chat/completions?a=b",
            vec!["content-length: 9"],
        ),
        (
            "dated",
            post.clone(),
            vec![],
            &dated,
            chat,
            Framing::Whole(9),
            "POST /base/openai/deployments/d/chat/completions?api-version=2024-10-21&a=b",
            vec!["content-length: 9"],
        ),
        (
            "messages",
            post.clone(),
            vec![],
            &BackendKind::Anthropic,
            messages,
            Framing::Whole(9),
            "POST /base/v1/messages?a=b",
            vec!["anthropic-version: 2023-06-01", "content-length: 9"],
        ),
        (
            "upload",
            post.clone(),
            vec![],
            &BackendKind::OpenAi,
            upload,
            Framing::Streamed(Some(8)),
            "POST /base/v1/audio/transcriptions?a=b",
            vec!["content-length: 8"],
        ),
        (
            "upload of any length",
            post.clone(),
            vec![],
            &BackendKind::OpenAi,
            upload,
            Framing::Streamed(None),
            "POST /base/v1/audio/transcriptions?a=b",
            vec!["transfer-encoding: chunked"],
        ),
        (
            "socket",
            Method::GET,
            vec![key, ("upgrade", "h2c"), ("sec-websocket-extensions", "x"), protocol],
            &BackendKind::OpenAi,
            socket,
            Framing::Socket,
            "GET /base/v1/realtime?model=d",
            vec!["connection: Upgrade", "sec-websocket-key: k", "sec-websocket-protocol: realtime", "upgrade: websocket"],
        ),
        ("file", Method::DELETE, vec![], &BackendKind::OpenAi, file, Framing::Whole(0), "DELETE /base/v1/files/f?a=b", vec![]),
        (
            "a socket on Azure",
            Method::GET,
            vec![key],
            &v1,
            socket,
            Framing::Socket,
            "GET /base/openai/v1/realtime?model=d",
            vec!["connection: Upgrade", "sec-websocket-key: k", "upgrade: websocket"],
        ),
        (
            "an upload of something stored",
            post.clone(),
            vec![("content-type", "multipart/form-data; boundary=x")],
            &BackendKind::OpenAi,
            RequestTarget::Stored { path: "files" },
            Framing::Streamed(Some(7)),
            "POST /base/v1/files?a=b",
            vec!["content-length: 7", "content-type: multipart/form-data; boundary=x"],
        ),
        (
            "a part of an API",
            post.clone(),
            vec![("anthropic-version", "2024-01-01")],
            &BackendKind::Anthropic,
            RequestTarget::Model { api: Api::Messages, part: Some(Part::CountTokens), deployment: "d" },
            Framing::Whole(9),
            "POST /base/v1/messages/count_tokens?a=b",
            vec!["anthropic-version: 2024-01-01", "content-length: 9"],
        ),
        (
            "the rest of a response",
            post,
            vec![("content-type", "application/json")],
            &BackendKind::OpenAi,
            rest,
            Framing::Whole(0),
            "GET /base/v1/responses/r?stream=true&starting_after=3",
            vec![],
        ),
    ] {
        let mut expected: Vec<String> = COMMON.iter().chain(&own).map(|field| (*field).to_owned()).collect();
        expected.sort();
        assert_eq!(built(&caller(method, &more), kind, target, framing), (line.to_owned(), expected), "{name}");
    }
}

#[test]
fn a_key_against_repetition_is_the_consumers_own() {
    let endpoint = Endpoint {
        tls: true,
        host: "res.example".to_owned(),
        port: 443,
        server_name: "res.example".to_owned(),
        authority: "res.example".to_owned(),
        prefix: String::new(),
    };
    let key = |owner: Option<&str>, key: &'static str| {
        let caller = caller(Method::POST, &[("idempotency-key", key)]);
        let target = RequestTarget::Model { api: Api::Chat, part: None, deployment: "d" };
        let kind = &BackendKind::Anthropic;
        let request = UpstreamRequest {
            caller: &caller,
            allowed: &[],
            kind,
            endpoint: &endpoint,
            target,
            framing: Framing::Whole(1),
            id: "x",
            owner,
        };
        String::from_utf8(request.head().unwrap().get("idempotency-key").unwrap().to_vec()).unwrap()
    };
    assert_eq!(key(Some("one"), "k"), key(Some("one"), "k"), "also at the next attempt, and at another node");
    assert_ne!(key(Some("one"), "k"), key(Some("two"), "k"));
    assert_ne!(key(Some("one"), "k"), key(Some("one"), "l"));
    assert_eq!(key(None, "k"), "k");
}
