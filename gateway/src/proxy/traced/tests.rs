//! A request's place in its caller's trace.

use http::HeaderValue;
use spillway_plugins::trace::TraceId;

use super::*;
use crate::http1::request_head::RequestHead;
use crate::proxy::fixtures::{facts, gateway};

const TRACES: &str = "[traces]\notlp = { url = \"http://127.0.0.1:9\" }\nsample = 0.0\n";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn caller(parent: &str, state: Option<&'static str>) -> HeaderMap {
    let mut headers = HeaderMap::from_iter([(TRACEPARENT, parent.parse().unwrap())]);
    state.map(|state| headers.insert(TRACESTATE, HeaderValue::from_static(state)));
    headers
}

#[tokio::test]
async fn without_traces_nobody_hears_of_any() {
    let gateway = gateway("");
    let mut facts = facts(&gateway);
    join(&gateway, &caller(PARENT, None), &mut facts);
    assert!(facts.trace.is_none() && attempt(&facts).is_none());
    let mut head = RequestHead::new(http::Method::POST, b"/").unwrap();
    head.set(&TRACEPARENT, PARENT.as_bytes());
    add_to_request(&facts, None, &mut head);
    assert_eq!(head.get("traceparent"), Some(PARENT.as_bytes()), "the caller's own goes on");
    let mut answer = pingora::http::ResponseHeader::build(200, None).unwrap();
    add_to_answer(facts.trace.as_deref(), &mut answer);
    assert!(answer.headers.is_empty());
}

#[tokio::test]
async fn a_request_joins_its_callers_trace() {
    let gateway = gateway(TRACES);
    let mut facts = facts(&gateway);
    join(&gateway, &caller(PARENT, Some("a=1")), &mut facts);
    let trace = facts.trace.as_deref().unwrap();
    assert_eq!((trace.id.to_string().as_str(), trace.sampled), ("0af7651916cd43dd8448eb211c80319c", true));
    assert_eq!(trace.parent.unwrap().to_string(), "b7ad6b7169203331");
    let mut alone = crate::proxy::fixtures::facts(&gateway);
    join(&gateway, &HeaderMap::new(), &mut alone);
    let begun = alone.trace.as_deref().unwrap();
    assert!(begun.parent.is_none() && !begun.sampled && begun.id != trace.id, "one of its own");
    let mut answer = pingora::http::ResponseHeader::build(200, None).unwrap();
    add_to_answer(facts.trace.as_deref(), &mut answer);
    assert_eq!(answer.headers["x-spillway-trace-id"], "0af7651916cd43dd8448eb211c80319c");
}

#[tokio::test]
async fn an_upstream_hears_which_attempt_asks_it() {
    let gateway = gateway(TRACES);
    let mut facts = facts(&gateway);
    join(&gateway, &caller(PARENT, Some("a=1")), &mut facts);
    let (one, other) = (attempt(&facts).unwrap(), attempt(&facts).unwrap());
    assert_ne!(one, other, "each attempt has a span of its own");
    let mut head = RequestHead::new(http::Method::POST, b"/").unwrap();
    head.set(&TRACEPARENT, PARENT.as_bytes());
    head.set(&TRACESTATE, b"forged=1");
    add_to_request(&facts, Some(one), &mut head);
    assert_eq!(head.get("traceparent"), Some(format!("00-0af7651916cd43dd8448eb211c80319c-{one}-01").as_bytes()));
    assert_eq!(head.get("tracestate"), Some(&b"a=1"[..]));
    let mut without = crate::proxy::fixtures::facts(&gateway);
    join(&gateway, &caller(PARENT, None), &mut without);
    add_to_request(&without, Some(other), &mut head);
    assert!(head.get("tracestate").is_none(), "a state belongs to the parent that sent it");
}

#[tokio::test]
async fn what_the_gateway_asks_for_itself_is_part_of_the_request_for_which_it_asks() {
    let gateway = gateway(TRACES);
    let mut facts = facts(&gateway);
    join(&gateway, &HeaderMap::new(), &mut facts);
    let own = facts.trace.as_deref().unwrap().span;
    join_own(None, &mut facts);
    assert!(facts.trace.as_deref().unwrap().parent.is_none());
    let parent = Parent { trace: TraceId::new(7), span: SpanId::new(8), sampled: true, random: false, state: None };
    join_own(Some(parent), &mut facts);
    let trace = facts.trace.as_deref().unwrap();
    assert_eq!((trace.id, trace.span, trace.parent, trace.sampled), (TraceId::new(7), own, Some(SpanId::new(8)), true));
}

#[test]
fn times_are_measured_from_the_requests_arrival() {
    assert_eq!(after(1_000, Duration::from_nanos(5)), 1_005);
    assert_eq!(after(u64::MAX - 1, Duration::from_secs(1)), u64::MAX);
}
