//! Exchanges over pipes in memory.

use std::future::poll_fn;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;

/// A connection whose pipe takes so many bytes, and its other end.
fn connection(room: usize) -> (Connection, DuplexStream, Arc<Remote>) {
    let (ours, theirs) = tokio::io::duplex(room);
    let remote = Arc::new(Remote::new(SocketAddr::from(([127, 0, 0, 1], 1)), None));
    (Connection::new(Arc::clone(&remote), Transport::Memory(Box::new(ours))), theirs, remote)
}

async fn send(connection: &mut Connection) -> Result<(), ExchangeError> {
    poll_fn(|cx| connection.poll_send(cx)).await
}

async fn head(connection: &mut Connection) -> Result<u16, ExchangeError> {
    poll_fn(|cx| connection.poll_head(cx)).await?;
    Ok(connection.answer().head().unwrap().status.as_u16())
}

async fn body(connection: &mut Connection) -> Result<Vec<u8>, ExchangeError> {
    let mut body = Vec::new();
    while let Some(bytes) = poll_fn(|cx| connection.poll_body(cx)).await? {
        body.extend_from_slice(&bytes);
    }
    Ok(body)
}

async fn read(theirs: &mut DuplexStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    theirs.read_exact(&mut bytes).await.unwrap();
    bytes
}

const REQUEST: &[u8] = b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n";

fn request() -> [Bytes; 2] {
    [Bytes::from_static(REQUEST), Bytes::from_static(b"hi")]
}

#[tokio::test]
async fn one_request_follows_another_on_a_connection() {
    let all = IdleConnections::new(1);
    let (mut connection, mut theirs, remote) = connection(1 << 16);
    for round in 0..3 {
        connection.begin(request(), false);
        send(&mut connection).await.unwrap();
        assert_eq!(read(&mut theirs, REQUEST.len() + 2).await, [REQUEST, b"hi"].concat());
        theirs.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc").await.unwrap();
        assert_eq!(head(&mut connection).await.unwrap(), 200);
        assert_eq!(body(&mut connection).await.unwrap(), b"abc");
        connection.release(&all);
        let idle = remote.idle().unwrap_or_else(|| panic!("{round}"));
        connection = Connection::new(Arc::clone(&remote), idle);
    }
}

#[tokio::test]
async fn a_connection_is_closed_unless_all_of_it_is_understood() {
    for (answer, kept) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", true),
        ("HTTP/1.1 204 No Content\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", false),
        ("HTTP/1.1 204 No Content\r\n\r\nabc", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc", false),
        ("HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nabc", false),
    ] {
        let all = IdleConnections::new(1);
        let (mut connection, mut theirs, remote) = connection(1 << 16);
        connection.begin(request(), false);
        send(&mut connection).await.unwrap();
        theirs.write_all(answer.as_bytes()).await.unwrap();
        head(&mut connection).await.unwrap();
        body(&mut connection).await.unwrap();
        connection.release(&all);
        assert_eq!(remote.idle().is_some(), kept, "{answer:?}");
        // Another answer behind it says that the next one can't be trusted, either.
        let (again, _theirs) = tokio::io::duplex(64);
        remote.keep(Transport::Memory(Box::new(again)), &all);
        assert_eq!(remote.idle().is_none(), answer.contains("abcHTTP/1.1"), "{answer:?}");
    }
    // Not read to its end.
    let all = IdleConnections::new(1);
    let (mut connection, mut theirs, remote) = connection(1 << 16);
    connection.begin(request(), false);
    send(&mut connection).await.unwrap();
    theirs.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc").await.unwrap();
    head(&mut connection).await.unwrap();
    connection.release(&all);
    assert!(remote.idle().is_none());
}

#[tokio::test]
async fn an_answer_may_come_while_the_request_is_sent() {
    let (mut connection, mut theirs, remote) = connection(1024);
    let long = Bytes::from(vec![b'x'; 100_000]);
    connection.begin([Bytes::from_static(REQUEST), long], false);
    theirs.write_all(b"HTTP/1.1 429 Too Many\r\ncontent-length: 4\r\n\r\n").await.unwrap();
    send(&mut connection).await.unwrap();
    assert_eq!(head(&mut connection).await.unwrap(), 429);
    theirs.write_all(b"wait").await.unwrap();
    assert_eq!(body(&mut connection).await.unwrap(), b"wait");
    assert!(!connection.may_be_kept(), "the backend still waits for the rest of the request");
    connection.release(&IdleConnections::new(1));
    assert!(remote.idle().is_none());
}

#[tokio::test]
async fn neither_side_waits_for_the_other_if_both_have_much_to_say() {
    let (mut connection, mut theirs, remote) = connection(1024);
    let long = Bytes::from(vec![b'x'; 200_000]);
    connection.begin([Bytes::from_static(REQUEST), long], false);
    let backend = tokio::spawn(async move {
        theirs.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await.unwrap();
        // It reads nothing before all of its answer is written.
        theirs.write_all(&vec![b'y'; 100_000]).await.unwrap();
        let received = read(&mut theirs, REQUEST.len() + 200_000).await.len();
        (theirs, received)
    });
    send(&mut connection).await.unwrap();
    assert_eq!(head(&mut connection).await.unwrap(), 200);
    let mut length = 0;
    while let Some(bytes) = poll_fn(|cx| connection.poll_body(cx)).await.unwrap() {
        length += bytes.len();
    }
    assert_eq!((length, connection.may_be_kept()), (100_000, false));
    drop((connection, remote));
    let _ = backend.await;
}

