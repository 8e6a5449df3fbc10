//! From the head to a request that can be attempted.

mod bodies;

use spillway_testkit::client::Response;

use super::*;
use crate::proxy::fixtures::{self, CHAT, Setup, consumer, gateway, get, metric, post};
use crate::request::InFlight;

/// What came of a request: what follows, what the caller got, and what is known of it.
struct Taken {
    outcome: Option<IntakeOutcome>,
    got: Option<Response>,
    ctx: RequestCtx,
}

impl Taken {
    /// Status and code of what the caller got.
    fn answered(&self) -> (u16, String) {
        assert_eq!(self.outcome, Some(IntakeOutcome::Answered));
        let got = self.got.as_ref().expect("an answer");
        (got.status, got.code())
    }

    fn model(&self) -> Option<&str> {
        self.ctx.model_request.as_ref().map(|asked| &*asked.model.name)
    }
}

async fn taken(gateway: &Gateway, request: &str) -> Taken {
    let (mut session, caller) = fixtures::session(request).await;
    let in_flight = InFlight::new(&gateway.metrics.requests.in_flight);
    let mut ctx = RequestCtx::new(gateway.clock.now(), gateway.clock.wall(), gateway.runtime.load_full(), in_flight);
    let outcome = take_in(gateway, &mut session, &mut ctx).await.ok();
    drop(session);
    let got = caller.answer_if_any().await;
    Taken { outcome, got, ctx }
}

#[tokio::test]
async fn a_chat_is_taken_in_whole() {
    let gateway = gateway("");
    let taken = taken(&gateway, &post("/v1/chat/completions", &[("x-request-id", "mine")], CHAT)).await;
    assert_eq!((taken.outcome.as_ref(), taken.got.is_none(), taken.model()), (Some(&IntakeOutcome::Attempt), true, Some("m")));
    let facts = &taken.ctx.facts;
    assert_eq!((facts.id.as_str(), facts.api, facts.asked_for.as_deref()), ("mine", Some(Api::Chat), Some("m")));
    assert_eq!((taken.ctx.body.bytes, taken.ctx.body.kept.as_ref().map(|body| &body.bytes()[..])), (CHAT.len(), Some(CHAT.as_bytes())));
}

#[tokio::test]
async fn an_id_is_kept_if_it_can_stand_in_a_log() {
    let gateway = gateway("");
    for id in ["", "a b", "a/b", &"x".repeat(129)] {
        let taken = taken(&gateway, &post("/v1/chat/completions", &[("x-request-id", id)], CHAT)).await;
        assert!(taken.ctx.facts.id != id && taken.ctx.facts.id.len() == 32, "{id}");
    }
}

#[tokio::test]
async fn what_is_nothing_here_is_refused_in_its_dialect() {
    let gateway = gateway("");
    let long = get(&format!("/v1/{}", "x".repeat(MAX_TARGET)), &[]);
    for (request, status, code) in [
        (get("/nothing", &[]), 404, "not_found"),
        (get("/v1/chat/completions", &[]), 405, "method_not_allowed"),
        (long, 414, "target_too_long"),
        (get("/v1/models%00", &[]), 400, "invalid_request"),
        (get("/v1/realtime?model=m", &[]), 426, "upgrade_required"),
        (post("/v1/chat/completions", &[], "{\"model\":\"unheard-of\"}"), 404, "model_not_found"),
        (post("/v1/chat/completions", &[], "{\"messages\":[]}"), 400, "model_missing"),
        (post("/v1/chat/completions", &[], "{"), 400, "invalid_json"),
    ] {
        let taken = taken(&gateway, &request).await;
        assert_eq!(taken.answered(), (status, code.to_owned()), "{:.60}", request);
        assert_eq!((taken.ctx.reply.end, taken.ctx.reply.status), (End::Refused(code), Some(status)));
    }
    assert_eq!(metric(&gateway, "spillway_rejections_total{code=\"model_not_found\"}"), 1.0);
    let messages = taken(&gateway, &post("/v1/messages", &[], "{\"model\":\"unheard-of\"}")).await;
    assert_eq!(messages.got.unwrap().json()["error"]["type"], "not_found_error");
}

