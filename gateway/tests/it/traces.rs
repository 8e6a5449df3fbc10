//! A collector hears of requests and of each of their attempts, upstreams hear which attempt asks them, and nobody waits.

use std::time::Duration;

use serde_json::{Value, json};
use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::{Connection, Response, ask, post};

use crate::support::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

async fn collector() -> ScriptedBackend {
    ScriptedBackend::start(|_| Reply::json(200, "{}")).await
}

fn traces(collector: &ScriptedBackend, more: &str) -> String {
    format!("[traces]\notlp = {{ url = \"{}\", headers = {{ x-key = \"CANARY-otlp\" }} }}\n{more}\n", collector.url())
}

/// A request with a caller's trace.
fn within(body: &Value, headers: &[(&str, &str)]) -> Vec<u8> {
    let headers = [&[("traceparent", PARENT), ("tracestate", "vendor=1")], headers].concat();
    post("/v1/chat/completions", &headers, body.to_string().as_bytes())
}

async fn flush(gateway: &Gateway) {
    gateway.running.gateway.flush(Duration::from_secs(10)).await;
}

/// The spans that a collector has got.
fn spans(collector: &ScriptedBackend) -> Vec<Value> {
    let bodies: Vec<Value> = collector.received().iter().map(|got| got.json()).collect();
    bodies.iter().flat_map(|body| body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone()).collect()
}

async fn spans_of(gateway: &Gateway, collector: &ScriptedBackend, count: usize) -> Vec<Value> {
    flush(gateway).await;
    let found = spans(collector);
    assert_eq!(found.len(), count, "{found:#?}");
    found
}

/// An attribute's value, whatever its type.
fn attribute(span: &Value, name: &str) -> Value {
    let found = span["attributes"].as_array().unwrap().iter().find(|attribute| attribute["key"] == name);
    found.and_then(|found| found["value"].as_object()?.values().next().cloned()).unwrap_or_default()
}

/// The span's id that an upstream was told.
fn told(backend: &ScriptedBackend, index: usize) -> String {
    let got = &backend.received()[index];
    let parent = got.header("traceparent").unwrap_or_else(|| panic!("{:?}", got.head)).to_owned();
    assert_eq!((parent.len(), &parent[..3], &parent[35..36]), (55, "00-", "-"), "{parent}");
    parent[36..52].to_owned()
}

