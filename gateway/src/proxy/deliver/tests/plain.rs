//! Plain answers.

use super::*;
use crate::proxy::fixtures::plain;

const ANSWER: &str = r#"{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"hello"}}],"usage":{"prompt_tokens":3,"completion_tokens":5}}"#;

async fn chat(steps: Vec<Step>) -> Delivered {
    delivered(Setup::default(), Api::Chat, CHAT, steps).await
}

#[tokio::test]
async fn an_answer_goes_out_as_it_came_and_is_booked_before() {
    let whole = chat(plain(200, ANSWER)).await;
    assert_eq!(whole.delivery, Delivery::Complete);
    let got = whole.got();
    assert_eq!((got.status, got.text().as_str(), got.ended), (200, ANSWER, Ended::Whole));
    assert_eq!(
        (got.header("content-length"), got.header("content-type")),
        (Some(ANSWER.len().to_string().as_str()), Some("application/json"))
    );
    assert_eq!(
        (got.header("x-request-id"), got.header("x-spillway-backend"), got.header("x-spillway-attempts")),
        (Some("the-id"), Some("a"), Some("1"))
    );
    assert_eq!((whole.usage(), whole.ctx.metering.booked, whole.ctx.metering.whole), (used(3, 5), true, true));
    assert_eq!((whole.ctx.reply.status, whole.ctx.reply.streamed, whole.ctx.reply.bytes_out), (Some(200), false, ANSWER.len()));
}

#[tokio::test]
async fn what_an_upstream_says_of_itself_stays_here_and_the_pool_has_its_way() {
    let pool = "transform = { response_headers = { set = { x-pool = \"1\" } } }";
    let head = format!(
        "200 OK\r\ncontent-type: application/json\r\nserver: theirs\r\nx-request-id: theirs\r\nset-cookie: a=b\r\nx-custom: 1\r\ncontent-length: {}",
        ANSWER.len()
    );
    let whole = delivered(Setup { pool, ..Setup::default() }, Api::Chat, CHAT, raw(&head, ANSWER)).await;
    let names = ["server", "x-request-id", "set-cookie", "x-custom", "x-pool"];
    assert_eq!(names.map(|name| whole.got().header(name)), [None, Some("the-id"), None, Some("1"), Some("1")]);
}

#[tokio::test]
async fn an_answer_without_a_length_gets_one_if_it_is_short() {
    let whole = chat(raw("200 OK\r\ncontent-type: application/json", ANSWER)).await;
    assert_eq!(
        (whole.delivery.clone(), whole.got().header("content-length")),
        (Delivery::Complete, Some(ANSWER.len().to_string().as_str()))
    );
    let chunks = raw("200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked", &(chunked(ANSWER) + "0\r\n\r\n"));
    let whole = chat(chunks).await;
    assert_eq!((whole.got().text().as_str(), whole.usage()), (ANSWER, used(3, 5)));
}

#[tokio::test]
async fn a_success_that_holds_no_answer_is_replaced() {
    for (body, expected) in [
        ("", ReplaceReason::NoAnswer),
        ("[]", ReplaceReason::NoAnswer),
        ("<html>", ReplaceReason::NoAnswer),
        ("{}", ReplaceReason::NoAnswer),
        ("{\"id\":", ReplaceReason::NoAnswer),
        ("{\"id\":\"c\",\"choices\":[]}", ReplaceReason::NoAnswer),
        ("{\"error\":null,\"choices\":[]}", ReplaceReason::NoAnswer),
        ("{\"error\":{\"code\":\"rate_limit_exceeded\"}}", ReplaceReason::RateLimited),
        ("{\"error\":{\"code\":\"insufficient_quota\"}}", ReplaceReason::OutOfQuota),
        ("{\"error\":{\"code\":\"server_error\",\"message\":\"on fire\"}}", ReplaceReason::NoAnswer),
        ("{\"error\":{\"code\":\"DeploymentNotFound\"}}", ReplaceReason::NoDeployment),
    ] {
        let replaced = chat(plain(200, body)).await;
        assert_eq!(replaced.replaced(), expected, "{body}");
        assert_eq!(replaced.state.last_refusal.is_some(), expected == ReplaceReason::NoDeployment, "{body}");
        assert_eq!(
            replaced.said.is_some(),
            body.contains("on fire") || body.contains("rate_limit") || body.contains("insufficient"),
            "{body}"
        );
    }
    let callers = chat(plain(200, "{\"error\":{\"code\":\"content_filter\"}}")).await;
    assert_eq!(callers.delivery, Delivery::Complete, "it would be the same everywhere");
}

