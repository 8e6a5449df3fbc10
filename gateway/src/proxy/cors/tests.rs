//! Calls from pages of other origins.

use super::*;
use crate::proxy::fixtures::{Setup, get, session};

/// The `Origin` that is left of these, where `allowed` are.
async fn left(allowed: &str, origins: &[&str]) -> Option<String> {
    let server = format!("cors = {{ origins = [{allowed}] }}");
    let gateway = Setup { server: if allowed.is_empty() { "" } else { &server }, ..Setup::default() }.gateway();
    let fields: Vec<_> = origins.iter().map(|origin| ("origin", *origin)).collect();
    let (mut session, _caller) = session(get("/v1/models", &fields)).await;
    take_in(&mut session, &gateway.runtime.load().config.server);
    session.req_header().headers.get(ORIGIN).map(|origin| origin.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn only_an_origin_that_is_allowed_stays() {
    let some = |origin: &str| Some(origin.to_owned());
    assert_eq!(left("\"https://a.test\"", &["https://a.test"]).await, some("https://a.test"));
    assert_eq!(left("\"https://a.test\"", &["https://b.test"]).await, None);
    assert_eq!(left("\"https://a.test\"", &["https://a.test:444"]).await, None);
    assert_eq!(left("\"*\"", &["https://b.test"]).await, some("https://b.test"));
    assert_eq!(left("\"*\"", &["https://b.test", "https://c.test"]).await, None, "a page has one");
    assert_eq!(left("", &["https://a.test"]).await, None, "none is allowed");
    assert_eq!(left("\"*\"", &[]).await, None);
}

#[tokio::test]
async fn a_preflight_is_a_question_of_an_allowed_page() {
    let asks = async |method: &str, fields: &[(&str, &str)]| {
        let (session, _caller) = session(get("/v1/chat/completions", fields).replacen("GET", method, 1)).await;
        is_preflight(&session)
    };
    let (origin, method) = (("origin", "https://a.test"), ("access-control-request-method", "POST"));
    assert!(asks("OPTIONS", &[origin, method]).await);
    assert!(!asks("OPTIONS", &[method]).await, "its origin was taken out");
    assert!(!asks("OPTIONS", &[origin]).await);
    assert!(!asks("GET", &[origin, method]).await);
}

fn field(head: &ReplyHead, name: &str) -> Option<String> {
    head.get(name).map(|value| String::from_utf8(value.to_vec()).unwrap())
}

#[tokio::test]
async fn it_hears_which_methods_there_are_and_that_its_headers_may_come() {
    let answer = async |asked: &str| {
        let fields = [("origin", "https://a.test"), ("access-control-request-headers", asked)];
        let (session, _caller) = session(get("/v1/chat/completions", &fields)).await;
        preflight(&session, "the-id")
    };
    let head = answer("authorization, x-custom").await;
    assert_eq!((head.status.as_u16(), field(&head, "x-request-id").as_deref()), (204, Some("the-id")));
    assert_eq!(field(&head, "access-control-allow-methods").as_deref(), Some("GET, HEAD, POST, DELETE"));
    assert_eq!(field(&head, "access-control-allow-headers").as_deref(), Some("authorization, x-custom"));
    assert_eq!(field(&head, "access-control-max-age").as_deref(), Some("600"));
    let long = answer(&"x".repeat(ASKED + 1)).await;
    assert_eq!(field(&long, "access-control-allow-headers"), None);
}

#[test]
fn an_answer_may_be_read_by_the_page_that_asked() {
    let mut head = ReplyHead::new(StatusCode::OK);
    head.set(&VARY, b"accept");
    allow(None, &mut head);
    assert_eq!(head.iter().count(), 1, "nobody asked from a page");
    let request = http::HeaderMap::from_iter([(ORIGIN, http::HeaderValue::from_static("https://a.test"))]);
    allow(request.get(ORIGIN), &mut head);
    assert_eq!(field(&head, "access-control-allow-origin").as_deref(), Some("https://a.test"));
    let exposed = field(&head, "access-control-expose-headers").unwrap();
    assert!(exposed.split(", ").any(|name| name == "x-request-id") && exposed.contains("retry-after-ms"), "{exposed}");
    assert_eq!(head.iter().filter(|(name, _)| *name == "vary").map(|(_, value)| value).collect::<Vec<_>>(), [&b"accept"[..], b"origin"]);
}
