//! Streams.

use super::*;

async fn chat(steps: Vec<Step>) -> Delivered {
    delivered(Setup::default(), Api::Chat, STREAM, steps).await
}

/// These events, after which the connection closes.
fn closing(pieces: &[&str]) -> Vec<Step> {
    let mut steps = events(pieces);
    steps.pop();
    steps
}

#[tokio::test]
async fn a_stream_goes_out_as_it_came_to_its_own_end() {
    let (one, last) = (content("hello"), stop());
    let whole = chat(events(&[": ping\n\n", &one, &last, DONE])).await;
    assert_eq!(whole.delivery, Delivery::Complete);
    let got = whole.got();
    assert_eq!((got.status, got.ended, got.text()), (200, Ended::Whole, format!(": ping\n\n{one}{last}{DONE}")));
    assert_eq!(
        (got.header("transfer-encoding"), got.header("cache-control"), got.header("x-accel-buffering")),
        (Some("chunked"), Some("no-cache"), Some("no"))
    );
    assert_eq!((whole.usage(), whole.ctx.metering.booked, whole.ctx.reply.streamed), (used(3, 5), true, true));
    assert!(whole.ctx.timing.first.is_some());
}

#[tokio::test]
async fn what_only_the_gateway_asked_for_is_not_its_callers() {
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5}}\n\n";
    let (one, last) = (content("hello"), "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n");
    let whole = chat(events(&[&one, last, usage, DONE])).await;
    assert_eq!((whole.got().text(), whole.usage()), (format!("{one}{last}{DONE}"), used(3, 5)));
    let asks = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
    let asked = delivered(Setup::default(), Api::Chat, asks, events(&[&one, last, usage, DONE])).await;
    assert_eq!(asked.got().text(), format!("{one}{last}{usage}{DONE}"));
}

#[tokio::test]
async fn a_stream_that_fails_before_its_first_output_is_replaced() {
    let error = |code: &str| format!("data: {{\"error\":{{\"code\":\"{code}\",\"message\":\"no\"}}}}\n\n");
    for (events, expected) in [
        (closing(&[&error("rate_limit_exceeded")]), ReplaceReason::RateLimited),
        (closing(&[": ping\n\n", &error("server_error")]), ReplaceReason::Failed),
        (closing(&[&error("insufficient_quota")]), ReplaceReason::OutOfQuota),
        (closing(&[&error("DeploymentNotFound")]), ReplaceReason::NoDeployment),
        (closing(&[": ping\n\n"]), ReplaceReason::Broken(Broken::Upstream(ErrorKind::Reset))),
        (closing(&[]), ReplaceReason::Broken(Broken::Upstream(ErrorKind::Reset))),
    ] {
        let replaced = chat(events).await;
        assert_eq!(replaced.replaced(), expected);
        assert_eq!(
            (replaced.said.is_some(), replaced.state.last_refusal.is_some()),
            (expected == ReplaceReason::Failed, expected == ReplaceReason::NoDeployment)
        );
    }
    let callers = chat(closing(&[&error("content_filter")])).await;
    assert!(callers.got().text().contains("content_filter"), "it would be the same everywhere: {:?}", callers.delivery);
}

#[tokio::test]
async fn a_stream_that_ends_without_any_output_is_replaced() {
    let filters = "data: {\"choices\":[],\"prompt_filter_results\":[{\"prompt_index\":0}]}\n\n";
    let role = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n";
    let usage = |output| format!("data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":{output}}}}}\n\n");
    for came in [&[DONE][..], &[filters, DONE], &[filters, role, DONE], &[role, &usage(0), DONE]] {
        assert_eq!(chat(events(came)).await.replaced(), ReplaceReason::NoAnswer, "{came:?}");
    }
    let unended = raw("200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 12", "data: [DONE]");
    assert_eq!(chat(unended).await.replaced(), ReplaceReason::NoAnswer, "its last event has no end");
    // What may be an answer stays one.
    let finished = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    for came in [&[role, finished, DONE][..], &[role, &usage(5), DONE]] {
        assert_eq!(chat(events(came)).await.delivery, Delivery::Complete, "{came:?}");
    }
    let empty = "data: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"output\":[]}}\n\n";
    assert_eq!(delivered(Setup::default(), Api::Responses, STREAM, events(&[empty])).await.delivery, Delivery::Complete);
}

#[tokio::test]
async fn a_stream_without_output_in_time_is_replaced() {
    let setup = Setup { pool: "timeouts = { first_token = \"20s\" }", ..Setup::default() };
    let silent = delivered_after(setup, Api::Chat, STREAM, events(&[": ping\n\n"]), Duration::from_secs(21), |_, _| ()).await;
    assert_eq!(silent.replaced(), ReplaceReason::Broken(Broken::TimedOut));
}

