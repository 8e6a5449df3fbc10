//! Whole answers: the same however they are cut, and the same as Pingora's own client finds.

use http::HeaderMap;
use pingora::http::RequestHeader;
use pingora::protocols::http::v1::client::HttpSession;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::pipe;

/// What was understood of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Understood {
    status: u16,
    fields: HeaderMap,
    body: Vec<u8>,
    /// Whether another request may follow on the connection.
    kept: bool,
}

/// Reads an answer that comes in pieces of these lengths, over and over, and then the connection ends.
fn ours(text: &[u8], lengths: &[usize], to_head: bool) -> Result<Understood, BadAnswer> {
    let (mut answer, mut buffer, mut rest) = (Answer::new(to_head), BytesMut::new(), text);
    let mut lengths = lengths.iter().cycle();
    let mut fill = |buffer: &mut BytesMut| {
        let (piece, after) = rest.split_at(rest.len().min(*lengths.next().unwrap_or(&usize::MAX)));
        buffer.extend_from_slice(piece);
        rest = after;
        !piece.is_empty()
    };
    while !answer.read_head(&mut buffer)? {
        if !fill(&mut buffer) {
            return Err(BadAnswer::Cut);
        }
    }
    let mut body = Vec::new();
    loop {
        match answer.read_body(&mut buffer)? {
            Piece::Data(bytes) => body.extend_from_slice(&bytes),
            Piece::End => break,
            Piece::More if fill(&mut buffer) => {}
            Piece::More => answer.closed()?,
        }
    }
    assert!(answer.is_over() && answer.left() == 0);
    let map = answer.head().unwrap().map().unwrap();
    let kept = answer.keeps_alive() && buffer.is_empty() && rest.is_empty();
    Ok(Understood { status: map.status.as_u16(), fields: map.headers.clone(), body, kept })
}

/// What Pingora's client understands; `None` if it fails.
async fn pingoras(text: &[u8], to_head: bool) -> Option<Understood> {
    let (mut theirs, ours) = tokio::io::duplex(1 << 20);
    theirs.write_all(text).await.unwrap();
    let mut session = HttpSession::new(Box::new(pipe::stream(ours)));
    let request = RequestHeader::build(if to_head { "HEAD" } else { "GET" }, b"/", None).unwrap();
    session.write_request_header(Box::new(request)).await.unwrap();
    theirs.shutdown().await.unwrap();
    loop {
        session.read_response().await.ok()?;
        match session.resp_header().unwrap().status.as_u16() {
            101 => return None,
            100..200 => {}
            _ => break,
        }
    }
    let mut body = Vec::new();
    while let Some(bytes) = session.read_body_bytes().await.ok()? {
        body.extend_from_slice(&bytes);
    }
    session.respect_keepalive();
    let head = session.resp_header().unwrap();
    let (status, fields) = (head.status.as_u16(), head.headers.clone());
    Some(Understood { status, fields, body, kept: session.reuse().await.is_some() })
}