#[tokio::test]
async fn a_backend_that_reads_on_after_it_answered_gets_all() {
    let (mut connection, mut theirs, _remote) = connection(1024);
    connection.begin([Bytes::from_static(REQUEST), Bytes::from(vec![b'x'; 50_000])], false);
    let backend = tokio::spawn(async move {
        theirs.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").await.unwrap();
        assert_eq!(read(&mut theirs, REQUEST.len() + 50_000).await.len(), REQUEST.len() + 50_000);
        theirs.write_all(b"ok").await.unwrap();
        theirs
    });
    send(&mut connection).await.unwrap();
    assert_eq!(head(&mut connection).await.unwrap(), 200);
    assert_eq!(body(&mut connection).await.unwrap(), b"ok");
    assert!(connection.may_be_kept(), "all of it was sent");
    drop(backend.await.unwrap());
}

#[tokio::test]
async fn a_backend_may_answer_and_close_before_it_has_read_everything() {
    let (mut connection, mut theirs, _remote) = connection(1024);
    connection.begin([Bytes::from_static(REQUEST), Bytes::from(vec![b'x'; 50_000])], false);
    theirs.write_all(b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
    drop(theirs);
    send(&mut connection).await.unwrap();
    assert_eq!(head(&mut connection).await.unwrap(), 413);
    assert_eq!(body(&mut connection).await.unwrap(), b"no");
}

#[tokio::test]
async fn no_answer_is_another_thing_than_half_of_one() {
    for (answer, none) in [("", true), ("HTTP/1.1 2", false), ("HTTP/1.1 100 Continue\r\n\r\n", false), ("nonsense", false)] {
        let (mut connection, mut theirs, _remote) = connection(1024);
        connection.begin(request(), false);
        send(&mut connection).await.unwrap();
        theirs.write_all(answer.as_bytes()).await.unwrap();
        drop(theirs);
        let error = head(&mut connection).await.unwrap_err();
        assert_eq!(matches!(error, ExchangeError::NoAnswer), none, "{answer:?}: {error}");
    }
    // The connection takes nothing, because it is closed.
    let (mut connection, theirs, _remote) = connection(1024);
    drop(theirs);
    connection.begin(request(), false);
    send(&mut connection).await.unwrap();
    assert!(matches!(head(&mut connection).await, Err(ExchangeError::NoAnswer)));
}

#[tokio::test]
async fn a_quiet_stream_keeps_no_buffer() {
    let (mut connection, mut theirs, _remote) = connection(1 << 16);
    connection.begin(request(), false);
    send(&mut connection).await.unwrap();
    theirs.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").await.unwrap();
    head(&mut connection).await.unwrap();
    assert_eq!(poll_fn(|cx| connection.poll_body(cx)).await.unwrap().unwrap(), "abc");
    assert!(poll_fn(|cx| Poll::Ready(connection.poll_body(cx).is_pending())).await);
    assert_eq!(connection.buffer.capacity(), 0);
}

#[tokio::test]
async fn reads_grow_with_a_long_answer() {
    let (mut connection, mut theirs, _remote) = connection(1 << 20);
    connection.begin(request(), false);
    send(&mut connection).await.unwrap();
    let long = vec![b'x'; 500_000];
    theirs.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    theirs.write_all(&long).await.unwrap();
    drop(theirs);
    head(&mut connection).await.unwrap();
    assert_eq!(body(&mut connection).await.unwrap(), long);
    assert_eq!(connection.room, ROOM.1);
}

/// The pieces of a chunked body that comes in one read, and whether it ended well.
async fn pieces(chunks: &str, joins: bool) -> (Vec<usize>, bool) {
    let (mut connection, mut theirs, _) = connection(1 << 16);
    connection.begin(request(), false);
    send(&mut connection).await.unwrap();
    let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
    theirs.write_all(answer.as_bytes()).await.unwrap();
    head(&mut connection).await.unwrap();
    if joins {
        connection.join_short_pieces();
    }
    let mut pieces = Vec::new();
    loop {
        match poll_fn(|cx| connection.poll_body(cx)).await {
            Ok(Some(bytes)) => pieces.push(bytes.len()),
            Ok(None) => return (pieces, true),
            Err(_) => return (pieces, false),
        }
    }
}

#[tokio::test]
async fn short_pieces_that_come_together_are_joined_if_that_is_wanted() {
    let short = "3\r\nabc\r\n4\r\ndefg\r\n";
    let long = format!("1388\r\n{}\r\n", "x".repeat(5000));
    assert_eq!(pieces(&format!("{short}0\r\n\r\n"), false).await, (vec![3, 4], true));
    assert_eq!(pieces(&format!("{short}0\r\n\r\n"), true).await, (vec![7], true));
    assert_eq!(pieces(&format!("{long}{short}0\r\n\r\n"), true).await, (vec![5000, 7], true), "a long one stays as it is");
    assert_eq!(pieces(&format!("{short}nothing"), true).await, (vec![7], false), "what is right comes before what is wrong");
}