#[tokio::test]
async fn a_stream_that_breaks_after_its_first_output_ends_with_an_error_and_without_an_end() {
    let one = content("hello");
    let cut = chat(closing(&[&one])).await;
    assert_eq!(cut.delivery, Delivery::Cut(ErrorKind::Reset));
    let got = cut.got();
    assert_eq!((got.status, got.ended), (200, Ended::Cut), "a part must not look like the whole");
    let rest = got.text().strip_prefix(&one).expect("what came").to_owned();
    assert!(rest.starts_with("data: {\"error\":") && rest.contains("upstream_error"), "{rest}");
    assert!(!cut.ctx.metering.booked && !cut.ctx.metering.output.is_empty());
    let idle = delivered(state("timeouts = { idle = \"50ms\" }"), Api::Chat, STREAM, events(&[&one])).await;
    assert_eq!((idle.delivery.clone(), idle.got().ended), (Delivery::Cut(ErrorKind::Idle), Ended::Cut));
}

#[tokio::test]
async fn a_stream_that_says_itself_that_it_failed_has_no_clean_end() {
    let (one, error) = (content("hello"), "data: {\"error\":{\"code\":\"server_error\",\"message\":\"on fire\"}}\n\n");
    let failed = chat(closing(&[&one, error])).await;
    assert_eq!((failed.delivery.clone(), failed.got().ended), (Delivery::Cut(ErrorKind::Reset), Ended::Cut));
    assert_eq!(failed.got().text(), format!("{one}{error}"), "its own words are enough");
}

#[tokio::test]
async fn a_stream_that_is_complete_may_end_without_saying_so() {
    let (one, last) = (content("hello"), stop());
    let whole = chat(closing(&[&one, &last])).await;
    assert_eq!((whole.delivery.clone(), whole.got().ended, whole.usage()), (Delivery::Complete, Ended::Whole, used(3, 5)));
    let silent = delivered(state("timeouts = { idle = \"50ms\" }"), Api::Chat, STREAM, events(&[&one, &last])).await;
    assert_eq!((silent.delivery.clone(), silent.got().ended, silent.usage()), (Delivery::Complete, Ended::Whole, used(3, 5)));
}

#[tokio::test]
async fn a_stream_that_may_be_continued_is_left_where_it_broke() {
    let rescue = Setup { pool: "streams = { rescue = \"verified\" }", ..Setup::default() };
    let one = content("hello");
    let broken = delivered(rescue, Api::Chat, STREAM, closing(&[&one])).await;
    assert_eq!((broken.delivery.clone(), broken.got().text()), (Delivery::Broken(ErrorKind::Reset), one));
    assert!(matches!(broken.ctx.unfinished.rescue, Some(crate::proxy::unfinished::Rescue::Due(_))));
}

#[tokio::test]
async fn an_answer_that_does_not_say_what_it_is_is_known_by_its_beginning() {
    let (one, last) = (content("hello"), stop());
    let body = format!("{one}{last}{DONE}");
    let sniffed = chat(raw("200 OK", &body)).await;
    assert_eq!((sniffed.delivery.clone(), sniffed.got().text(), sniffed.ctx.reply.streamed), (Delivery::Complete, body, true));
    let json = chat(raw("200 OK", "{\"error\":{\"code\":\"rate_limit_exceeded\"}}")).await;
    assert_eq!(json.replaced(), ReplaceReason::RateLimited);
    assert_eq!(chat(raw("200 OK", "da")).await.replaced(), ReplaceReason::NoAnswer, "it ends before it says what it is");
}

#[tokio::test]
async fn a_caller_that_leaves_ends_it_and_what_came_may_be_read_on() {
    for (usage, reads_on) in [("drain", true), ("cancel", false)] {
        let rest = format!("[usage]\non_disconnect = \"{usage}\"\n");
        let gateway = Setup { rest: &rest, ..Setup::default() }.gateway();
        Backend::in_place_of(&gateway, "a", [events(&[&content("hello")])]);
        let Asking { mut session, mut ctx, asked: request, mut state, mut caller } =
            asking(&gateway, facts(&gateway), Api::Chat, STREAM).await;
        let mut attempt = fixtures::attempt(&gateway, &ctx.facts, &mut ctx.attempts, &request, &mut state);
        let Ok(UpstreamReply::Deliver(mut exchange, prefix)) =
            send_and_judge(&mut session, &mut ctx.books(), &mut attempt, &mut state).await
        else {
            panic!("it answers")
        };
        let leaves = async {
            caller.head().await;
            drop(caller);
        };
        let delivering = deliver(&mut session, &mut ctx, &mut state, &mut attempt, &mut exchange, prefix);
        let (delivery, ()) = tokio::join!(delivering, leaves);
        assert_eq!((delivery, ctx.unfinished.reading.is_some()), (Delivery::CallerLeft, reads_on), "{usage}");
    }
}
