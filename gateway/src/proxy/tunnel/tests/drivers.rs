//! The two drivers send the same request: the attempt loop a body that is held, Pingora's own loop one that passes through.

use super::*;
use crate::proxy::asked::asked;
use crate::proxy::fixtures::{Asking, Backend, asking, plain};
use crate::request::ModelRequest;

const BACKEND: &str = "auth = { type = \"api-key\", key = \"secret\" }\ndeployments = { m = \"deployed\" }";
const POOL: &str = "transform = { request_headers = { set = { x-pool = \"1\" }, remove = [\"x-removed\"] } }";
const FIELDS: [(&str, &str); 8] = [
    ("content-type", "multipart/form-data; boundary=XX"),
    ("authorization", "Bearer theirs"),
    ("x-custom", "1"),
    ("x-removed", "1"),
    ("connection", "x-hop"),
    ("x-hop", "1"),
    ("accept-encoding", "gzip"),
    ("openai-beta", "b"),
];

/// First line and fields without what differs between bodies: their framing.
fn told(method: &str, path: &str, fields: impl Iterator<Item = (String, String)>) -> (String, Vec<String>) {
    let framing = ["content-length", "transfer-encoding"];
    let mut fields: Vec<String> =
        fields.filter(|(name, _)| !framing.contains(&name.as_str())).map(|(name, value)| format!("{name}: {value}")).collect();
    fields.sort();
    (format!("{method} {path}"), fields)
}

/// The request as the attempt loop sends it.
async fn by_the_attempt_loop(api: Api, path: &str, change: fn(&mut ModelRequest)) -> (String, Vec<String>) {
    let gateway = Setup { backend: BACKEND, pool: POOL, ..Setup::default() }.gateway();
    let backend = Backend::in_place_of(&gateway, "a", [plain(200, "{}")]);
    let Asking { mut ctx, asked: mut request, mut state, .. } = asking(&gateway, facts(&gateway), api, CHAT).await;
    change(&mut request);
    let (mut session, _caller) = fixtures::session(get(path, &FIELDS).replacen("GET", "POST", 1)).await;
    let mut attempt = fixtures::attempt(&gateway, &ctx.facts, &mut ctx.attempts, &request, &mut state);
    assert!(asked(&mut session, &mut ctx.books(), &mut attempt, &mut state).await.is_ok());
    let head = backend.asked().remove(0).head;
    told(&head.line[0], &head.line[1], head.headers.into_iter())
}

/// The request as Pingora's loop sends it.
async fn by_pingoras_loop(api: Api, path: &str, change: fn(&mut ModelRequest)) -> (String, Vec<String>) {
    let gateway = Setup { backend: BACKEND, pool: POOL, ..Setup::default() }.gateway();
    let tunnel = Tunnel::upload(buffer(&gateway, BEGUN).finish(), None);
    let facts = facts(&gateway);
    let mut upload = line(gateway, facts, api, &get(path, &FIELDS).replacen("GET", "POST", 1), tunnel).await;
    change(upload.ctx.model_request.as_mut().unwrap());
    upload.member().await;
    let head = upload.head().unwrap();
    let fields = head.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    told(head.method.as_str(), &String::from_utf8_lossy(head.raw_path()), fields)
}

#[tokio::test]
async fn a_request_is_the_same_whichever_driver_sends_it() {
    let model: fn(&mut ModelRequest) = |_| ();
    let stored: fn(&mut ModelRequest) = |request| request.object = Some("files".to_owned());
    for (api, path, change, line) in [
        (Api::Transcriptions, "/v1/audio/transcriptions?a=b", model, "POST /v1/audio/transcriptions?a=b"),
        (Api::ImageEdits, "/openai/deployments/m/images/edits?api-version=1", model, "POST /v1/images/edits"),
        (Api::Files, "/v1/files", stored, "POST /v1/files"),
    ] {
        let held = by_the_attempt_loop(api, path, change).await;
        assert_eq!(held, by_pingoras_loop(api, path, change).await, "{path}");
        assert_eq!(held.0, line);
        for field in ["authorization: Bearer secret", "x-pool: 1", "x-custom: 1", "host: a.test", "x-request-id: the-id"] {
            assert!(held.1.iter().any(|told| told == field), "{field}: {:?}", held.1);
        }
        assert!(
            !held.1.iter().any(|told| told.contains("theirs") || told.starts_with("x-removed") || told.starts_with("x-hop")),
            "{:?}",
            held.1
        );
    }
}
