//! Which idle connections are used again, and which go.

use std::task::{Context, Waker};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;

fn stack() -> Arc<Stack> {
    Arc::default()
}

/// Puts a connection into a stack, and returns its other end.
fn put(all: &IdleConnections, stack: &Arc<Stack>) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(64);
    all.put(stack, Transport::Memory(Box::new(ours)));
    theirs
}

/// Whether a connection is still open, seen from its other end.
fn is_open(theirs: &mut DuplexStream) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    std::pin::pin!(theirs.read_u8()).poll(&mut cx).is_pending()
}

/// Whether this is the connection with that other end.
async fn is_of(transport: &mut Transport, theirs: &mut DuplexStream) -> bool {
    theirs.write_all(b"x").await.unwrap();
    !transport.is_quiet()
}

#[tokio::test]
async fn the_one_that_was_used_last_is_used_next() {
    let (all, stack, other) = (IdleConnections::new(10), stack(), stack());
    let mut ends = [put(&all, &stack), put(&all, &stack)];
    assert!(other.take().is_none(), "of another address");
    for end in ends.iter_mut().rev() {
        assert!(is_of(&mut stack.take().unwrap(), end).await);
    }
    assert!(stack.take().is_none());
    assert_eq!(all.count.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn one_that_was_closed_or_speaks_is_passed_over() {
    let (all, stack) = (IdleConnections::new(10), stack());
    let mut open = put(&all, &stack);
    let mut speaks = put(&all, &stack);
    drop(put(&all, &stack));
    speaks.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
    assert!(is_of(&mut stack.take().unwrap(), &mut open).await);
    assert!(stack.take().is_none());
}

#[tokio::test]
async fn an_address_that_sends_an_answer_too_many_is_not_trusted_for_a_while() {
    let strays = IntCounter::new("strays", "strays").unwrap();
    for notice in [|_: &IdleConnections, stack: &Stack| assert!(stack.take().is_none()), |all: &IdleConnections, _: &Stack| all.sweep()] {
        let (all, stack, other) = (IdleConnections::new(10).counting(strays.clone()), stack(), stack());
        let (mut quiet, mut elsewhere) = (put(&all, &stack), put(&all, &other));
        let mut stray = put(&all, &stack);
        stray.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        let before = strays.get();
        notice(&all, &stack);
        assert!(!is_open(&mut quiet) && is_open(&mut elsewhere), "the others of that address are closed, too");
        for _ in 0..DISTRUSTED {
            assert!(!is_open(&mut put(&all, &stack)));
            all.sweep();
        }
        assert_eq!(strays.get(), before + 1, "it is told once");
        assert!(is_open(&mut put(&all, &stack)), "and then forgotten");
    }
}

#[test]
fn only_an_answer_is_taken_for_one() {
    for (bytes, news) in [
        (&b"HTTP/1.1 200 OK\r\n"[..], News::Stray),
        (b"HT", News::Stray),
        (b"HTTP/1.1 408 Request Timeout", News::Ended),
        (b"\r\n", News::Ended),
        (b"{\"error\":1}", News::Ended),
        (b"", News::Ended),
    ] {
        assert_eq!(News::of(bytes), news, "{bytes:?}");
    }
}

#[tokio::test]
async fn all_together_are_bounded() {
    let (all, first, second) = (IdleConnections::new(3), stack(), stack());
    let mut ends: Vec<_> = (0..4).map(|_| put(&all, &first)).collect();
    assert_eq!(ends.iter_mut().map(is_open).collect::<Vec<_>>(), [false, true, true, true], "the oldest of its address goes");
    ends.push(put(&all, &second));
    assert_eq!(ends.iter_mut().map(is_open).collect::<Vec<_>>(), [false, false, true, true, true], "one of another goes if it has none");
    assert_eq!((first.len(), second.len(), all.count.load(Ordering::Relaxed)), (2, 1, 3));
    drop(first);
    assert_eq!(all.count.load(Ordering::Relaxed), 1, "an address takes its connections with it");
    let none = IdleConnections::new(0);
    assert!(!is_open(&mut put(&none, &second)));
}

#[tokio::test]
async fn the_sweep_drops_closed_ones_at_once_and_others_after_a_while() {
    let (all, stack) = (IdleConnections::new(10), stack());
    let mut old = put(&all, &stack);
    drop(put(&all, &stack));
    all.sweep();
    assert_eq!((stack.len(), is_open(&mut old)), (1, true));
    let mut later = put(&all, &stack);
    for _ in 2..SWEEPS {
        all.sweep();
    }
    assert!(is_open(&mut old));
    all.sweep();
    assert_eq!((is_open(&mut old), is_open(&mut later)), (false, true));
    // One that is used stays.
    all.put(&stack, stack.take().unwrap());
    all.sweep();
    assert!(is_open(&mut later));
    drop(stack);
    assert!(all.live().is_empty());
}

#[tokio::test]
async fn a_gateway_that_stops_keeps_none() {
    let (all, stack) = (IdleConnections::new(10), stack());
    let mut before = put(&all, &stack);
    all.close();
    let mut after = put(&all, &stack);
    assert!(!is_open(&mut before) && !is_open(&mut after));
    assert!(stack.take().is_none());
}
