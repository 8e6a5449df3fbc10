//! The request as a target gets it.

use spillway_plugins::api::Api;

use super::*;
use crate::provider::BackendKind;
use crate::proxy::fixtures::{self, CHAT, STREAM, Setup, body as kept, context, facts, gateway, model_request, post, retry_state, session};

#[test]
fn a_member_goes_with_one_comma() {
    for (body, expected) in [
        (r#"{"model":"x","prompt":"p"}"#, r#"{"prompt":"p"}"#),
        (r#"{"prompt":"p","model":"x"}"#, r#"{"prompt":"p"}"#),
        (r#"{"prompt":"\",:", "mod\u0065l" : "x" , "n":1}"#, r#"{"prompt":"\",:",  "n":1}"#),
        (r#"{ "model": "x" }"#, "{  }"),
        (r#"{"a":1 , "model":null}"#, r#"{"a":1 }"#),
    ] {
        let fields = spillway_plugins::request::read_fields(body.as_bytes()).unwrap();
        let edit = without_member(body.as_bytes(), &fields.model_range.unwrap());
        let edited = [&body[..edit.range.start], &body[edit.range.end..]].concat();
        assert_eq!(edited, expected);
        assert!(serde_json::from_str::<serde_json::Value>(&edited).is_ok());
    }
}

/// The body that goes to a deployment of this name, at a backend of this kind.
fn sent(kind: &BackendKind, api: Api, text: &str, deployment: &str, usage: bool) -> String {
    let gateway = gateway("");
    let caller = RequestHeader::build("POST", b"/", None).unwrap();
    let asked = model_request(&gateway, api, text);
    let pieces = body(&caller, &kept(&gateway, text), &asked, kind.provider(), deployment, (None, usage));
    String::from_utf8(pieces.concat()).unwrap()
}

#[test]
fn a_body_names_the_deployment_as_its_backend_wants_it() {
    let openai = |text, deployment| sent(&BackendKind::OpenAi, Api::Chat, text, deployment, false);
    assert_eq!(openai(CHAT, "m"), CHAT);
    assert_eq!(openai(CHAT, "a \"b\""), CHAT.replace("\"m\"", "\"a \\\"b\\\"\""));
    assert_eq!(openai(r#"{"messages":[]}"#, "d"), r#"{"model":"d","messages":[]}"#, "the URL named it");
    assert_eq!(openai("{ }", "d"), "{\"model\":\"d\" }");
}

#[test]
fn a_streams_usage_is_asked_for_where_its_caller_did_not() {
    let stream =
        |options: &str, usage| sent(&BackendKind::OpenAi, Api::Chat, &format!("{{\"stream\":true{options},\"model\":\"m\"}}"), "m", usage);
    assert_eq!(stream("", false), r#"{"stream":true,"model":"m"}"#);
    assert_eq!(stream("", true), r#"{"stream_options":{"include_usage":true},"stream":true,"model":"m"}"#);
    let asks = r#"{"stream":true,"stream_options":{"include_usage":true},"model":"m"}"#;
    assert_eq!(stream(r#","stream_options":{"include_usage":false}"#, true), asks);
    assert_eq!(stream(r#","stream_options":null"#, true), asks);
    assert_eq!(stream(r#","stream_options":{"include_usage":true}"#, true), asks);
    assert_eq!(
        stream(r#","stream_options":7"#, true),
        r#"{"stream":true,"stream_options":7,"model":"m"}"#,
        "that is the caller's own affair"
    );
}

#[test]
fn a_members_tier_replaces_the_callers() {
    let gateway = gateway("");
    let caller = RequestHeader::build("POST", b"/", None).unwrap();
    let sent = |text: &str, tier: Option<ServiceTier>| {
        let asked = model_request(&gateway, Api::Chat, text);
        let pieces = body(&caller, &kept(&gateway, text), &asked, BackendKind::OpenAi.provider(), "d", (tier, text.contains("stream")));
        String::from_utf8(pieces.concat()).unwrap()
    };
    let (flex, default) = (Some(ServiceTier::Flex), Some(ServiceTier::Default));
    assert_eq!(sent(r#"{"model":"m","n":1}"#, flex), r#"{"service_tier":"flex","model":"d","n":1}"#);
    assert_eq!(sent(r#"{"model":"m","service_tier":"priority"}"#, flex), r#"{"model":"d","service_tier":"flex"}"#);
    assert_eq!(sent(r#"{"service_tier" : null,"model":"m"}"#, default), r#"{"service_tier" : "default","model":"d"}"#);
    assert_eq!(sent(r#"{"model":"m","service_tier":"flex"}"#, flex), r#"{"model":"d","service_tier":"flex"}"#);
    assert_eq!(sent(r#"{"model":"m","service_tier":"priority"}"#, None), r#"{"model":"d","service_tier":"priority"}"#);
    let stream = sent(r#"{"stream":true,"model":"m"}"#, flex);
    let read: serde_json::Value = serde_json::from_str(&stream).unwrap();
    assert_eq!(
        (&read["service_tier"], &read["model"], &read["stream_options"]["include_usage"]),
        (&"flex".into(), &"d".into(), &true.into())
    );
}

#[test]
fn what_is_about_something_stored_goes_as_it_is() {
    let gateway = gateway("");
    let mut asked = model_request(&gateway, Api::Files, CHAT);
    asked.object = Some("files/f".to_owned());
    let caller = RequestHeader::build("POST", b"/", None).unwrap();
    let pieces = body(&caller, &kept(&gateway, CHAT), &asked, BackendKind::OpenAi.provider(), "other", (None, true));
    assert_eq!(pieces.concat(), CHAT.as_bytes());
    assert!(body(&caller, &RequestBody::default(), &asked, BackendKind::OpenAi.provider(), "other", (None, true)).is_empty());
}

#[test]
fn usage_is_asked_of_streams_at_targets_that_can_tell_it() {
    let gateway = gateway("");
    let asks = |api, text: &str, refused: bool| {
        let mut ctx = context(&gateway, facts(&gateway), api, text);
        let asked = ctx.model_request.take().unwrap();
        let mut state = retry_state(&ctx.facts, &asked);
        let mut attempt = fixtures::attempt(&gateway, &ctx.facts, &mut ctx.attempts, &asked, &mut state);
        attempt.refused_usage = refused;
        asks_usage(&attempt)
    };
    assert!(asks(Api::Chat, STREAM, false) && !asks(Api::Chat, CHAT, false) && !asks(Api::Chat, STREAM, true));
    assert!(!asks(Api::Responses, STREAM, false), "these tell it by themselves");
    assert!(!asks(Api::Chat, r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#, false));
    let target = gateway.runtime.load().model("m").unwrap().route.members()[0].target.clone();
    target.refused_usage(Api::Chat, gateway.clock.now());
    assert!(!asks(Api::Chat, STREAM, false), "it said a moment ago that it can't");
    gateway.clock.pass(Duration::from_secs(601));
    assert!(asks(Api::Chat, STREAM, false));
}

#[tokio::test]
async fn the_head_and_the_body_of_one_request_fit() {
    let gateway =
        Setup { backend: "auth = { type = \"api-key\", key = \"secret\" }\ndeployments = { m = \"deployed\" }", ..Setup::default() }
            .gateway();
    let mut ctx = context(&gateway, facts(&gateway), Api::Chat, STREAM);
    let asked = ctx.model_request.take().unwrap();
    let mut state = retry_state(&ctx.facts, &asked);
    let mut attempt = fixtures::attempt(&gateway, &ctx.facts, &mut ctx.attempts, &asked, &mut state);
    attempt.asked_usage = true;
    let (session, _caller) = session(post("/v1/chat/completions", &[("x-custom", "1"), ("api-key", "theirs")], "")).await;
    let upstream = ctx.facts.runtime.backends[0].upstream.as_ref().unwrap();
    let (head, body) = request(&session, &ctx.facts, &ctx.body, upstream, &attempt, gateway.clock.now()).ok().expect("it can be written");
    let body = String::from_utf8(body.concat()).unwrap();
    assert!(body.contains("\"model\":\"deployed\"") && body.contains("include_usage"), "{body}");
    let field = |name: &str| head.get(name).map(|value| String::from_utf8_lossy(value).into_owned());
    assert_eq!((field("content-length"), field("authorization")), (Some(body.len().to_string()), Some("Bearer secret".to_owned())));
    assert_eq!((field("host").as_deref(), field("x-custom").as_deref(), field("api-key")), (Some("a.test"), Some("1"), None));
    assert_eq!(head.target(), b"/v1/chat/completions");
    attempt.resumes = Some(("responses/r".to_owned(), "starting_after=3".to_owned()));
    let (head, rest) = request(&session, &ctx.facts, &ctx.body, upstream, &attempt, gateway.clock.now()).ok().expect("it can be written");
    assert_eq!((head.method().as_str(), head.target(), rest.len()), ("GET", &b"/v1/responses/r?starting_after=3"[..], 0));
}
