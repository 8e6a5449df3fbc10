//! One exchange with an upstream in memory.

use super::*;
use crate::downstream::Session;
use crate::gateway::Gateway;
use crate::proxy::fixtures::{Backend, CallerEnd, Setup, Step, chunked, gateway, plain, post, session};

const LIMIT: Duration = Duration::from_secs(30);

fn remote(gateway: &Gateway) -> Arc<Remote> {
    gateway.runtime.load().backends[0].upstream.as_ref().unwrap().peers.next_remote().unwrap()
}

/// A gateway on a clock that runs, whose backend does this; and a caller.
async fn beginning(steps: Vec<Step>) -> (Gateway, Backend, Session<'static>, CallerEnd) {
    let gateway = Setup { clock: Clock::new(), ..Setup::default() }.gateway();
    let backend = Backend::in_place_of(&gateway, "a", [steps]);
    let (session, caller) = session(post("/v1/chat/completions", &[], "")).await;
    (gateway, backend, session, caller)
}

/// An exchange whose request has been sent.
async fn sent(gateway: &Gateway, session: &mut Session<'_>, body: &str) -> Exchange {
    let caller = session;
    let mut exchange = Exchange::connect(remote(gateway), false, LIMIT, &gateway.clock, caller).await.expect("it is there");
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: a.test\r\ncontent-length: {}\r\n\r\n", body.len());
    exchange
        .send((head.into(), false), smallvec::smallvec![Bytes::copy_from_slice(body.as_bytes())], LIMIT, &gateway.clock, caller)
        .await
        .unwrap();
    exchange
}

async fn head_of(gateway: &Gateway, exchange: &mut Exchange, session: &mut Session<'_>, limit: Duration) -> Result<(), Broken> {
    let until = gateway.clock.now() + limit;
    exchange.read_head(until, &gateway.clock, &mut Timer::default(), session).await
}

async fn next(gateway: &Gateway, exchange: &mut Exchange, session: &mut Session<'_>, limit: Duration) -> Result<BodyEvent, Broken> {
    let until = gateway.clock.now() + limit;
    exchange.next(until, &gateway.clock, &mut Timer::default(), session).await
}

#[tokio::test]
async fn a_request_is_sent_whole_and_its_answer_is_read_to_its_end() {
    let (gateway, backend, mut session, _caller) = beginning(plain(200, "{\"a\":1}")).await;
    let mut exchange = sent(&gateway, &mut session, "hello").await;
    assert_eq!(head_of(&gateway, &mut exchange, &mut session, LIMIT).await, Ok(()));
    assert_eq!(
        (exchange.head().unwrap().status.as_u16(), exchange.content_length(), exchange.ends_with_connection()),
        (200, Some(7), false)
    );
    assert!(matches!(next(&gateway, &mut exchange, &mut session, LIMIT).await, Ok(BodyEvent::Data(bytes)) if &bytes[..] == b"{\"a\":1}"));
    assert!(matches!(next(&gateway, &mut exchange, &mut session, LIMIT).await, Ok(BodyEvent::End)));
    let asked = backend.asked();
    assert_eq!(
        (&asked[0].head.line[..2], &asked[0].body[..]),
        (&["POST".to_owned(), "/v1/chat/completions".to_owned()][..], &b"hello"[..])
    );
    exchange.release(&gateway.idle);
}

#[tokio::test]
async fn a_backend_that_is_not_there_is_no_connection() {
    let gateway = gateway("");
    Backend::in_place_of(&gateway, "a", []);
    let (mut session, _caller) = session(post("/v1/chat/completions", &[], "")).await;
    let connected = Exchange::connect(remote(&gateway), false, LIMIT, &gateway.clock, &mut session).await;
    assert_eq!(connected.err(), Some(Broken::Unreached(ErrorKind::Connect)));
}

fn heads(statuses: &[u16]) -> Vec<Step> {
    let head = |status: &u16| format!("HTTP/1.1 {status} X\r\n{}\r\n", if *status >= 200 { "content-length: 0\r\n" } else { "" });
    vec![Step::Send(statuses.iter().map(head).collect::<String>().into_bytes()), Step::Hold]
}

#[tokio::test]
async fn informational_heads_are_passed_over_but_for_an_upgrade() {
    let (gateway, _backend, mut session, _caller) = beginning(heads(&[100, 103, 204])).await;
    let mut exchange = sent(&gateway, &mut session, "x").await;
    assert_eq!(head_of(&gateway, &mut exchange, &mut session, LIMIT).await, Ok(()));
    assert_eq!(exchange.head().unwrap().status.as_u16(), 204);
    let (gateway, _backend, mut session, _caller) = beginning(heads(&[101])).await;
    let mut exchange = sent(&gateway, &mut session, "x").await;
    let upgraded = head_of(&gateway, &mut exchange, &mut session, LIMIT).await;
    assert_eq!(upgraded, Err(Broken::Upstream(ErrorKind::Reset)), "nobody asked for one");
}