#[tokio::test]
async fn an_answer_that_breaks_before_it_is_whole_is_replaced() {
    let reset = ReplaceReason::Broken(Broken::Upstream(ErrorKind::Reset));
    let cut = &ANSWER[..20];
    assert_eq!(chat(raw("200 OK\r\ncontent-type: application/json\r\ncontent-length: 500", cut)).await.replaced(), reset);
    assert_eq!(chat(raw("200 OK\r\ncontent-type: application/json", cut)).await.replaced(), reset, "its end looks like an end");
    let silent =
        vec![Step::Send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{".to_vec()), Step::Hold];
    let idle = delivered(state("timeouts = { idle = \"50ms\" }"), Api::Chat, CHAT, silent).await;
    assert_eq!(idle.replaced(), ReplaceReason::Broken(Broken::Upstream(ErrorKind::Idle)));
}

#[tokio::test]
async fn a_long_answer_passes_on_and_is_cut_if_it_breaks() {
    let long = "x".repeat(600 * 1024);
    let whole = raw(&format!("200 OK\r\ncontent-type: audio/mpeg\r\ncontent-length: {}", long.len()), &long);
    let passed = delivered(Setup::default(), Api::Speech, CHAT, whole).await;
    assert_eq!((passed.delivery.clone(), passed.got().body.len(), passed.got().ended), (Delivery::Complete, long.len(), Ended::Whole));
    assert_eq!((passed.ctx.reply.bytes_out, passed.ctx.metering.booked), (long.len(), true));
    let broken = raw(&format!("200 OK\r\ncontent-type: audio/mpeg\r\ncontent-length: {}", long.len() + 1), &long);
    let cut = delivered(Setup::default(), Api::Speech, CHAT, broken).await;
    assert_eq!((cut.delivery.clone(), cut.got().ended, cut.ctx.metering.booked), (Delivery::Cut(ErrorKind::Reset), Ended::Cut, false));
}

#[tokio::test]
async fn a_refusal_is_handed_over_and_costs_nothing() {
    let refused = chat(plain(400, "{\"error\":{\"code\":\"x\"}}")).await;
    assert_eq!((refused.delivery.clone(), refused.got().status), (Delivery::Refusal(StatusCode::BAD_REQUEST), 400));
    assert_eq!((refused.got().text().as_str(), refused.ctx.metering.booked), ("{\"error\":{\"code\":\"x\"}}", false));
    let filtered = chat(plain(400, "{\"error\":{\"code\":\"content_filter\"}}")).await;
    assert!(filtered.ctx.metering.booked, "a filter has read the prompt");
}

#[tokio::test]
async fn a_long_prompt_is_let_go_once_no_attempt_needs_it() {
    let long = CHAT.replace("hi", &"x".repeat(metering::KEPT));
    let whole = delivered(Setup::default(), Api::Chat, &long, plain(200, ANSWER)).await;
    assert!(whole.ctx.body.kept.is_none() && whole.ctx.body.input_bound.is_some_and(|bound| bound > 1000));
    assert!(chat(plain(200, ANSWER)).await.ctx.body.kept.is_some(), "a short one may be needed for an estimate");
}

#[tokio::test]
async fn an_answer_without_a_body_has_no_length() {
    let empty = delivered_after(Setup::default(), Api::Files, CHAT, raw("204 No Content", ""), Duration::ZERO, |request, _| {
        request.object = Some("files/f".to_owned());
    })
    .await;
    assert_eq!((empty.delivery.clone(), empty.got().status, empty.got().header("content-length")), (Delivery::Complete, 204, None));
}
