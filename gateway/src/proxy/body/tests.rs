//! A body within its bounds.

use super::*;
use crate::proxy::fixtures::{CallerEnd, Setup, post, session};

#[test]
fn a_body_may_start_slowly_but_not_stay_slow() {
    let seconds = Duration::from_secs;
    assert!(!too_slow(0, seconds(5), 1024), "the grace");
    assert!(!too_slow(1_100, seconds(6), 1024));
    assert!(too_slow(1_000, seconds(6), 1024));
    assert!(too_slow(50_000, seconds(60), 1024));
    assert!(!too_slow(60_000, seconds(60), 1024));
}

#[tokio::test]
async fn an_expectation_that_is_known_is_met_before_the_body_is_read() {
    let (mut one, mut caller) = session(post("/v1/chat/completions", &[("expect", "100-Continue")], "{}")).await;
    assert!(expectation(&mut one).await.is_ok());
    assert_eq!(caller.answer().await.status, 100);
    let (mut none, caller) = session(post("/v1/chat/completions", &[], "{}")).await;
    assert!(expectation(&mut none).await.is_ok());
    drop(none);
    assert_eq!(caller.bytes().await, b"");
    let (mut other, caller) = session(post("/v1/chat/completions", &[("expect", "200-ok")], "{}")).await;
    assert!(matches!(expectation(&mut other).await, Err(IntakeError::Refuse(Refusal::Expectation))));
    drop(other);
    assert_eq!(caller.bytes().await, b"");
}

/// What came of reading a body, in bytes: as is kept, as is counted, and whether it is whole.
type Read = Result<(String, usize, bool), Option<Refusal>>;

async fn read(gateway: &Gateway, request: &str, bounded: bool, enough: impl FnMut(&[u8]) -> bool) -> Read {
    let (mut session, _caller) = session(request).await;
    read_from(gateway, &mut session, bounded, enough).await
}

async fn read_from(gateway: &Gateway, session: &mut Session<'_>, bounded: bool, enough: impl FnMut(&[u8]) -> bool) -> Read {
    let (mut body, mut timing, mut buffer) = (RequestBody::default(), Timing::default(), BodyBuffer::new(&gateway.buffered));
    let runtime = gateway.runtime.load();
    let into = BodySink { body: &mut body, timing: &mut timing, buffer: &mut buffer };
    let whole = read_body(gateway, session, &runtime.config.server, into, bounded, enough).await;
    match whole {
        Ok(whole) => Ok((String::from_utf8(buffer.as_slice().to_vec()).unwrap(), body.bytes, whole)),
        Err(IntakeError::Refuse(refusal)) => Err(Some(refusal)),
        Err(IntakeError::CallerLeft) => Err(None),
    }
}

fn chunked(chunks: &str) -> String {
    format!("POST /v1/files HTTP/1.1\r\nhost: gateway\r\ntransfer-encoding: chunked\r\n\r\n{chunks}")
}

