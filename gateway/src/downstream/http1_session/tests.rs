use http::header;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A request with this body.
fn request(key: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /x HTTP/1.1\r\nhost: a\r\nauthorization: {key}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// A connection, and the caller's end of it.
async fn connection() -> (Http1Session, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (ours, _) = listener.accept().await.unwrap();
    (Http1Session::new(Socket::Plain(ours), None), theirs)
}

async fn next(session: &mut Http1Session) -> Next {
    poll_fn(|cx| session.poll_next(cx, || 10_000)).await
}

async fn body(session: &mut Http1Session) -> Vec<u8> {
    while session.gather().await.unwrap() < session.body_left() {}
    session.take_body().to_vec()
}

#[tokio::test]
async fn requests_with_the_same_head_are_read_one_after_the_other() {
    let (mut session, mut caller) = connection().await;
    let requests = [("k", "{}"), ("k", "[1, 2, 3]"), ("other", "{}"), ("other", ""), ("k", "{}")];
    // All at once, so that each begins where the one before ends.
    let all: String = requests.iter().map(|(key, body)| request(key, body)).collect();
    caller.write_all(all.as_bytes()).await.unwrap();
    for (number, (key, text)) in requests.iter().enumerate() {
        assert_eq!(next(&mut session).await, Next::Request, "{number}");
        assert_eq!(session.head().headers[header::AUTHORIZATION], *key, "{number}");
        assert_eq!(session.head().headers[header::CONTENT_LENGTH], text.len().to_string().as_str(), "{number}");
        assert_eq!(session.rare_field(&header::HOST).unwrap(), "a");
        assert_eq!(session.rare_field(&header::ORIGIN), None);
        assert_eq!(body(&mut session).await, text.as_bytes(), "{number}");
        assert!(session.heads.knows());
    }
}

#[tokio::test]
async fn a_head_that_a_stage_has_changed_is_not_the_next_ones() {
    let (mut session, mut caller) = connection().await;
    for _ in 0..2 {
        caller.write_all(request("k", "{}").as_bytes()).await.unwrap();
        assert_eq!(next(&mut session).await, Next::Request);
        assert_eq!(session.head().headers[header::AUTHORIZATION], "k");
        assert_eq!(session.rare_field(&header::ORIGIN), None);
        assert_eq!(body(&mut session).await, b"{}");
        let _ = session.head_mut().insert_header(header::AUTHORIZATION, "changed");
        let _ = session.head_mut().insert_header(header::ORIGIN, "added");
        assert_eq!(session.rare_field(&header::ORIGIN).unwrap(), "added");
    }
}

#[tokio::test]
async fn a_longer_body_than_allowed_is_pingoras_whatever_came_before() {
    let (mut session, mut caller) = connection().await;
    caller.write_all(request("k", "{}").as_bytes()).await.unwrap();
    assert_eq!(next(&mut session).await, Next::Request);
    assert_eq!(body(&mut session).await, b"{}");
    caller.write_all(request("k", &" ".repeat(10_001)).as_bytes()).await.unwrap();
    assert_eq!(next(&mut session).await, Next::Other);
    let (_, unread, _) = session.into_parts();
    assert!(unread.starts_with(b"POST /x"), "the head is not used up");
}