#[tokio::test]
async fn an_upstream_may_be_silent_close_or_say_nonsense() {
    for (steps, limit, expected) in [
        (vec![Step::Hold], Duration::from_millis(50), Broken::TimedOut),
        (vec![], LIMIT, Broken::Upstream(ErrorKind::Reset)),
        (vec![Step::Send(b"nonsense\r\n\r\n".to_vec())], LIMIT, Broken::Upstream(ErrorKind::Reset)),
    ] {
        let (gateway, _backend, mut session, _caller) = beginning(steps).await;
        let mut exchange = sent(&gateway, &mut session, "x").await;
        assert_eq!(head_of(&gateway, &mut exchange, &mut session, limit).await, Err(expected));
    }
}

#[tokio::test]
async fn a_caller_that_leaves_ends_whatever_is_waited_for() {
    let (gateway, _backend, mut session, caller) = beginning(vec![Step::Hold]).await;
    let mut exchange = sent(&gateway, &mut session, "x").await;
    drop(caller);
    assert_eq!(head_of(&gateway, &mut exchange, &mut session, LIMIT).await, Err(Broken::CallerLeft));
    let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n".to_vec();
    let (gateway, _backend, mut session, caller) = beginning(vec![Step::Send(begun), Step::Hold]).await;
    let mut exchange = sent(&gateway, &mut session, "x").await;
    assert_eq!(head_of(&gateway, &mut exchange, &mut session, LIMIT).await, Ok(()));
    drop(caller);
    assert!(matches!(next(&gateway, &mut exchange, &mut session, LIMIT).await, Err(Broken::CallerLeft)));
}

#[tokio::test]
async fn a_body_may_be_quiet_for_a_while_go_on_and_break() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    let (gateway, _backend, mut session, _caller) = beginning(vec![Step::Send((head + &chunked("one")).into_bytes()), Step::Hold]).await;
    let mut exchange = sent(&gateway, &mut session, "x").await;
    head_of(&gateway, &mut exchange, &mut session, LIMIT).await.unwrap();
    assert!(matches!(next(&gateway, &mut exchange, &mut session, LIMIT).await, Ok(BodyEvent::Data(bytes)) if &bytes[..] == b"one"));
    for _ in 0..2 {
        assert!(matches!(next(&gateway, &mut exchange, &mut session, Duration::from_millis(20)).await, Ok(BodyEvent::Quiet)));
    }
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".to_vec();
    let (gateway, _backend, mut session, _caller) = beginning(vec![Step::Send(cut)]).await;
    let mut exchange = sent(&gateway, &mut session, "x").await;
    head_of(&gateway, &mut exchange, &mut session, LIMIT).await.unwrap();
    assert!(matches!(next(&gateway, &mut exchange, &mut session, LIMIT).await, Ok(BodyEvent::Data(_))));
    assert!(matches!(next(&gateway, &mut exchange, &mut session, LIMIT).await, Err(Broken::Upstream(ErrorKind::Reset))));
}

#[tokio::test]
async fn a_body_without_a_length_ends_with_its_connection() {
    let (gateway, _backend, mut session, _caller) = beginning(vec![Step::Send(b"HTTP/1.1 200 OK\r\n\r\nabc".to_vec())]).await;
    let mut exchange = sent(&gateway, &mut session, "x").await;
    head_of(&gateway, &mut exchange, &mut session, LIMIT).await.unwrap();
    assert!(exchange.ends_with_connection() && exchange.content_length().is_none());
}

#[tokio::test]
async fn the_rest_of_an_answer_is_read_without_its_caller_until_it_is_enough() {
    let begun = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned() + &chunked("abc");
    let whole = begun.clone() + "0\r\n\r\n";
    for (text, enough, expected) in [(&whole, false, true), (&begun, true, false), (&begun, false, false)] {
        let (gateway, _backend, mut session, caller) = beginning(vec![Step::Send(text.clone().into_bytes()), Step::Hold]).await;
        let mut exchange = sent(&gateway, &mut session, "x").await;
        head_of(&gateway, &mut exchange, &mut session, LIMIT).await.unwrap();
        drop(caller);
        let mut read = Vec::new();
        let rest = exchange.read_rest(Duration::from_millis(100), |bytes| {
            read.extend_from_slice(&bytes);
            enough
        });
        assert_eq!((rest.await, &read[..]), (expected, &b"abc"[..]), "{text:?} {enough}");
    }
}

