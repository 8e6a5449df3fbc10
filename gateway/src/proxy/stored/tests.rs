//! Requests that refer to what a backend stores.

use super::*;
use crate::objects::ObjectLocation;
use crate::proxy::fixtures::{CHAT, Setup, buffer, consumer, context, facts, facts_of, get, model_request, post, session};
use crate::request::RequestBody;

/// Two consumers; a second pool has the backend `c`.
fn gateway(more: &str) -> Gateway {
    let rest = "[[backends]]\nname = \"c\"\nkind = \"openai\"\nurl = \"http://c.test\"\n[[pools]]\nname = \"other\"\nmodels = [\"o\"]\n\
                members = [{ backend = \"c\", priority = 1 }]\n"
        .to_owned()
        + &consumer("one", "")
        + &consumer("two", more);
    Setup { rest: &rest, ..Setup::default() }.gateway()
}

fn keep_at(gateway: &Gateway, name: &str, backend: &str, owner: &str) {
    gateway.objects.pin(name, ObjectLocation { backend: backend.into(), consumer: Some(owner.into()) }, gateway.clock.now());
}

fn unknown(name: &str) -> Refusal {
    Refusal::UnknownObject { name: name.to_owned() }
}

/// What becomes of a response that is asked for with this body.
async fn referred(gateway: &Gateway, text: &str) -> Result<ModelRequest, Refusal> {
    let mut asked = model_request(gateway, Api::Responses, text);
    let same = refer(gateway, &facts_of(gateway, "one"), &mut asked, buffer(gateway, text)).await?;
    assert_eq!(same.as_slice(), text.as_bytes());
    Ok(asked)
}

fn after(previous: &str) -> String {
    format!("{{\"model\":\"m\",\"input\":\"x\",\"previous_response_id\":\"{previous}\"}}")
}