#[tokio::test]
async fn a_body_is_read_to_its_end() {
    let gateway = Setup::default().gateway();
    for request in [post("/v1/files", &[], "12345"), chunked("2\r\n12\r\n3\r\n345\r\n0\r\n\r\n")] {
        assert_eq!(read(&gateway, &request, true, |_| false).await, Ok(("12345".to_owned(), 5, true)));
    }
    assert_eq!(read(&gateway, &chunked("0\r\n\r\n"), true, |_| false).await, Ok((String::new(), 0, true)));
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_before_and_while_it_is_read() {
    let gateway = Setup { server: "max_body = \"1KiB\"", ..Setup::default() }.gateway();
    let too_large = Err(Some(Refusal::TooLarge { limit: 1024 }));
    let fits = "x".repeat(1024);
    assert!(read(&gateway, &post("/v1/files", &[], &fits), true, |_| false).await.is_ok());
    let announced = "POST /v1/files HTTP/1.1\r\nhost: gateway\r\ncontent-length: 1025\r\n\r\n";
    assert_eq!(read(&gateway, announced, true, |_| false).await, too_large);
    assert_eq!(read(&gateway, &chunked(&format!("401\r\n{fits}x\r\n0\r\n\r\n")), true, |_| false).await, too_large);
    // One that may be longer is refused once so much of it brings no decision.
    let long = post("/v1/files", &[], &"x".repeat(3000));
    assert_eq!(read(&gateway, &long, false, |_| false).await, too_large);
}

#[tokio::test]
async fn of_a_body_that_may_be_longer_only_enough_is_read() {
    let gateway = Setup::default().gateway();
    let (mut session, mut caller) = session("POST /v1/files HTTP/1.1\r\nhost: gateway\r\ncontent-length: 10\r\n\r\nabc").await;
    assert_eq!(read_from(&gateway, &mut session, false, |piece| piece == b"abc").await, Ok(("abc".to_owned(), 3, false)));
    caller.send("defghij").await;
    assert_eq!(read_from(&gateway, &mut session, false, |_| false).await, Ok(("defghij".to_owned(), 7, true)), "the rest is still there");
}

#[tokio::test]
async fn a_body_without_room_is_refused_and_takes_none() {
    let gateway = Setup { server: "max_body = \"1KiB\"\nmax_buffered = \"1KiB\"", ..Setup::default() }.gateway();
    let mut held = BodyBuffer::new(&gateway.buffered);
    assert!(held.push(vec![0; 1000].into(), None));
    let request = post("/v1/files", &[], &"x".repeat(100));
    assert_eq!(read(&gateway, &request, true, |_| false).await, Err(Some(Refusal::Overloaded { what: "request bodies" })));
    drop(held);
    assert!(read(&gateway, &request, true, |_| false).await.is_ok());
    assert_eq!(gateway.metrics.requests.buffered.get(), 0);
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_or_not_at_all_is_refused() {
    let gateway = Setup { server: "body_timeout = \"50ms\"", ..Setup::default() }.gateway();
    let begun = "POST /v1/files HTTP/1.1\r\nhost: gateway\r\ncontent-length: 10\r\n\r\nabc";
    assert_eq!(read(&gateway, begun, true, |_| false).await, Err(Some(Refusal::BodyTimeout)), "the rest never comes");
    // A minute passes until its first piece is there.
    let pass = |_: &[u8]| {
        gateway.clock.pass(Duration::from_secs(60));
        false
    };
    let two = chunked("1\r\nx\r\n1\r\ny\r\n0\r\n\r\n");
    assert!(read(&gateway, &two, true, |_| false).await.is_ok());
    assert_eq!(read(&gateway, &two, true, pass).await, Err(Some(Refusal::BodyTimeout)));
}

#[tokio::test]
async fn broken_chunks_are_refused_and_a_caller_that_is_gone_is_not_answered() {
    let gateway = Setup::default().gateway();
    assert_eq!(read(&gateway, &chunked("zz\r\nab\r\n"), true, |_| false).await, Err(Some(BROKEN_FRAMING)));
    let (mut session, caller): (_, CallerEnd) = session(chunked("5\r\nab")).await;
    drop(caller);
    let left = read_from(&gateway, &mut session, true, |_| false).await;
    assert!(matches!(left, Err(None) | Err(Some(BROKEN_FRAMING))), "{left:?}");
}

#[tokio::test]
async fn the_time_in_which_a_body_comes_is_the_callers() {
    let gateway = Setup::default().gateway();
    let (mut session, _caller) = session(chunked("1\r\nx\r\n1\r\ny\r\n0\r\n\r\n")).await;
    let (mut body, mut timing, mut buffer) = (RequestBody::default(), Timing::default(), BodyBuffer::new(&gateway.buffered));
    let runtime = gateway.runtime.load();
    let into = BodySink { body: &mut body, timing: &mut timing, buffer: &mut buffer };
    let enough = |_: &[u8]| {
        gateway.clock.pass(Duration::from_millis(20));
        false
    };
    assert!(read_body(&gateway, &mut session, &runtime.config.server, into, true, enough).await.is_ok());
    assert!(timing.waited >= Duration::from_millis(20), "{timing:?}");
}

#[tokio::test]
async fn a_whole_body_goes_to_the_attempts_and_another_to_the_tunnel() {
    let gateway = Setup::default().gateway();
    let came = || crate::proxy::fixtures::buffer(&gateway, "abc");
    let (mut body, mut tunnel) = (RequestBody::default(), None);
    assert_eq!(hand_on(&mut body, &mut tunnel, came(), true, None), IntakeOutcome::Attempt);
    assert_eq!(body.kept.as_ref().map(|body| &body.bytes()[..]), Some(&b"abc"[..]));
    assert!(tunnel.is_none());
    drop(body);
    let (mut body, mut tunnel) = (RequestBody::default(), None);
    assert_eq!(hand_on(&mut body, &mut tunnel, came(), false, None), IntakeOutcome::Tunnel);
    assert!(body.kept.is_none());
    assert_eq!(gateway.metrics.requests.buffered.get(), 3, "what came waits in the tunnel");
    drop(tunnel);
    assert_eq!(gateway.metrics.requests.buffered.get(), 0);
}
