use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::downstream::{Next, socket::Socket};

#[test]
fn the_size_of_a_chunk_is_hexadecimal() {
    for size in [1, 9, 10, 15, 16, 255, 256, 4095, 4096, 65_535, usize::MAX] {
        let (line, begin) = size_line(size);
        assert_eq!(line[begin..], *format!("{size:x}\r\n").as_bytes());
    }
}

proptest! {
    /// However the parts are cut by writes, the bytes are the same.
    #[test]
    fn parts_are_written_once(line in "[0-9]{0,20}", fields in "[a-z]{0,20}", size in "[0-9]{0,3}", body in "[A-Z]{0,20}", cuts in proptest::collection::vec(0usize..50, 0..5)) {
        let [line, fields, size, body] = [&line, &fields, &size, &body].map(|part| part.as_bytes());
        let parts = Parts { line, fields, size, body, after: AFTER_LAST };
        let whole = [line, fields, size, body, AFTER_LAST].concat();
        for cut in cuts.into_iter().map(|cut| cut.min(whole.len())) {
            let rest: Vec<u8> = parts.from(cut).iter().flat_map(|slice| slice.to_vec()).collect();
            prop_assert_eq!(&rest[..], &whole[cut..]);
        }
    }
}

/// A session of which a request was read, and the other end.
async fn asked(request: &str) -> (Http1Session, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (ours, _) = listener.accept().await.unwrap();
    theirs.write_all(request.as_bytes()).await.unwrap();
    let mut session = Http1Session::new(Socket::Plain(ours), None);
    assert_eq!(poll_fn(|cx| session.poll_next(cx, || usize::MAX)).await, Next::Request);
    (session, theirs)
}

const ASKS: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

fn head(fields: &[(&str, &str)]) -> Option<ReplyHead> {
    let mut head = ReplyHead::new(StatusCode::OK);
    head.sent_at = Some(784_111_777);
    fields.iter().for_each(|(name, value)| head.add_parsed(name, value.as_bytes()));
    Some(head)
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn written(session: Http1Session, mut theirs: TcpStream) -> String {
    drop(session);
    let mut bytes = Vec::new();
    theirs.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn an_answer_of_known_length_ends_with_it() {
    let (mut session, theirs) = asked(ASKS).await;
    assert_eq!(session.read_body().await.unwrap().as_deref(), Some(&b"{}"[..]));
    session.write(head(&[("content-length", "4"), ("date", "theirs"), ("connection", "x")]), bytes("ab"), false).await.unwrap();
    assert!(!session.stays());
    session.write(None, bytes("cd"), false).await.unwrap();
    session.write(None, Bytes::new(), true).await.unwrap();
    assert!(session.stays());
    let text = written(session, theirs).await;
    assert!(
        text == "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nconnection: keep-alive\r\n\r\nabcd",
        "{text}"
    );
}

#[tokio::test]
async fn a_stream_is_written_in_chunks() {
    let (mut session, theirs) = asked(ASKS).await;
    session.read_body().await.unwrap();
    session.write(head(&[("transfer-encoding", "chunked")]), bytes("hello"), false).await.unwrap();
    session.write(None, Bytes::new(), false).await.unwrap();
    session.write(None, bytes("0123456789abcdef"), true).await.unwrap();
    assert!(session.stays());
    let text = written(session, theirs).await;
    assert!(text.ends_with("\r\n\r\n5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n"), "{text}");
}

#[tokio::test]
async fn a_body_that_was_not_read_ends_the_connection() {
    let (mut session, theirs) = asked(ASKS).await;
    session.write(head(&[("content-length", "0")]), Bytes::new(), true).await.unwrap();
    assert!(!session.stays());
    assert!(written(session, theirs).await.contains("connection: close\r\n"));
}

#[tokio::test]
async fn requests_may_follow_each_other_and_line_ends_between_them_count_for_nothing() {
    let (mut session, _theirs) = asked(&format!("{ASKS}\r\n{ASKS}")).await;
    for _ in 0..2 {
        assert_eq!(session.read_body().await.unwrap().as_deref(), Some(&b"{}"[..]));
        session.write(head(&[("content-length", "0")]), Bytes::new(), true).await.unwrap();
        assert!(session.stays());
        if session.has_begun() {
            assert_eq!(poll_fn(|cx| session.poll_next(cx, || usize::MAX)).await, Next::Request);
        }
    }
    assert!(!session.has_begun());
}

#[tokio::test]
async fn a_caller_that_leaves_is_noticed_and_what_it_sends_ahead_is_kept() {
    let (mut session, mut theirs) = asked(ASKS).await;
    session.read_body().await.unwrap();
    theirs.write_all(ASKS.as_bytes()).await.unwrap();
    drop(theirs);
    poll_fn(|cx| session.poll_left(cx)).await;
    assert!(session.has_begun() && !session.stays());
}

#[tokio::test]
async fn a_body_is_collected_in_one_piece() {
    let text = "x".repeat(300_000);
    let request = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", text.len());
    let (mut session, mut theirs) = asked(&request).await;
    let sends = tokio::spawn(async move {
        theirs.write_all(text.as_bytes()).await.unwrap();
        (theirs, text)
    });
    while session.gather().await.unwrap() < session.body_left() {}
    let (_theirs, text) = sends.await.unwrap();
    assert_eq!(session.take_body(), text.as_bytes());
    assert_eq!(session.body_left(), 0);
}
