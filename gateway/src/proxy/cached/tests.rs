//! Looking for an answer, keeping it, giving it.

mod semantic;

use serde_json::json;
use spillway_plugins::tokens::{Metered, Usage};

use super::*;
use crate::downstream::ReplyHead;
use crate::proxy::fixtures::{self, CHAT, STREAM, Setup, consumer, facts, facts_of, gateway, metric, post, session};
use crate::request::End;

const CACHE: &str = "[plugins.cache]\nexact = { ttl = \"10m\" }\n";

fn answer() -> String {
    json!({ "id": "c", "object": "chat.completion", "model": "m", "choices": [{ "index": 0, "finish_reason": "stop",
            "message": { "role": "assistant", "content": "hello" } }] })
    .to_string()
}

/// A request under way.
struct Asking(crate::proxy::ctx::RequestCtx);

impl std::ops::Deref for Asking {
    type Target = crate::proxy::ctx::RequestCtx;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl std::ops::DerefMut for Asking {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

fn context(gateway: &Gateway, facts: Facts, api: Api, text: &str) -> Asking {
    Asking(fixtures::context(gateway, facts, api, text))
}

/// Looks for the answer to what is asked, with these fields in its head.
async fn looked_up(gateway: &Gateway, Asking(ctx): &mut Asking, fields: &[(&str, &str)]) -> Option<LookedUp> {
    let (mut session, _caller) = session(post("/v1/chat/completions", fields, "")).await;
    let asked = ctx.model_request.as_ref().unwrap();
    look_up(gateway, &mut session, &ctx.facts, &ctx.body, &mut ctx.timing, asked).await.ok().expect("the caller is there")
}

/// The same as far as a caller is told.
async fn result(gateway: &Gateway, ctx: &mut Asking, fields: &[(&str, &str)]) -> Option<&'static str> {
    looked_up(gateway, ctx, fields).await.map(|found| found.cached.result.label())
}

/// The answer comes from the backend `a`, with this status, and goes out.
async fn answered(gateway: &Gateway, Asking(ctx): &mut Asking, status: u16, body: &str) {
    ctx.reply.status = Some(status);
    ctx.metering.usage = Some(Metered::reported(Usage { input: 3, output: 5, ..Usage::default() }));
    record(&mut ctx.copies, &Bytes::copy_from_slice(body.as_bytes()));
    let whole = Whole { facts: &ctx.facts, metering: &ctx.metering, reply: &ctx.reply, api: Api::Chat, backend: &"a".into() };
    keep(gateway, whole, &mut ctx.copies, None).await;
}

async fn kept(gateway: &Gateway, facts: Facts, body: &str) {
    let mut ctx = context(gateway, facts, Api::Chat, body);
    ctx.copies.cached = looked_up(gateway, &mut ctx, &[]).await.map(|found| found.cached);
    answered(gateway, &mut ctx, 200, &answer()).await;
}

#[tokio::test]
async fn an_answer_is_kept_for_the_same_request_of_the_same_consumer() {
    let gateway = gateway(&(CACHE.to_owned() + &consumer("one", "") + &consumer("two", "")));
    let ctx = |name: &str, text: &str| context(&gateway, facts_of(&gateway, name), Api::Chat, text);
    assert_eq!(result(&gateway, &mut ctx("one", CHAT), &[]).await, Some("miss"));
    kept(&gateway, facts_of(&gateway, "one"), CHAT).await;
    let found = looked_up(&gateway, &mut ctx("one", CHAT), &[]).await.unwrap();
    let entry = found.answer.expect("it is kept");
    assert_eq!((&*entry.backend, entry.input, entry.output, &entry.body[..]), ("a", 3, 5, answer().as_bytes()));
    assert_eq!(result(&gateway, &mut ctx("one", CHAT), &[]).await, Some("hit"));
    assert_eq!(result(&gateway, &mut ctx("two", CHAT), &[]).await, Some("miss"), "another consumer's");
    assert_eq!(result(&gateway, &mut ctx("one", CHAT), &[("openai-beta", "x")]).await, Some("miss"), "another head");
    assert_eq!(result(&gateway, &mut ctx("one", &CHAT.replace("hi", "ho")), &[]).await, Some("miss"));
    gateway.clock.pass(std::time::Duration::from_secs(601));
    assert_eq!(result(&gateway, &mut ctx("one", CHAT), &[]).await, Some("miss"), "it is too old");
}

#[tokio::test]
async fn a_caller_decides_whether_it_wants_a_kept_answer() {
    let gateway = gateway(CACHE);
    kept(&gateway, facts(&gateway), CHAT).await;
    let mut ctx = context(&gateway, facts(&gateway), Api::Chat, CHAT);
    for (field, told, recorded) in [
        (("cache-control", "no-cache"), "miss", true),
        (("cache-control", "no-store"), "bypass", false),
        (("x-spillway-cache-bypass", "1"), "bypass", false),
    ] {
        let found = looked_up(&gateway, &mut ctx, &[field]).await.unwrap();
        assert_eq!(
            (found.cached.result.label(), found.cached.record.is_some(), found.answer.is_some()),
            (told, recorded, false),
            "{field:?}"
        );
    }
    assert_eq!(metric(&gateway, "spillway_cache_requests_total{result=\"bypass\"}"), 2.0);
}

#[tokio::test]
async fn some_requests_are_none_for_the_cache() {
    let off = "cache = { enabled = false }";
    let gateway = gateway(&(CACHE.to_owned() + &consumer("off", off)));
    let mut disabled = context(&gateway, facts_of(&gateway, "off"), Api::Chat, CHAT);
    assert_eq!(result(&gateway, &mut disabled, &[]).await, None);
    let mut own = context(&gateway, facts(&gateway), Api::Chat, CHAT);
    own.facts.internal = true;
    assert_eq!(result(&gateway, &mut own, &[]).await, None);
    let mut searching = context(&gateway, facts(&gateway), Api::Chat, r#"{"model":"m","web_search_options":{"a":1},"messages":[]}"#);
    assert_eq!(result(&gateway, &mut searching, &[]).await, None);
    let passthrough = Setup { backend: "auth = { type = \"passthrough\" }", rest: CACHE, ..Setup::default() }.gateway();
    let mut ctx = context(&passthrough, facts(&passthrough), Api::Chat, CHAT);
    assert_eq!(result(&passthrough, &mut ctx, &[]).await, None, "behind one key there may be several people");
}

#[tokio::test]
async fn consumers_with_one_namespace_share_their_answers() {
    let team = "cache = { namespace = \"team\" }";
    let gateway = gateway(&(CACHE.to_owned() + &consumer("one", team) + &consumer("two", team) + &consumer("three", "")));
    kept(&gateway, facts_of(&gateway, "one"), CHAT).await;
    for (name, expected) in [("two", "hit"), ("three", "miss")] {
        let mut ctx = context(&gateway, facts_of(&gateway, name), Api::Chat, CHAT);
        assert_eq!(result(&gateway, &mut ctx, &[]).await, Some(expected), "{name}");
    }
}

#[tokio::test]
async fn a_kept_answer_stays_within_its_callers_locations() {
    let team = "cache = { namespace = \"team\" }\n";
    let fenced = format!("{team}locations = [\"south\"]");
    let gateway = gateway(&(CACHE.to_owned() + &consumer("free", team) + &consumer("fenced", &fenced)));
    kept(&gateway, facts_of(&gateway, "free"), CHAT).await;
    let mut ctx = context(&gateway, facts_of(&gateway, "fenced"), Api::Chat, CHAT);
    assert_eq!(result(&gateway, &mut ctx, &[]).await, Some("miss"), "it comes from the north");
    let mut ctx = context(&gateway, facts_of(&gateway, "free"), Api::Chat, CHAT);
    assert_eq!(result(&gateway, &mut ctx, &[]).await, Some("hit"));
}

#[tokio::test]
async fn of_equal_requests_at_once_one_is_asked_and_the_others_wait() {
    let gateway = gateway(CACHE);
    let mut leads = context(&gateway, facts(&gateway), Api::Chat, CHAT);
    leads.copies.cached = looked_up(&gateway, &mut leads, &[]).await.map(|found| found.cached);
    assert!(leads.copies.cached.as_ref().unwrap().flight.is_some());
    let mut follows = context(&gateway, facts(&gateway), Api::Chat, CHAT);
    let answers = async {
        tokio::task::yield_now().await;
        answered(&gateway, &mut leads, 200, &answer()).await;
    };
    let (found, ()) = tokio::join!(looked_up(&gateway, &mut follows, &[]), answers);
    let found = found.unwrap();
    assert_eq!((found.cached.result.label(), found.answer.is_some()), ("hit", true));
}

#[tokio::test]
async fn those_who_wait_go_on_when_the_answer_is_not_kept() {
    let gateway = gateway(CACHE);
    for ends in ["refused", "forgotten", "gone"] {
        let mut leads = context(&gateway, facts(&gateway), Api::Chat, CHAT);
        leads.copies.cached = looked_up(&gateway, &mut leads, &[]).await.map(|found| found.cached);
        let mut follows = context(&gateway, facts(&gateway), Api::Chat, CHAT);
        let ended = async {
            tokio::task::yield_now().await;
            match ends {
                "refused" => answered(&gateway, &mut leads, 500, "{}").await,
                "forgotten" => forget(&mut leads.copies),
                _ => leads.copies.cached = None,
            }
        };
        let (found, ()) = tokio::join!(looked_up(&gateway, &mut follows, &[]), ended);
        let found = found.unwrap();
        assert_eq!((found.cached.result.label(), found.answer.is_none()), ("miss", true), "{ends}");
        // Whoever waited for one that gave up leads the next ones.
        assert_eq!(found.cached.flight.is_some(), ends == "gone", "{ends}");
    }
}

#[tokio::test]
async fn only_a_whole_success_is_kept() {
    let gateway = Setup { rest: "[plugins.cache]\nexact = { max_answer = \"1KiB\" }\n", ..Setup::default() }.gateway();
    let filtered = answer().replace("\"stop\"", "\"content_filter\"");
    let long = answer().replace("hello", &"x".repeat(2000));
    for (status, body) in [(500, answer()), (200, "{".to_owned()), (200, filtered), (200, long)] {
        let mut ctx = context(&gateway, facts(&gateway), Api::Chat, CHAT);
        ctx.copies.cached = looked_up(&gateway, &mut ctx, &[]).await.map(|found| found.cached);
        answered(&gateway, &mut ctx, status, &body).await;
        assert_eq!(result(&gateway, &mut ctx, &[]).await, Some("miss"), "{status} {body:.60}");
    }
    assert_eq!(gateway.metrics.requests.buffered.get(), 0, "no share is left");
}

#[tokio::test]
async fn a_kept_answer_is_given_in_the_form_that_is_asked_for() {
    let gateway = gateway(CACHE);
    kept(&gateway, facts(&gateway), CHAT).await;
    for (text, kind, streamed) in [(CHAT, "application/json", false), (STREAM, "text/event-stream", true)] {
        let mut ctx = context(&gateway, facts(&gateway), Api::Chat, text);
        let LookedUp { cached, answer } = looked_up(&gateway, &mut ctx, &[]).await.unwrap();
        let (entry, asked) = (answer.expect("it is kept in either form"), ctx.model_request.take().unwrap());
        ctx.copies.cached = Some(cached);
        gateway.clock.pass(std::time::Duration::from_secs(2));
        let kept = prepare(&gateway, &mut ctx.own_answer(), &asked, &entry).expect("it can be had in this form");
        assert_eq!(kept.how, "exact");
        let (mut session, mut caller) = session(post("/v1/chat/completions", &[], "")).await;
        send(&gateway, &mut session, ctx.own_answer(), &asked, &entry, kept).await.ok().expect("the caller is there");
        let got = caller.answer().await;
        assert_eq!((got.status, got.header("content-type"), got.header("x-spillway-cache")), (200, Some(kind), Some("hit")));
        assert_eq!((got.header("x-spillway-backend"), got.header("x-spillway-attempts")), (Some("a"), Some("0")));
        assert!(got.header("age").is_some_and(|age| age.parse::<u64>().unwrap() >= 2), "{got:?}");
        assert_eq!(got.text().starts_with("data: "), streamed);
        assert!(got.text().contains("hello"));
        assert_eq!((ctx.reply.status, ctx.reply.streamed, ctx.reply.bytes_out), (Some(200), streamed, got.body.len()));
        assert_eq!(ctx.reply.end, End::Complete);
    }
    assert_eq!(metric(&gateway, "spillway_cache_saved_tokens_total{kind=\"output\"}"), 10.0);
}

#[test]
fn the_head_tells_how_the_cache_was_asked() {
    let told = |score| {
        let cached = Cached {
            key: spillway_plugins::cache::CacheKey([0; 32]),
            result: CacheResult::Semantic,
            score,
            flight: None,
            record: None,
            lesson: None,
        };
        let mut head = ReplyHead::new(http::StatusCode::OK);
        describe(&Copies { cached: Some(Box::new(cached)), logged: None }, &mut head);
        ["x-spillway-cache", "x-spillway-cache-score"].map(|name| head.get(name).map(|value| String::from_utf8(value.to_vec()).unwrap()))
    };
    assert_eq!(told(Some(0.98765)), [Some("semantic".to_owned()), Some("0.988".to_owned())]);
    assert_eq!(told(None), [Some("semantic".to_owned()), None]);
    let mut head = ReplyHead::new(http::StatusCode::OK);
    describe(&Copies::default(), &mut head);
    assert_eq!(head.iter().count(), 0);
}

#[test]
fn what_a_caller_did_not_ask_for_stands_before_the_end_of_what_is_kept() {
    let whole = with_event(b"data: {\"a\":1}\n\ndata: [DONE]\n\n", b"{\"usage\":1}");
    assert_eq!(&whole[..], b"data: {\"a\":1}\n\ndata: {\"usage\":1}\n\ndata: [DONE]\n\n");
    assert_eq!(&with_event(b"data: 1\n\n", b"2")[..], b"data: 1\n\ndata: 2\n\n");
}