#[tokio::test]
async fn a_request_goes_where_what_it_refers_to_is() {
    let gateway = gateway("");
    keep_at(&gateway, "resp_b", "b", "one");
    let asked = referred(&gateway, &after("resp_b")).await.expect("it is there");
    assert_eq!((asked.elsewhere.as_deref(), asked.stores, asked.sealed), (Some(&[0][..]), true, false), "all but the second member");
    let free = referred(&gateway, r#"{"model":"m","input":"x"}"#).await.expect("it refers to nothing");
    assert_eq!((free.elsewhere, free.stores), (None, true));
    let unstored = referred(&gateway, r#"{"model":"m","input":"x","store":false}"#).await.expect("it refers to nothing");
    assert!(!unstored.stores);
}

#[tokio::test]
async fn another_consumers_things_are_as_unknown_as_those_that_are_none() {
    let gateway = gateway("");
    keep_at(&gateway, "resp_two", "b", "two");
    for name in ["resp_two", "resp_none"] {
        assert_eq!(referred(&gateway, &after(name)).await.err(), Some(unknown(name)));
    }
}

#[tokio::test]
async fn things_at_different_backends_or_where_the_model_is_not_cannot_be_had_together() {
    let gateway = gateway("");
    for (name, backend) in [("resp_a", "a"), ("conv_b", "b"), ("resp_c", "c")] {
        keep_at(&gateway, name, backend, "one");
    }
    let apart = r#"{"model":"m","input":"x","previous_response_id":"resp_a","conversation":"conv_b"}"#;
    assert_eq!(referred(&gateway, apart).await.err(), Some(Refusal::ObjectsApart));
    assert_eq!(referred(&gateway, &after("resp_c")).await.err(), Some(Refusal::ObjectElsewhere { model: "m".to_owned() }));
}

#[tokio::test]
async fn what_is_sealed_goes_where_it_can_be_read_and_anywhere_else_if_that_is_not_known() {
    let gateway = gateway("");
    let sealed = r#"{"model":"m","store":false,"input":[{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"gAAAAsealed0123456789"}]}"#;
    let first = referred(&gateway, sealed).await.expect("nobody knows where it is from");
    assert_eq!((first.elsewhere, first.sealed), (None, true));
    // An answer of the second member's brings the same.
    let asked = model_request(&gateway, Api::Responses, sealed);
    let answer = br#"{"id":"resp_9","output":[{"type":"reasoning","id":"rs_1","encrypted_content":"gAAAAsealed0123456789"}]}"#;
    remember(&gateway, &facts_of(&gateway, "one"), &asked, &"b".into(), answer);
    let second = referred(&gateway, sealed).await.expect("it is known");
    assert_eq!((second.elsewhere.as_deref(), second.sealed), (Some(&[0][..]), true));
}

/// What a request about something stored comes to: where it may not go, its path, and what follows.
async fn taken(gateway: &Gateway, facts: Facts, request: &str) -> Result<(ModelRequest, IntakeOutcome), Refusal> {
    let (mut session, _caller) = session(request).await;
    let head = session.req_header();
    let read = crate::operation::read(&head.method, head.uri.path(), head.uri.query()).unwrap();
    let crate::operation::Operation::Object(call) = read else { panic!("it is about something stored: {read:?}") };
    let mut ctx = context(gateway, facts, Api::Chat, CHAT);
    (ctx.model_request, ctx.body) = (None, RequestBody::default());
    match take_in(gateway, &mut session, &mut ctx, call).await {
        Ok(outcome) => Ok((*ctx.model_request.take().unwrap(), outcome)),
        Err(IntakeError::Refuse(refusal)) => Err(refusal),
        Err(IntakeError::CallerLeft) => panic!("the caller is there"),
    }
}

#[tokio::test]
async fn what_is_stored_is_its_owners_and_is_asked_for_where_it_is() {
    let gateway = gateway("");
    keep_at(&gateway, "resp_b", "b", "one");
    let (asked, outcome) = taken(&gateway, facts_of(&gateway, "one"), &get("/v1/responses/resp_b", &[])).await.expect("it is its own");
    assert_eq!((asked.api, asked.object.as_deref(), outcome), (Api::Responses, Some("responses/resp_b"), IntakeOutcome::Attempt));
    assert_eq!((asked.elsewhere.as_deref(), asked.stores), (Some(&[0][..]), true));
    for other in [facts_of(&gateway, "two"), facts(&gateway)] {
        assert_eq!(taken(&gateway, other, &get("/v1/responses/resp_b", &[])).await.err(), Some(unknown("resp_b")));
    }
    let (items, _) = taken(&gateway, facts_of(&gateway, "one"), &get("/v1/responses/resp_b/input_items", &[])).await.expect("its own");
    assert!(!items.stores, "a content could say anything");
}

#[tokio::test]
async fn a_file_goes_to_the_pool_that_is_chosen_or_may_be_used() {
    let gateway = gateway("pools = [\"other\"]");
    let upload = |fields: &[(&str, &str)]| post("/v1/files", fields, "x");
    let pool_of = |taken: Result<(ModelRequest, IntakeOutcome), Refusal>| taken.map(|(asked, _)| asked.pool.config.name.to_string());
    let one = async |fields| taken(&gateway, facts_of(&gateway, "one"), &upload(fields)).await;
    assert_eq!(pool_of(one(&[]).await), Ok("pool".to_owned()), "the first one");
    assert_eq!(pool_of(one(&[("x-spillway-pool", "other")]).await), Ok("other".to_owned()));
    let none = Err(Refusal::NoPoolForObjects { header: "x-spillway-pool" });
    assert_eq!(pool_of(one(&[("x-spillway-pool", "third")]).await), none);
    let two = async |fields| taken(&gateway, facts_of(&gateway, "two"), &upload(fields)).await;
    assert_eq!(pool_of(two(&[]).await), Ok("other".to_owned()), "the first one that it may use");
    let closed = Err(Refusal::PoolNotAllowed { model: String::new(), pool: "pool".to_owned() });
    assert_eq!(pool_of(two(&[("x-spillway-pool", "pool")]).await), closed);
}

#[tokio::test]
async fn an_upload_that_may_be_long_passes_through_and_a_short_one_is_held() {
    let gateway = gateway("");
    let of = async |request: &str| taken(&gateway, facts_of(&gateway, "one"), request).await.map(|(_, outcome)| outcome);
    assert_eq!(of(&post("/v1/files", &[], "0123456789")).await, Ok(IntakeOutcome::Attempt));
    let chunked = "POST /v1/files HTTP/1.1\r\nhost: gateway\r\ntransfer-encoding: chunked\r\n\r\n5\r\n01234\r\n";
    assert_eq!(of(chunked).await, Ok(IntakeOutcome::Tunnel));
    let gzip = of(&post("/v1/files", &[("content-encoding", "gzip")], "x")).await.expect_err("it can't be read");
    assert_eq!(gzip.shape().status.as_u16(), 415);
}

#[tokio::test]
async fn batches_are_for_those_who_may_use_every_model_or_are_allowed_them_by_name() {
    for (more, batch, code) in [
        ("", "/v1/batches", None),
        ("models = [\"m\"]", "/v1/batches", Some("api_not_allowed")),
        ("models = [\"m\"]\napis = [\"batches\"]", "/v1/batches", None),
        ("models = [\"m\"]\napis = [\"batches\"]", "/openai/deployments/n/batches", Some("model_not_allowed")),
        ("pools = [\"pool\"]", "/v1/batches", Some("api_not_allowed")),
        ("apis = [\"chat\"]", "/v1/batches", Some("api_not_allowed")),
    ] {
        let gateway = gateway(more);
        let taken = taken(&gateway, facts_of(&gateway, "two"), &post(batch, &[], "{}")).await;
        assert_eq!(taken.err().map(|refusal| refusal.shape().code), code, "{more} {batch}");
    }
}

#[test]
fn what_an_answer_may_name_is_remembered_for_its_caller() {
    let gateway = gateway("");
    let may = |api: Api, stores: bool| {
        let mut asked = model_request(&gateway, api, CHAT);
        asked.stores = stores;
        may_make(&asked)
    };
    assert_eq!([Api::Responses, Api::Messages, Api::Chat, Api::Embeddings].map(|api| may(api, false)), [true, true, false, false]);
    assert!(may(Api::Files, true) && !may(Api::Files, false));
    let mut asked = model_request(&gateway, Api::Responses, CHAT);
    let answer = br#"{"id":"resp_new","output":[]}"#;
    remember(&gateway, &facts_of(&gateway, "one"), &asked, &"b".into(), answer);
    assert!(gateway.objects.all().is_empty(), "it is not stored");
    asked.stores = true;
    remember(&gateway, &facts_of(&gateway, "one"), &asked, &"b".into(), answer);
    let known = gateway.objects.all();
    assert_eq!(known, [("resp_new".to_owned(), ObjectLocation { backend: "b".into(), consumer: Some("one".into()) })]);
    let messages = model_request(&gateway, Api::Messages, CHAT);
    remember(&gateway, &facts_of(&gateway, "one"), &messages, &"a".into(), br#"{"id":"msg_1","content":[]}"#);
    assert_eq!(gateway.objects.all().len(), 1, "no code has run");
    remember(
        &gateway,
        &facts_of(&gateway, "one"),
        &messages,
        &"a".into(),
        br#"{"id":"msg_1","container":{"id":"container_1"},"content":[]}"#,
    );
    assert_eq!(gateway.objects.all().len(), 2);
}