#[test]
fn informational_heads_are_skipped_but_for_an_upgrade() {
    let text = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
    let understood = ours(text, &[3], false).unwrap();
    assert_eq!((understood.status, &understood.body[..], understood.kept), (200, &b"hi"[..], true));
    assert!(!understood.fields.contains_key("link"));
    let many = |count: u16| {
        let text = "HTTP/1.1 102 P\r\n\r\n".repeat(count.into()) + "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        ours(text.as_bytes(), &[], false).map(|understood| understood.status)
    };
    assert_eq!((many(MOST_INFORMATIONAL), many(MOST_INFORMATIONAL + 1)), (Ok(200), Err(BadAnswer::Informational)));
    assert_eq!(ours(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n", &[], false), Err(BadAnswer::Upgrade));
}

#[test]
fn a_part_is_no_answer_unless_it_ends_with_its_connection() {
    for text in
        ["HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"]
    {
        assert_eq!(ours(text.as_bytes(), &[], false).unwrap().body, b"abc");
        for end in 0..text.len() {
            assert_eq!(ours(&text.as_bytes()[..end], &[], false), Err(BadAnswer::Cut), "{text:?} {end}");
        }
    }
    let open = ours(b"HTTP/1.1 200 OK\r\n\r\nabc", &[], false).unwrap();
    assert_eq!((&open.body[..], open.kept), (&b"abc"[..], false));
}

#[test]
fn bytes_behind_an_answer_are_none_of_it_and_end_its_connection() {
    let behind = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n!";
    for text in
        ["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"]
    {
        for (text, kept) in [(text.to_owned(), true), (format!("{text}{behind}"), false)] {
            let understood = ours(text.as_bytes(), &[], false).unwrap();
            assert_eq!((&understood.body[..], understood.kept), (&b"hi"[..], kept), "{text:?}");
        }
    }
    let to_head = ours(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", &[], true).unwrap();
    assert_eq!((to_head.body.len(), to_head.kept), (0, false));
}

#[test]
fn a_head_that_comes_byte_by_byte_is_bounded() {
    let long = format!("HTTP/1.1 200 OK\r\n{}", "a: b\r\n".repeat(20_000));
    assert_eq!(ours(long.as_bytes(), &[1], false), Err(BadHead::TooLong.into()));
}

#[test]
fn the_head_of_a_long_answer_does_not_keep_its_buffer() {
    for (rest, shares) in
        [("content-length: 2\r\n\r\nhi", true), ("content-length: 9\r\n\r\nhi", false), ("transfer-encoding: chunked\r\n\r\n", false)]
    {
        let mut buffer = BytesMut::with_capacity(20_000);
        buffer.extend_from_slice(format!("HTTP/1.1 200 OK\r\n{rest}").as_bytes());
        let room = buffer.as_ptr().addr()..buffer.as_ptr().addr() + 20_000;
        let mut answer = Answer::new(false);
        assert!(answer.read_head(&mut buffer).unwrap());
        let value = answer.head().unwrap().iter().next().unwrap().1.as_ptr().addr();
        assert_eq!(room.contains(&value), shares, "{rest:?}");
    }
}

/// An answer in any of the forms that backends use, and in some that they should not.
fn answers() -> impl Strategy<Value = Vec<u8>> {
    let status =
        prop::sample::select(vec!["200 OK", "204 No Content", "304 Not Modified", "429 Too Many Requests", "500", "404 Not Found"]);
    let field = prop::sample::select(vec![
        "Content-Length: 5",
        "content-length: 5, 5",
        "content-length: 05",
        "content-length: 3",
        "content-length: +5",
        "Content-Length : 0",
        "Transfer-Encoding: chunked",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked, gzip",
        "transfer-encoding: identity",
        "transfer-encoding: chunked,",
        "Connection: close",
        "connection: keep-alive",
        "X-Ratelimit-Remaining-Tokens:   12 \t",
        "x-empty:",
        "set-cookie: a=b",
        "x bad: y",
        " folded",
    ]);
    let body = prop::sample::select(vec![
        "hello",
        "5\r\nhello\r\n0\r\n\r\n",
        "5;x=y\r\nhello\r\n0\r\na: b\r\n\r\n",
        "3 \r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        "5\nhello\n0\n\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "0\r\n\r\n",
        "",
    ]);
    let interim = prop::sample::select(vec!["", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", "\r\n"]);
    let behind = prop::sample::select(vec!["", "", "", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "\r\n"]);
    (interim, 0..2, status, prop::collection::vec(field, 0..4), body, behind).prop_map(|(interim, minor, status, fields, body, behind)| {
        let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        format!("{interim}HTTP/1.{minor} {status}\r\n{fields}\r\n{body}{behind}").into_bytes()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_taken_is_what_pingora_understands(text in answers(), cut in any::<Option<u8>>(), to_head in prop::bool::weighted(0.1)) {
        let end = cut.map_or(text.len(), |cut| text.len().saturating_sub(usize::from(cut % 32)));
        let text = &text[..end];
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        if let Ok(mut ours) = ours(text, &[], to_head) {
            let theirs = runtime.block_on(pingoras(text, to_head));
            let Some(mut theirs) = theirs else { return Err(TestCaseError::fail(format!("Pingora refuses {:?}", ours))) };
            // Repeated lengths are one here, and where readers disagree the connection ends here.
            prop_assert!(theirs.kept || !ours.kept, "{:?}", ours);
            for understood in [&mut ours, &mut theirs] {
                understood.kept = false;
                understood.fields.remove("content-length");
            }
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn any_cut_gives_the_same(text in answers(), lengths in prop::collection::vec(1usize..40, 1..5), to_head in any::<bool>()) {
        prop_assert_eq!(ours(&text, &lengths, to_head).ok(), ours(&text, &[], to_head).ok());
    }

    #[test]
    fn any_bytes_are_an_answer_or_refused(text in prop::collection::vec(any::<u8>(), 0..200), lengths in prop::collection::vec(1usize..40, 1..5)) {
        let text = [b"HTTP/1.1 200 OK\r\n", &text[..]].concat();
        let whole = ours(&text, &[], false).ok();
        prop_assert_eq!(ours(&text, &lengths, false).ok(), whole);
    }
}
