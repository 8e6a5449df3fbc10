//! Pingora's phases, called as Pingora calls them.

use spillway_plugins::api::Api;

use super::*;
use crate::proxy::fixtures::{
    Backend, CHAT, DONE, STREAM, Step, content, context, events, facts, gateway, get, metric, pingora_session as session, plain, post,
};

#[tokio::test]
async fn a_request_passes_all_phases_of_the_gateways_own_loop() {
    let gateway = gateway("");
    let answer = "{\"choices\":[{\"index\":0}]}";
    let backend = Backend::in_place_of(&gateway, "a", [plain(200, answer)]);
    let (mut session, mut caller) = session(post("/v1/chat/completions", &[("x-request-id", "mine")], CHAT)).await;
    let mut ctx = gateway.new_ctx();
    assert_eq!(gateway.metrics.requests.in_flight.get(), 1);
    assert!(!gateway.request_filter(&mut session, &mut ctx).await.unwrap(), "it goes on");
    assert!(!gateway.proxy_upstream_filter(&mut session, &mut ctx).await.unwrap(), "Pingora has nothing to do");
    gateway.logging(&mut session, None, &mut ctx).await;
    let got = caller.answer().await;
    assert_eq!((got.status, got.text().as_str(), backend.asked().len()), (200, answer, 1));
    let known = gateway.recent.find("mine").expect("it is remembered");
    assert_eq!((known.status, known.end, known.attempts.len()), (200, End::Complete, 1));
    drop(ctx);
    assert_eq!(gateway.metrics.requests.in_flight.get(), 0);
}

#[tokio::test]
async fn what_the_caller_of_a_stream_did_not_ask_for_is_kept_for_others() {
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5}}\n\n";
    let last = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let first = content("hello");
    let pieces = [first.as_str(), last, usage, DONE];
    // In pieces, and all at once.
    for answer in [events(&pieces), events(&[&pieces.concat()])] {
        let gateway = gateway("[plugins.cache]\nexact = {}\n");
        Backend::in_place_of(&gateway, "a", [answer]);
        let (mut session, mut caller) = session(post("/v1/chat/completions", &[], STREAM)).await;
        let mut ctx = gateway.new_ctx();
        assert!(!gateway.request_filter(&mut session, &mut ctx).await.unwrap());
        assert!(!gateway.proxy_upstream_filter(&mut session, &mut ctx).await.unwrap());
        assert_eq!(caller.answer().await.text(), format!("{first}{last}{DONE}"));
        let runtime = gateway.runtime.load();
        let kept: Vec<_> = runtime.cache.as_ref().unwrap().entries(gateway.clock.wall_millis()).collect();
        assert_eq!(kept.len(), 1);
        let entry = &kept[0].1;
        assert_eq!((&entry.body[..], entry.input, entry.output), (pieces.concat().as_bytes(), 3, 5));
    }
}

#[tokio::test]
async fn what_was_answered_goes_no_further() {
    let gateway = gateway("");
    let (mut session, mut caller) = session(get("/v1/models", &[])).await;
    let mut ctx = gateway.new_ctx();
    assert!(gateway.request_filter(&mut session, &mut ctx).await.unwrap());
    assert_eq!((caller.answer().await.status, ctx.reply.end), (200, End::Complete));
}

#[tokio::test]
async fn a_transfer_that_was_cut_is_an_error_and_a_tunnel_is_pingoras() {
    let gateway = gateway("");
    let mut broken = events(&[&content("hello")]);
    broken.pop();
    Backend::in_place_of(&gateway, "a", [broken, vec![Step::Hold]]);
    let (mut session, _caller) = session(post("/v1/chat/completions", &[], "")).await;
    let mut ctx = Box::new(context(&gateway, facts(&gateway), Api::Chat, STREAM));
    assert!(gateway.proxy_upstream_filter(&mut session, &mut ctx).await.is_err());
    assert_eq!(ctx.reply.end, End::Cut);
    ctx.tunnel = Some(Box::new(tunnel::state::Tunnel::web_socket()));
    assert!(gateway.proxy_upstream_filter(&mut session, &mut ctx).await.unwrap());
}

/// What a caller gets after such an error, and the status that Pingora is told.
async fn failed(error: BError, written: bool) -> (Option<(u16, String)>, u16) {
    let gateway = gateway("");
    let (mut session, mut caller) = session(post("/v1/chat/completions", &[], "")).await;
    let mut ctx = Box::new(context(&gateway, facts(&gateway), Api::Chat, CHAT));
    if written {
        let head = ResponseHeader::build(200, None).unwrap();
        session.write_response_header(Box::new(head), false).await.unwrap();
    }
    let told = gateway.fail_to_proxy(&mut session, &error, &mut ctx).await;
    drop(session);
    if written || told.error_code == 0 {
        assert_eq!(metric(&gateway, "spillway_rejections_total{code=\"internal_error\"}"), 0.0);
        return (None, told.error_code);
    }
    let got = caller.answer().await;
    (Some((got.status, got.code())), told.error_code)
}

#[tokio::test]
async fn an_error_of_pingoras_is_answered_if_nothing_was_written() {
    let error = |kind: ErrorType| Error::explain(kind, "x");
    let answer = |status: u16, code: &str| (Some((status, code.to_owned())), status);
    assert_eq!(failed(error(ErrorType::ConnectRefused).into_up(), false).await, answer(500, "internal_error"));
    assert_eq!(failed(error(ErrorType::ReadTimedout).into_down(), false).await, answer(408, "request_timeout"));
    assert_eq!(failed(error(ErrorType::Custom("InvalidChunk")).into_down(), false).await, answer(400, "invalid_request"));
    assert_eq!(failed(error(ErrorType::ConnectionClosed).into_down(), false).await, (None, 0), "the caller is gone");
    assert_eq!(failed(error(ErrorType::ConnectRefused).into_up(), true).await, (None, 0), "a part must not look like the whole");
}
