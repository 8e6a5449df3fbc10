//! Faults by name: the hostile consumer does one thing, again and again.

use serde_json::{Value, json};

use super::generated::wrong;
use crate::answers::Answer;
use crate::book::Script;
use crate::grammar::Move;
use crate::history::{Deed, History, Round};
use crate::manner::Manner;
use crate::upstream::{ANT, BEE, SECRET};
use crate::wire::{Kind, Used};
use crate::witness::Step;

const USED: Used = Used { input: 700, output: 9000 };

/// A request of the hostile consumer that sets no cap but `cap`.
struct Request {
    line: &'static str,
    headers: String,
    body: String,
    cap: u64,
}

fn post(line: &'static str, headers: &str, body: impl ToString) -> Request {
    Request { line, headers: headers.to_owned(), body: body.to_string(), cap: 1024 }
}

fn chat(more: Value) -> Request {
    ask("/v1/chat/completions", more)
}

fn responses(more: Value) -> Request {
    ask("/v1/responses", more)
}

fn ask(path: &'static str, more: Value) -> Request {
    let model = if path == "/v1/messages" { "claude" } else { "m" };
    let mut body = json!({ "model": model });
    let prompt = if path == "/v1/responses" { "input" } else { "messages" };
    body[prompt] = json!([{ "role": "user", "content": "hi" }]);
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    post(path, "content-type: application/json\r\n", body)
}

fn refused(status: u16, code: &str) -> Answer {
    Answer::Refused(status, json!({ "error": { "code": code, "message": format!("{code} in its words"), "param": null } }).to_string())
}

/// Does it in each of eight rounds, in which the ordinary consumer uses all APIs that hold text.
fn holds(manner: Manner, answer: &Answer, requests: impl IntoIterator<Item = Request>) {
    let requests: Vec<Request> = requests.into_iter().collect();
    let ask = |kind, streamed, model| Step::Ask { kind, streamed, told: false, model };
    let rounds = (0..8).map(|number| {
        let deed = |(at, request): (usize, &Request)| {
            let id = format!("{ANT}{number}-{at}");
            let head = format!(
                "POST {} HTTP/1.1\r\nhost: gateway\r\napi-key: KEY-a\r\nx-request-id: {id}\r\nconnection: close\r\n{}",
                request.line, request.headers
            );
            let length = if request.headers.contains("transfer-encoding") {
                String::new()
            } else {
                format!("content-length: {}\r\n", request.body.len())
            };
            let bytes = format!("{head}{length}\r\n{}", request.body).into_bytes();
            Deed { id, sent: Move { bytes, manner, cap: request.cap }, script: Script { answers: vec![answer.clone()], cap: request.cap } }
        };
        let steps = [
            ask(Kind::Chat, false, "m"),
            ask(Kind::Chat, true, "m"),
            ask(Kind::Responses, true, "m"),
            ask(Kind::Embeddings, false, "m"),
            ask(Kind::Messages, true, "claude"),
            Step::Fetch(format!("resp_{BEE}0-2")),
        ];
        let plan = steps.into_iter().enumerate().map(|(at, step)| (format!("{BEE}{number}-{at}"), step)).collect();
        Round { number, plan, deeds: requests.iter().enumerate().map(deed).collect() }
    });
    let findings = wrong(&History { throttled: false, rounds: rounds.collect() });
    assert!(findings.is_empty(), "{findings:#?}");
}

// F1: what one caller provokes is its own.

#[test]
fn refusals_for_what_an_account_lacks() {
    let requests = || {
        [chat(json!({})), responses(json!({ "tools": [{ "type": "image_generation" }] })), ask("/v1/messages", json!({ "max_tokens": 9 }))]
    };
    for answer in
        [refused(403, "Forbidden"), refused(404, "DeploymentNotFound"), refused(401, "PermissionDenied"), refused(401, "missing_scope")]
    {
        holds(Manner::Polite, &answer, requests());
    }
}

#[test]
fn failures_inside_a_stream() {
    for code in ["failed_to_download_image", "image_too_large", "vector_store_timeout", "nobody_knows_it"] {
        holds(Manner::Polite, &Answer::Failed(code), [responses(json!({ "stream": true })), chat(json!({ "stream": true }))]);
    }
}

#[test]
fn words_about_stream_options() {
    holds(Manner::Polite, &refused(400, "stream_options"), [chat(json!({ "stream": true })), chat(json!({ "stream": true, "n": 2 }))]);
}

#[test]
fn failures_resets_and_silence() {
    for answer in
        [Answer::Refused(500, "{}".to_owned()), Answer::Refused(503, "{}".to_owned()), Answer::Reset, Answer::Garbage, Answer::Cut(1)]
    {
        holds(Manner::Polite, &answer, [chat(json!({})), chat(json!({ "stream": true })), responses(json!({ "stream": true }))]);
    }
    holds(Manner::Waits, &Answer::Silent, [chat(json!({})), responses(json!({ "stream": true }))]);
}

#[test]
fn redirects_and_answers_that_are_none() {
    for answer in [
        Answer::Moved(302),
        Answer::Moved(308),
        Answer::Nonsense("text/html", "<html>Sign in</html>"),
        Answer::Nonsense("application/json", ""),
    ] {
        holds(Manner::Polite, &answer, [chat(json!({})), responses(json!({}))]);
    }
}

// F2: nothing is used uncounted.

