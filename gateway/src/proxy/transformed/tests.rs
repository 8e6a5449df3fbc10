//! A request as its consumer and its pool want it.

use spillway_plugins::api::Api;

use super::*;
use crate::http1::request_head::RequestHead;
use crate::proxy::fixtures::{CHAT, Setup, buffer, consumer, facts, facts_of, model_request};

const CONSUMER: &str = "transform = { set = { temperature = 0.5, user = \"one\" }, default = { seed = 1 }, \
                        request_headers = { set = { x-a = \"consumer\", x-b = \"consumer\" }, remove = [\"x-c\"] }, \
                        response_headers = { set = { x-r = \"consumer\" } } }";
const POOL: &str = "transform = { set = { temperature = 0.1 }, cap = { max_tokens = 10 }, remove = [\"logit_bias\"], \
                    request_headers = { set = { x-a = \"pool\" } }, response_headers = { remove = [\"x-secret\"] } }";

fn gateway() -> Gateway {
    Setup { pool: POOL, rest: &consumer("one", CONSUMER), ..Setup::default() }.gateway()
}

/// The body that goes on, and what is known of it.
async fn changed(gateway: &Gateway, facts: &Facts, text: &str) -> (serde_json::Value, RequestParts) {
    let mut asked = model_request(gateway, Api::Chat, text);
    let buffer = body(gateway, facts, &mut asked, buffer(gateway, text)).await.expect("it can be changed");
    (serde_json::from_slice(buffer.as_slice()).unwrap(), (asked.fields.max_tokens, asked.fields.model_range))
}

type RequestParts = (Option<u64>, Option<std::ops::Range<usize>>);

#[tokio::test]
async fn a_body_is_changed_as_the_consumer_wants_and_then_as_the_pool_wants() {
    let gateway = gateway();
    let text = r#"{"logit_bias":{},"model":"m","max_tokens":1000,"messages":[]}"#;
    let (body, (cap, range)) = changed(&gateway, &facts_of(&gateway, "one"), text).await;
    assert_eq!((&body["temperature"], &body["user"], &body["seed"]), (&0.1.into(), &"one".into(), &1.into()), "{body}");
    assert_eq!((body.get("logit_bias"), &body["max_tokens"]), (None, &10.into()), "{body}");
    assert_eq!(cap, Some(10), "what is known of it is what goes on");
    assert_ne!(range, model_request(&gateway, Api::Chat, text).fields.model_range);
    let (body, _) = changed(&gateway, &facts(&gateway), text).await;
    assert_eq!((&body["temperature"], body.get("user"), body.get("seed")), (&0.1.into(), None, None), "of nobody in particular: {body}");
}

#[tokio::test]
async fn what_nobody_changes_stays_as_it_is() {
    let text = "{ \"model\" : \"m\", \"messages\":[] }";
    let plain = Setup::default().gateway();
    let mut asked = model_request(&plain, Api::Chat, text);
    let same = body(&plain, &facts(&plain), &mut asked, buffer(&plain, text)).await.expect("nothing is to be done");
    assert_eq!(same.as_slice(), text.as_bytes());
    let gateway = gateway();
    let mut own = facts_of(&gateway, "one");
    own.internal = true;
    let mut asked = model_request(&gateway, Api::Chat, text);
    let same = body(&gateway, &own, &mut asked, buffer(&gateway, text)).await.expect("nothing is to be done");
    assert_eq!(same.as_slice(), text.as_bytes(), "the gateway's own requests are as they should be");
}

#[tokio::test]
async fn what_becomes_longer_needs_room() {
    let pool = "transform = { set = { user = \"0123456789012345678901234567890123456789\" } }";
    let server = format!("max_body = \"{0}B\"\nmax_buffered = \"{0}B\"", CHAT.len() + 20);
    let gateway = Setup { server: &server, pool, ..Setup::default() }.gateway();
    let mut asked = model_request(&gateway, Api::Chat, CHAT);
    let refused = body(&gateway, &facts(&gateway), &mut asked, buffer(&gateway, CHAT)).await;
    assert_eq!(refused.err(), Some(Refusal::Overloaded { what: "request bodies" }));
    assert_eq!(gateway.metrics.requests.buffered.get(), 0);
}

#[test]
fn heads_are_changed_in_the_same_order() {
    let gateway = gateway();
    let asked = model_request(&gateway, Api::Chat, CHAT);
    let sent = |facts: &Facts| {
        let mut head = RequestHead::new(http::Method::POST, b"/").unwrap();
        for name in ["x-a", "x-b", "x-c"] {
            head.add(&http::HeaderName::from_static(name), b"caller");
        }
        request(facts, &asked, &mut head);
        ["x-a", "x-b", "x-c"].map(|name| head.get(name).map(|value| String::from_utf8_lossy(value).into_owned()))
    };
    let some = |texts: [&str; 3]| texts.map(|text| Some(text.to_owned()).filter(|text| !text.is_empty()));
    assert_eq!(sent(&facts_of(&gateway, "one")), some(["pool", "consumer", ""]));
    assert_eq!(sent(&facts(&gateway)), some(["pool", "caller", "caller"]));
    let mut head = pingora::http::ResponseHeader::build(200, None).unwrap();
    head.insert_header("x-secret", "1").unwrap();
    response(&facts_of(&gateway, "one"), &asked, &mut head);
    assert_eq!((head.headers.get("x-secret"), head.headers.get("x-r").unwrap().to_str().unwrap()), (None, "consumer"));
}