fn nanos(span: &Value, name: &str) -> u64 {
    span[name].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_failover_is_a_request_with_two_attempts() {
    let ptu = ScriptedBackend::start(|_| Reply::throttled(60_000)).await;
    let payg = ScriptedBackend::start(|_| {
        let usage = json!({ "choices": [], "usage": { "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 } });
        Reply::sse([role(), delta("hello"), stop(), format!("data: {usage}\n\n"), DONE.to_owned()])
    })
    .await;
    let collector = collector().await;
    let rest = traces(&collector, "") + &consumer("crm", "");
    let gateway = Gateway::start(&config(&[member("ptu", &ptu, 1), member("payg", &payg, 2)], "", &rest)).await;
    let got = ask(gateway.address, within(&chat(true), &[("api-key", "crm"), ("x-request-id", "the-id")])).await.unwrap();
    assert_eq!((got.status, got.header("x-spillway-trace-id")), (200, Some(TRACE)));
    let found = spans_of(&gateway, &collector, 3).await;
    let (request, first, second) = (&found[0], &found[1], &found[2]);
    assert!(found.iter().all(|span| span["traceId"] == TRACE && span["traceState"] == "vendor=1"), "{found:#?}");
    // Who is whose child, and what upstreams heard.
    assert_eq!((&request["parentSpanId"], &request["kind"], &request["name"]), (&json!("b7ad6b7169203331"), &json!(2), &json!("chat m")));
    for (attempt, backend) in [(first, &ptu), (second, &payg)] {
        assert_eq!((&attempt["parentSpanId"], &attempt["kind"]), (&request["spanId"], &json!(3)));
        assert_eq!(attempt["spanId"], told(backend, 0));
        let got = &backend.received()[0];
        assert!(got.header("traceparent").unwrap().contains(TRACE) && got.header("traceparent").unwrap().ends_with("-01"));
        assert_eq!(got.header("tracestate"), Some("vendor=1"));
    }
    assert_ne!(first["spanId"], second["spanId"]);
    // When.
    let (begin, end) = (nanos(request, "startTimeUnixNano"), nanos(request, "endTimeUnixNano"));
    assert!(begin <= nanos(first, "startTimeUnixNano") && nanos(first, "endTimeUnixNano") <= nanos(second, "startTimeUnixNano"));
    assert!(nanos(second, "endTimeUnixNano") <= end);
    // What.
    for (span, name, value) in [
        (request, "http.route", json!("/v1/chat/completions")),
        (request, "http.response.status_code", json!("200")),
        (request, "gen_ai.operation.name", json!("chat")),
        (request, "spillway.consumer", json!("crm")),
        (request, "spillway.request.id", json!("the-id")),
        (request, "spillway.attempts", json!("2")),
        (request, "gen_ai.usage.input_tokens", Value::Null),
        (first, "error.type", json!("429")),
        (first, "spillway.outcome", json!("throttled")),
        (first, "spillway.backend", json!("ptu")),
        (first, "gen_ai.usage.input_tokens", Value::Null),
        (second, "error.type", Value::Null),
        (second, "spillway.tier", json!("2")),
        (second, "server.address", json!("127.0.0.1")),
        (second, "gen_ai.usage.input_tokens", json!("3")),
        (second, "gen_ai.usage.output_tokens", json!("4")),
    ] {
        assert_eq!(attribute(span, name), value, "{name} of {span:#}");
    }
    assert!(attribute(second, "gen_ai.response.time_to_first_chunk").as_f64().unwrap() > 0.0);
    assert_eq!((&first["status"]["code"], &second["status"]), (&json!(2), &Value::Null));
    assert_eq!(gateway.metric("spillway_trace_spans_exported_total").await, 3.0);
    assert_eq!((collector.received()[0].path(), collector.received()[0].header("x-key")), ("/v1/traces", Some("CANARY-otlp")));
}

#[tokio::test]
async fn without_a_callers_trace_one_begins() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let collector = collector().await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &traces(&collector, ""))).await;
    let twice = post(
        "/v1/chat/completions",
        &[("traceparent", PARENT), ("traceparent", PARENT), ("tracestate", "a=1")],
        chat(false).to_string().as_bytes(),
    );
    let mut told = Vec::new();
    for got in [gateway.chat().await, ask(gateway.address, twice).await.unwrap()] {
        told.push(got.header("x-spillway-trace-id").unwrap().to_owned());
    }
    let found = spans_of(&gateway, &collector, 4).await;
    assert!(told[0] != told[1] && !told.contains(&TRACE.to_owned()), "{told:?}");
    assert_eq!([&found[0]["traceId"], &found[2]["traceId"]], [&json!(told[0]), &json!(told[1])]);
    assert_eq!(found[0]["parentSpanId"], Value::Null);
    for got in backend.received() {
        assert_eq!(got.head.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("traceparent")).count(), 1);
        assert_eq!(got.header("tracestate"), None, "nothing of a trace that was left");
    }
}

#[tokio::test]
async fn what_is_not_sampled_is_not_told_but_handed_on() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let collector = collector().await;
    let rest = traces(&collector, "sample = 0.0\ncaller_rate = 2");
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &rest)).await;
    let unsampled = PARENT.replace("-01", "-00");
    let request = post("/v1/chat/completions", &[("traceparent", &unsampled)], chat(false).to_string().as_bytes());
    let got = ask(gateway.address, request).await.unwrap();
    assert_eq!(got.header("x-spillway-trace-id"), Some(TRACE));
    gateway.chat().await;
    assert!(backend.received().iter().all(|got| got.header("traceparent").unwrap().as_bytes()[54] & 1 == 0));
    assert!(!told(&backend, 0).contains("b7ad6b7169203331"), "a span's id of its own all the same");
    spans_of(&gateway, &collector, 0).await;
    // Whoever says that it is sampled is believed so often, and no more.
    for _ in 0..10 {
        assert_eq!(ask(gateway.address, within(&chat(false), &[])).await.unwrap().status, 200);
    }
    flush(&gateway).await;
    let found = spans(&collector).len();
    assert!((4..=6).contains(&found), "{found}");
}

#[tokio::test]
async fn without_traces_headers_pass_as_they_came() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", "")).await;
    let got = ask(gateway.address, within(&chat(false), &[])).await.unwrap();
    assert_eq!((got.status, got.header("x-spillway-trace-id")), (200, None));
    let got = &backend.received()[0];
    assert_eq!((got.header("traceparent"), got.header("tracestate")), (Some(PARENT), Some("vendor=1")));
}

#[tokio::test]
async fn a_collector_that_is_gone_costs_spans_and_nothing_else() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let gone = collector().await;
    let rest = traces(&gone, "");
    drop(gone);
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &rest)).await;
    let began = std::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(gateway.chat().await.status, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    flush(&gateway).await;
    assert_eq!(gateway.metric("spillway_trace_spans_dropped_total").await, 40.0);
    assert_eq!(gateway.metric("spillway_trace_spans_exported_total").await, 0.0);
}