#[tokio::test]
async fn a_pooled_connection_that_was_closed_before_it_answered_is_stale() {
    for (reused, expected) in [(true, Broken::Stale), (false, Broken::Upstream(ErrorKind::Reset))] {
        let (gateway, _backend, mut session, _caller) = beginning(vec![]).await;
        let mut exchange = sent(&gateway, &mut session, "x").await;
        exchange.reused = reused;
        assert_eq!(head_of(&gateway, &mut exchange, &mut session, LIMIT).await, Err(expected));
    }
    let (gateway, _backend, mut session, _caller) = beginning(vec![Step::Send(b"nonsense\r\n\r\n".to_vec())]).await;
    let mut exchange = sent(&gateway, &mut session, "x").await;
    exchange.reused = true;
    let answered = head_of(&gateway, &mut exchange, &mut session, LIMIT).await;
    assert_eq!(answered, Err(Broken::Upstream(ErrorKind::Reset)), "it has answered");
}

#[tokio::test]
async fn a_connection_is_kept_once_the_end_of_its_answer_has_come() {
    let begun = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned() + &chunked("abc");
    for at_once in [true, false] {
        let (come, until) = tokio::sync::oneshot::channel();
        let wait = Step::Wait(Arc::new(parking_lot::Mutex::new(Some(until))));
        let (gateway, _backend, mut session, _caller) =
            beginning(vec![Step::Send(begun.clone().into_bytes()), wait, Step::Send(b"0\r\n\r\n".to_vec()), Step::Hold]).await;
        let remote = remote(&gateway);
        let mut exchange = sent(&gateway, &mut session, "x").await;
        head_of(&gateway, &mut exchange, &mut session, LIMIT).await.unwrap();
        assert!(matches!(next(&gateway, &mut exchange, &mut session, LIMIT).await, Ok(BodyEvent::Data(_))));
        if at_once {
            exchange.release(&gateway.idle);
            assert!(remote.idle().is_none(), "its end has not come");
            continue;
        }
        exchange.release_soon(&gateway.idle);
        assert!(remote.idle().is_none());
        come.send(()).unwrap();
        let kept = async {
            while remote.idle().is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, kept).await.unwrap();
    }
}

#[tokio::test]
async fn success_before_the_request_was_sent_is_the_answer_to_another_one() {
    for (reused, answer, expected) in [
        (true, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Err(Broken::Stale)),
        (true, "HTTP/1.1 429 X\r\ncontent-length: 0\r\n\r\n", Ok(())),
        (false, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Ok(())),
    ] {
        let (gateway, _backend, mut session, _caller) = beginning(vec![]).await;
        let (mut theirs, ours) = tokio::io::duplex(1 << 10);
        let connection = Connection::new(remote(&gateway), crate::http1::transport::Transport::Memory(Box::new(ours)));
        let mut exchange = Exchange::on(connection, reused);
        tokio::io::AsyncWriteExt::write_all(&mut theirs, answer.as_bytes()).await.unwrap();
        let body = smallvec::smallvec![Bytes::from(vec![b'x'; 1 << 20])];
        exchange.send(("POST / HTTP/1.1\r\n\r\n".into(), false), body, LIMIT, &gateway.clock, &mut session).await.unwrap();
        assert_eq!(head_of(&gateway, &mut exchange, &mut session, LIMIT).await, expected, "{reused} {answer}");
    }
}

#[tokio::test]
async fn a_long_request_is_answered_before_it_was_sent() {
    let (gateway, _backend, mut session, _caller) = beginning(vec![]).await;
    // This backend reads nothing.
    let (theirs, ours) = tokio::io::duplex(1 << 10);
    let mut theirs = spillway_testkit::wire::Reader::new(theirs);
    let connection = Connection::new(remote(&gateway), crate::http1::transport::Transport::Memory(Box::new(ours)));
    let mut exchange = Exchange::on(connection, true);
    tokio::io::AsyncWriteExt::write_all(theirs.get_mut(), b"HTTP/1.1 413 X\r\ncontent-length: 4\r\n\r\nlong").await.unwrap();
    let caller = &mut session;
    let body = smallvec::smallvec![Bytes::from(vec![b'x'; 1 << 20])];
    exchange.send(("POST / HTTP/1.1\r\n\r\n".into(), false), body, LIMIT, &gateway.clock, caller).await.unwrap();
    head_of(&gateway, &mut exchange, &mut session, LIMIT).await.unwrap();
    assert_eq!(
        (exchange.status(), exchange.fields().unwrap().get("content-length")),
        (Some(StatusCode::PAYLOAD_TOO_LARGE), Some(&b"4"[..]))
    );
    assert!(matches!(next(&gateway, &mut exchange, &mut session, LIMIT).await, Ok(BodyEvent::Data(bytes)) if &bytes[..] == b"long"));
    let remote = remote(&gateway);
    exchange.release(&gateway.idle);
    assert!(remote.idle().is_none(), "its request was not sent whole");
}
