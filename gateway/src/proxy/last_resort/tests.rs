//! The answer that is made in the gateway.

use std::task::Poll;

use spillway_plugins::api::Part;
use spillway_testkit::client::Response;

use super::*;
use crate::proxy::fixtures::{AND_SORRY, CHAT, SORRY, STREAM, Setup, context, facts, metric, post, session};

#[tokio::test]
async fn a_long_body_is_read_in_its_owners_turn() {
    let gateway = Setup { members: AND_SORRY, rest: SORRY, ..Setup::default() }.gateway();
    let turns: Vec<_> = (0..).map_while(|number| gateway.turns.take(Some(number.to_string().into()))).collect();
    let long = CHAT.replacen('{', &format!(r#"{{"user":"{}","#, "x".repeat(70_000)), 1);
    for (text, waits) in [(CHAT, false), (&long, true)] {
        let mut ctx = context(&gateway, facts(&gateway), Api::Chat, text);
        let asked = ctx.model_request.take().unwrap();
        let (mut session, mut caller) = session(post("/v1/chat/completions", &[], "")).await;
        let resort = asked.pool.last_resort.clone().unwrap();
        let mut own = ctx.own_answer();
        let mut answering = std::pin::pin!(answer(&gateway, &mut session, &mut own, &asked, &resort));
        let is_waiting = std::future::poll_fn(|cx| Poll::Ready(answering.as_mut().poll(cx).is_pending())).await;
        assert_eq!(is_waiting, waits);
        if waits {
            drop(turns);
            assert!(answering.await.unwrap());
            assert_eq!(caller.answer().await.status, 200);
            break;
        }
    }
}

/// A pool of nothing but the mock.
const ALONE: &str = "{ backend = \"sorry\", priority = 9 }";
const VECTORS: &str = r#"{"model":"m","input":["a","b","c","d"],"dimensions":1000}"#;

/// The answer to this, or none; and what is noted of it: the status, the bytes, and whether it is a stream.
async fn answered(setup: Setup<'_>, api: Api, part: Option<Part>, text: &str) -> Option<Response> {
    let gateway = Setup { members: if setup.members == ALONE { ALONE } else { AND_SORRY }, rest: SORRY, ..setup }.gateway();
    let mut ctx = context(&gateway, facts(&gateway), api, text);
    let mut asked = ctx.model_request.take().unwrap();
    asked.part = part;
    let (mut session, mut caller) = session(post("/v1/chat/completions", &[], "")).await;
    let resort = asked.pool.last_resort.clone().unwrap();
    let answered = answer(&gateway, &mut session, &mut ctx.own_answer(), &asked, &resort).await.unwrap();
    let counted = metric(&gateway, "spillway_last_resort_total{pool=\"pool\"}");
    if !answered {
        assert_eq!((ctx.reply.status, counted), (None, 0.0));
        drop(session);
        assert_eq!(caller.bytes().await, b"");
        return None;
    }
    let got = caller.answer().await;
    assert_eq!((ctx.reply.status, ctx.reply.bytes_out, counted), (Some(200), got.body.len(), 1.0));
    assert_eq!(ctx.reply.streamed, got.header("content-type") == Some("text/event-stream"));
    assert!(ctx.timing.first.is_some());
    Some(got)
}

#[tokio::test]
async fn it_answers_plainly_or_as_a_stream() {
    let plain = answered(Setup::default(), Api::Chat, None, CHAT).await.expect("there is a stand-in");
    assert_eq!((plain.status, plain.header("content-type")), (200, Some("application/json")));
    assert_eq!(plain.json()["choices"][0]["message"]["content"], "Back soon.");
    assert_eq!((plain.header("x-spillway-backend"), plain.header("x-spillway-attempts")), (Some("sorry"), Some("0")));
    let stream = answered(Setup::default(), Api::Chat, None, STREAM).await.expect("there is a stand-in");
    assert_eq!((stream.header("content-type"), stream.header("transfer-encoding")), (Some("text/event-stream"), Some("chunked")));
    assert!(stream.text().ends_with("data: [DONE]\n\n"), "{}", stream.text());
}

#[tokio::test]
async fn nothing_is_made_up_that_would_be_believed() {
    assert!(answered(Setup::default(), Api::Messages, Some(Part::CountTokens), CHAT).await.is_none());
    assert!(answered(Setup::default(), Api::Transcriptions, None, CHAT).await.is_none());
    assert!(answered(Setup::default(), Api::Speech, None, r#"{"model":"m","input":"a"}"#).await.is_none());
    assert!(answered(Setup::default(), Api::Embeddings, None, VECTORS).await.is_none());
}

#[tokio::test]
async fn a_mock_alone_imitates_a_backend_but_vectors_that_have_no_room_are_not_made() {
    let alone = Setup { members: ALONE, ..Setup::default() };
    assert!(answered(alone, Api::Embeddings, None, VECTORS).await.is_some());
    let small = Setup { members: ALONE, server: "max_body = \"1KiB\"\nmax_buffered = \"1KiB\"", ..Setup::default() };
    assert!(answered(small, Api::Embeddings, None, VECTORS).await.is_none());
}