#[tokio::test]
async fn refusals_cut_answers_and_callers_that_leave_are_told_too() {
    let backend = ScriptedBackend::start(|_| Reply::sse([role(), delta("half an")]).then(Step::Reset)).await;
    let collector = collector().await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &traces(&collector, ""))).await;
    let mut caller = Connection::open(gateway.address).await.unwrap();
    caller.send(within(&chat(true), &[])).await.unwrap();
    caller.until("half an").await.unwrap();
    eventually("it is over", async || gateway.metric("spillway_requests_total{api=\"chat\",pool=\"pool\",status=\"200\"}").await == 1.0)
        .await;
    let unknown: Response = gateway.post("/v1/chat/completions", &json!({ "model": "nobody's", "messages": [] })).await;
    assert_eq!((unknown.status, unknown.header("x-spillway-trace-id").map(str::len)), (404, Some(32)));
    let found = spans_of(&gateway, &collector, 3).await;
    assert_eq!((attribute(&found[0], "error.type"), attribute(&found[0], "spillway.end")), (json!("cut"), json!("cut")));
    assert_eq!(attribute(&found[1], "error.type"), json!("reset"));
    assert_eq!((attribute(&found[2], "spillway.code"), &found[2]["name"]), (json!("model_not_found"), &json!("POST /v1/chat/completions")));
    assert_eq!(attribute(&found[2], "gen_ai.request.model"), Value::Null, "what a caller made up is told to nobody");
}

#[tokio::test]
async fn sockets_are_told_as_requests_are() {
    let backend = ScriptedBackend::start(|_| {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: x\r\n\r\n";
        Reply::raw([Step::Write(head.to_vec()), Step::Close])
    })
    .await;
    let collector = collector().await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &traces(&collector, ""))).await;
    let request = format!(
        "GET /v1/realtime?model=m HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\ntraceparent: {PARENT}\r\n\r\n"
    );
    let mut connection = Connection::open(gateway.address).await.unwrap();
    connection.send(request).await.unwrap();
    let (status, head) = connection.answer_head().await.unwrap();
    assert_eq!((status, head.header("x-spillway-trace-id")), (101, Some(TRACE)));
    eventually("it is over", async || {
        gateway.metric("spillway_requests_total{api=\"realtime\",pool=\"pool\",status=\"101\"}").await == 1.0
    })
    .await;
    let found = spans_of(&gateway, &collector, 2).await;
    assert_eq!((&found[0]["traceId"], &found[1]["parentSpanId"]), (&json!(TRACE), &found[0]["spanId"]));
    assert_eq!(found[1]["spanId"], told(&backend, 0));
}

#[tokio::test]
async fn logs_tell_the_trace_and_spans_tell_no_content_and_no_secret() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("CANARY-answer"))).await;
    let collector = collector().await;
    let folder = tempfile::tempdir().unwrap();
    let log = format!(
        "[plugins.prompt_log]\nenabled = true\npath = \"{}\"\nlevel = \"full\"\notlp = {{ url = \"{}\" }}\n",
        folder.path().join("prompts.jsonl").display(),
        collector.url()
    );
    let rest = traces(&collector, "") + &log + &consumer("crm", "");
    let member = Member { extra: "auth = { type = \"api-key\", key = \"CANARY-backend\" }", ..member("a", &backend, 1) };
    let gateway = Gateway::start(&config(&[member], "", &rest)).await;
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "CANARY-prompt" }] });
    let request = within(&body, &[("api-key", "crm"), ("cookie", "CANARY-cookie"), ("user-agent", "CANARY-agent")]);
    assert_eq!(ask(gateway.address, request).await.unwrap().status, 200);
    let bad = post("/v1/CANARY-path?key=CANARY-query", &[("api-key", "CANARY-key")], b"{}");
    assert!(ask(gateway.address, bad).await.unwrap().status >= 400);
    flush(&gateway).await;
    let got = collector.received();
    let of = |path: &str| got.iter().filter(|got| got.path() == path).map(|got| got.json()).collect::<Vec<_>>();
    let told = json!(of("/v1/traces")).to_string();
    assert!(told.contains("\"chat m\"") && !told.contains("CANARY"), "{told}");
    let event = &of("/v1/logs")[0]["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
    let request = &of("/v1/traces")[0]["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!((&event["traceId"], &event["spanId"]), (&json!(TRACE), &request["spanId"]), "{event:#}");
    assert!(event.to_string().contains("CANARY-prompt"), "content has its own event");
}