#[tokio::test]
async fn rights_are_looked_at_before_the_body_is() {
    let gateway = gateway(&(consumer("one", "apis = [\"embeddings\"]") + &consumer("two", "models = [\"n\"]")));
    // The body never comes.
    let begun = |key: &str| format!("POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\napi-key: {key}\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(taken(&gateway, &begun("unknown")).await.answered(), (401, "invalid_api_key".to_owned()));
    assert_eq!(taken(&gateway, &begun("one")).await.answered(), (403, "api_not_allowed".to_owned()));
    let named = taken(&gateway, &post("/v1/chat/completions", &[("api-key", "two")], CHAT)).await;
    assert_eq!((named.answered(), named.ctx.facts.asked_for.as_deref()), ((403, "model_not_allowed".to_owned()), Some("m")));
    let further = "{\"model\":\"n\",\"messages\":[],\"tools\":[{\"type\":\"image_generation\",\"model\":\"m\"}]}";
    let further = taken(&gateway, &post("/v1/responses", &[("api-key", "two")], further)).await;
    assert_eq!(further.answered(), (403, "model_not_allowed".to_owned()), "one beside the one that is asked");
}

#[tokio::test]
async fn a_caller_sees_the_models_that_it_may_use() {
    let gateway = gateway(&(consumer("one", "models = [\"n\"]") + &consumer("all", "")));
    let list = async |key: &str| {
        let taken = taken(&gateway, &get("/v1/models", &[("api-key", key)])).await;
        assert_eq!((taken.answered().0, taken.ctx.reply.end), (200, End::Complete));
        let models = taken.got.unwrap().json()["data"].as_array().unwrap().clone();
        models.iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((list("one").await, list("all").await), (vec!["n".to_owned()], vec!["m".to_owned(), "n".to_owned()]));
    let one = taken(&gateway, &get("/v1/models/n", &[("api-key", "one")])).await;
    assert_eq!((one.answered().0, &one.got.as_ref().unwrap().json()["id"]), (200, &"n".into()));
    let other = taken(&gateway, &get("/v1/models/m", &[("api-key", "one")])).await;
    assert_eq!(other.answered(), (404, "model_not_found".to_owned()), "what it may not use is not there");
}

#[tokio::test]
async fn a_page_of_another_origin_asks_without_a_key() {
    let rest = consumer("one", "");
    let gateway = Setup { server: "cors = { origins = [\"https://a.test\"] }", rest: &rest, ..Setup::default() }.gateway();
    let asks = |origin: &str| {
        let fields = [("origin", origin), ("access-control-request-method", "POST")];
        get("/v1/chat/completions", &fields).replacen("GET", "OPTIONS", 1)
    };
    let allowed = taken(&gateway, &asks("https://a.test")).await;
    let got = allowed.got.as_ref().unwrap();
    assert_eq!((got.status, got.header("access-control-allow-origin")), (204, Some("https://a.test")));
    assert_eq!((allowed.ctx.reply.status, allowed.ctx.reply.end), (Some(204), End::Complete));
    assert_eq!(taken(&gateway, &asks("https://b.test")).await.answered().0, 401);
}

#[tokio::test]
async fn a_key_in_the_query_is_one_in_a_header() {
    let gateway = gateway(&consumer("one", ""));
    let taken = taken(&gateway, &post("/v1/chat/completions?subscription-key=one&a=b", &[], CHAT)).await;
    assert_eq!((taken.outcome, taken.ctx.facts.consumer().map(|one| &*one.name)), (Some(IntakeOutcome::Attempt), Some("one")));
}

#[tokio::test]
async fn too_many_requests_at_once_are_turned_away_and_one_consumer_never_has_all_places() {
    let rest = consumer("one", "") + &consumer("two", "");
    let gateway = Setup { server: "max_in_flight = 8", rest: &rest, ..Setup::default() }.gateway();
    let request = |key: &str| post("/v1/chat/completions", &[("api-key", key)], CHAT);
    // As many as get in, and what the next one hears.
    let fill = async |key: &str| {
        let mut held = Vec::new();
        loop {
            let taken = taken(&gateway, &request(key)).await;
            if taken.outcome != Some(IntakeOutcome::Attempt) {
                assert_eq!(taken.answered(), (503, "overloaded".to_owned()));
                return (held, taken.got.unwrap().text());
            }
            held.push(taken);
        }
    };
    let (one, heard) = fill("one").await;
    assert!((2..8).contains(&one.len()) && heard.contains("requests of this consumer in flight"), "{} {heard}", one.len());
    let (two, heard) = fill("two").await;
    assert!(!two.is_empty() && heard.contains("in flight"), "there is room for another: {heard}");
    drop((one, two));
    assert_eq!(taken(&gateway, &request("one")).await.outcome, Some(IntakeOutcome::Attempt));
}

#[tokio::test]
async fn a_socket_goes_to_the_tunnel() {
    let gateway = gateway("");
    let fields = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let taken = taken(&gateway, &get("/v1/realtime?model=m", &fields)).await;
    assert_eq!((taken.outcome.as_ref(), taken.model()), (Some(&IntakeOutcome::Tunnel), Some("m")));
    assert!(taken.ctx.tunnel.is_some());
    assert_eq!(gateway.metrics.requests.buffered.get(), 0, "nothing of a body");
}

#[tokio::test]
async fn requests_of_one_conversation_meet_the_same_member() {
    let gateway = Setup { pool: "policy = \"affinity\"", ..Setup::default() }.gateway();
    let key = async |fields: &[(&str, &str)], text: &str| {
        let taken = taken(&gateway, &post("/v1/chat/completions", fields, text)).await;
        taken.ctx.model_request.unwrap().affinity_key
    };
    let (one, other) = (CHAT, CHAT.replace("hi", "ho"));
    assert_eq!(key(&[], one).await, key(&[], one).await);
    assert_ne!(key(&[], one).await, key(&[], &other).await);
    let session = [("x-session-id", "s")];
    assert_eq!(key(&session, one).await, key(&session, &other).await);
    let cached = |text: &str| text.replacen('{', "{\"prompt_cache_key\":\"k\",", 1);
    assert_eq!(key(&[], &cached(one)).await, key(&[], &cached(&other)).await);
    let plain = crate::proxy::fixtures::gateway("");
    let plain = taken(&plain, &post("/v1/chat/completions", &[], CHAT)).await;
    assert_eq!(plain.ctx.model_request.unwrap().affinity_key, 0, "nobody needs it");
}
