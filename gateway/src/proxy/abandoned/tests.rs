//! Answers whose callers left.

use serde_json::Value;
use spillway_plugins::api::Api;

use crate::proxy::fixtures::{
    self, Backend, DONE, STREAM, Setup, Step, booked, chunked, consumer, content, context, facts_of, ledger_in, post, stop,
};
use crate::proxy::retry_loop;
use crate::request::End;

/// The row of a stream whose caller leaves after its first event, where this comes behind it.
async fn left(more: &str, rest: Vec<Step>) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let (server, table) = ledger_in(folder.path());
    let tables = consumer("one", "") + table + more;
    let gateway = Setup { server: &server, rest: &tables, ..Setup::default() }.gateway();
    let begun =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_owned() + &chunked(&content("hello"));
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let steps = [Step::Send(begun.into_bytes()), Step::Wait(std::sync::Arc::new(parking_lot::Mutex::new(Some(gone))))]
        .into_iter()
        .chain(rest)
        .collect();
    Backend::in_place_of(&gateway, "a", [steps]);
    let (mut session, mut caller) = fixtures::session(post("/v1/chat/completions", &[], "")).await;
    let mut ctx = context(&gateway, facts_of(&gateway, "one"), Api::Chat, STREAM);
    let leaves = async {
        caller.head().await;
        drop(caller);
    };
    let (end, ()) = tokio::join!(retry_loop::run(&gateway, &mut session, &mut ctx), leaves);
    assert_eq!(end, End::CallerLeft);
    let target = ctx.model_request.as_ref().unwrap().model.route.members()[0].target.clone();
    let reads_on = target.in_flight() == 1;
    assert_eq!(reads_on, !more.contains("cancel"), "its slot is taken for as long as it works");
    let _ = go.send(());
    for _ in 0..5000 {
        if target.in_flight() == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    assert_eq!(target.in_flight(), 0);
    let rows = booked(&gateway).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((rows[0]["outcome"].as_str(), rows[0]["consumer"].as_str()), (Some("cancelled"), Some("one")));
    rows[0].clone()
}

const DRAIN: &str = "[usage]\non_disconnect = \"drain\"\n";

#[tokio::test]
async fn what_is_told_after_its_caller_left_is_booked() {
    let row = left(DRAIN, vec![Step::Send((chunked(&stop()) + &chunked(DONE)).into_bytes()), Step::Hold]).await;
    assert_eq!((row["source"].as_str(), row["output_tokens"].as_u64()), (Some("reported"), Some(5)));
}

#[tokio::test]
async fn one_that_breaks_is_booked_at_its_bound() {
    let row = left(DRAIN, vec![]).await;
    assert_eq!((row["source"].as_str(), row["output_tokens"].as_u64()), (Some("estimated"), Some(1024)));
}

#[tokio::test]
async fn one_that_is_not_read_on_is_booked_at_its_bound_at_once() {
    let row = left("[usage]\non_disconnect = \"cancel\"\n", vec![Step::Send(chunked(&stop()).into_bytes())]).await;
    assert_eq!((row["source"].as_str(), row["output_tokens"].as_u64()), (Some("estimated"), Some(1024)));
}