#[test]
fn usage_wherever_it_stands() {
    let requests = || {
        [
            chat(json!({})),
            chat(json!({ "stream": true })),
            responses(json!({ "stream": true })),
            ask("/v1/messages", json!({ "stream": true, "max_tokens": 9 })),
        ]
    };
    for answer in [
        Answer::Echoes(USED),
        Answer::UsageFirst(USED),
        Answer::Giant(200_000, USED),
        Answer::Late(USED),
        Answer::Untyped(USED),
        Answer::Compressed(USED),
    ] {
        holds(Manner::Waits, &answer, requests());
    }
}

#[test]
fn callers_that_leave() {
    let slow = || [chat(json!({})), chat(json!({ "stream": true })), responses(json!({ "stream": true }))];
    for manner in [Manner::Leaves(std::time::Duration::from_millis(100)), Manner::HalfCloses] {
        holds(manner, &Answer::Silent, slow());
    }
    holds(Manner::Sips(1), &Answer::Late(USED), slow());
}

#[test]
fn usage_that_is_asked_for_oddly() {
    let odd = [json!(7), json!({ "include_usage": "yes" }), json!({ "include_usage": 1 }), json!("true")];
    holds(Manner::Polite, &Answer::Good(USED), odd.map(|odd| chat(json!({ "stream": true, "stream_options": odd }))));
}

// F3: what a caller names is checked, in every reading.

#[test]
fn things_of_others() {
    let thing = format!("resp_{BEE}0-2");
    let bodies = [
        json!({ "previous_response_id": thing }),
        json!({ "Previous_Response_Id": thing }),
        json!({ "input": [{ "id": thing }] }),
        json!({ "input": [{ "id": format!("msg_{thing}"), "type": null }] }),
        json!({ "input": [{ "id": format!("msg_{thing}"), "type": "item_reference" }] }),
        json!({ "tools": [{ "type": "file_search", "vector_store_ids": [thing] }] }),
        json!({ "tools": [{ "type": "code_interpreter", "container": thing }] }),
        json!({ "conversation": { "id": thing } }),
    ];
    let chats = [json!({ "messages": [{ "role": "assistant", "audio": { "id": thing } }] })];
    let messages = [
        json!({ "max_tokens": 9, "container": thing }),
        json!({ "max_tokens": 9, "messages": [{ "role": "user", "content": [{ "type": "document", "source": { "type": "file", "file_id": thing } }] }] }),
    ];
    let all = bodies.map(responses).into_iter().chain(chats.map(chat)).chain(messages.map(|body| ask("/v1/messages", body)));
    holds(Manner::Polite, &Answer::Good(USED), all);
}

#[test]
fn models_of_others() {
    let json = "content-type: application/json\r\n";
    let texts = [
        r#"{"model":"m","model":"secret","messages":[]}"#,
        r#"{"model":"m","Model":"secret","messages":[]}"#,
        r#"{"model":"m","mod\u0065l":"secr\u0065t","messages":[]}"#,
        r#"{"model":"secret","messages":[]}"#,
    ];
    let named = texts.map(|text| post("/v1/chat/completions", json, text));
    let header = |name: &str| {
        let headers = format!("{json}{name}: {SECRET}\r\n");
        post("/v1/responses", &headers, r#"{"model":"m","input":"hi"}"#)
    };
    let chosen = ["x-ms-oai-image-generation-deployment", "azureml-model-deployment", "x-spillway-pool", "x-spillway-backend"].map(header);
    let tool = responses(json!({ "tools": [{ "type": "image_generation", "model": SECRET }] }));
    holds(Manner::Polite, &Answer::Good(USED), named.into_iter().chain(chosen).chain([tool]));
}

#[test]
fn a_pool_of_which_no_model_is_ones_own() {
    let form = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nx\r\n--XX--\r\n";
    let headers = format!("content-type: multipart/form-data; boundary=XX\r\nx-spillway-pool: {SECRET}\r\n");
    holds(Manner::Polite, &Answer::Good(USED), [post("/v1/files", &headers, form)]);
}

#[test]
fn requests_within_requests() {
    let inner = "POST /v1/smuggled HTTP/1.1\r\nhost: smuggled\r\ncontent-length: 0\r\n\r\n";
    let body = r#"{"model":"m","messages":[]}"#;
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n{inner}", body.len());
    let codings = ["chunked, chunked", "gzip, chunked", "chunked, identity", "\x0bchunked", "xchunked"];
    let all = codings.map(|coding| {
        post("/v1/chat/completions", &format!("content-type: application/json\r\ntransfer-encoding: {coding}\r\n"), &chunked)
    });
    holds(Manner::Polite, &Answer::Good(USED), all);
}

// F4: no caller holds others up.

#[test]
fn long_and_deep_bodies() {
    let repeated = format!("{{{}\"model\":\"m\",\"messages\":[]}}", "\"user\":\"x\",".repeat(15_000));
    let deep = format!("{{\"model\":\"m\",\"messages\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    let json = "content-type: application/json\r\n";
    let all = [repeated, deep].map(|text| post("/v1/chat/completions", json, text));
    holds(Manner::Polite, &Answer::Good(USED), all);
}

#[test]
fn bodies_that_never_end() {
    let all = (0..6).map(|_| chat(json!({}))).chain((0..6).map(|_| responses(json!({ "stream": true }))));
    holds(Manner::Stops(98), &Answer::Good(USED), all);
}

#[test]
fn uploads_that_drip() {
    for answer in [Answer::Refused(500, "{}".to_owned()), Answer::Good(USED)] {
        holds(Manner::Drips(10), &answer, [chat(json!({})), responses(json!({ "stream": true }))]);
    }
}
