//! How answers end: the table of RFC 9112, 6.3, and what is refused.

use bytes::BytesMut;

use super::*;

fn framing(status: &str, fields: &str, to_head: bool) -> (Result<Framing, BadFraming>, AnswerHead) {
    let lines: String = fields.split('|').filter(|line| !line.is_empty()).map(|line| format!("{line}\r\n")).collect();
    let mut text = BytesMut::from(format!("{status}\r\n{lines}\r\n").as_bytes());
    let mut head = AnswerHead::cut(&mut text).unwrap().unwrap();
    (Framing::of(&mut head, to_head), head)
}

const OK: &str = "HTTP/1.1 200 OK";
const OLD: &str = "HTTP/1.0 200 OK";

#[test]
fn an_answer_ends_as_its_head_says() {
    for (status, fields, extent, keeps_alive) in [
        (OK, "content-length: 5", Extent::Length(5), true),
        (OK, "Content-Length: 0", Extent::Nothing, true),
        (OK, "content-length: 5, 5", Extent::Length(5), true),
        (OK, "content-length: 5|content-length: 05", Extent::Length(5), true),
        (OK, "", Extent::UntilClose, false),
        (OK, "connection: keep-alive", Extent::UntilClose, false),
        (OK, "transfer-encoding: chunked", Extent::Chunked, true),
        (OK, "Transfer-Encoding: gzip, Chunked", Extent::Chunked, true),
        (OK, "transfer-encoding: gzip|transfer-encoding: chunked", Extent::Chunked, true),
        (OK, "transfer-encoding: gzip", Extent::UntilClose, false),
        (OK, "transfer-encoding: identity|content-length: 5", Extent::UntilClose, false),
        (OK, "transfer-encoding: chunked|content-length: 5", Extent::Chunked, false),
        (OLD, "transfer-encoding: chunked|connection: keep-alive", Extent::Chunked, false),
        ("HTTP/1.1 204 No Content", "", Extent::Nothing, true),
        ("HTTP/1.1 304 Not Modified", "content-length: 5", Extent::Nothing, true),
        ("HTTP/1.1 304 Not Modified", "transfer-encoding: chunked", Extent::Nothing, true),
        ("HTTP/1.1 103 Early Hints", "content-length: 5", Extent::Nothing, true),
    ] {
        let (framing, _) = framing(status, fields, false);
        let framing = framing.unwrap();
        assert_eq!((framing.extent, framing.keeps_alive), (extent, keeps_alive), "{status} {fields}");
    }
    let (framing, _) = framing(OK, "content-length: 5", true);
    assert_eq!(framing.unwrap(), Framing { extent: Extent::Nothing, keeps_alive: true, length: Some(5) });
}

#[test]
fn a_connection_is_kept_as_version_and_connection_field_say() {
    for (status, connection, keeps_alive) in [
        (OK, "", true),
        (OK, "connection: close", false),
        (OK, "connection: keep-alive, Close", false),
        (OK, "connection: x|connection: close", false),
        (OK, "connection: x-close", true),
        (OLD, "", false),
        (OLD, "connection: Keep-Alive", true),
        (OLD, "connection: keep-alive, close", false),
    ] {
        let (framing, _) = framing(status, &format!("content-length: 1|{connection}"), false);
        assert_eq!(framing.unwrap().keeps_alive, keeps_alive, "{status} {connection}");
    }
}

#[test]
fn what_two_readers_could_understand_differently_is_refused() {
    for length in ["", "x", "-1", "+5", "0x5", "5 5", "5, 6", "5,", ", 5", "18446744073709551616", "5|content-length: 6"] {
        assert_eq!(framing(OK, &format!("content-length: {length}"), false).0, Err(BadFraming::Length), "{length}");
        // Not even where the length says nothing.
        assert!(framing("HTTP/1.1 204 No Content", &format!("content-length: {length}"), false).0.is_err(), "{length}");
    }
    for coding in ["", "chunked,", "chunked, chunked", "chunked, gzip", "chunked|transfer-encoding: gzip", ", chunked"] {
        assert_eq!(framing(OK, &format!("transfer-encoding: {coding}"), false).0, Err(BadFraming::Coding), "{coding}");
    }
}

#[test]
fn a_head_has_one_length_afterwards_and_none_beside_a_coding() {
    let lengths = |fields: &str| {
        let (framing, head) = framing(OK, fields, false);
        let lengths: Vec<_> = head.all("content-length").map(<[u8]>::to_vec).collect();
        (framing.unwrap().length, lengths)
    };
    assert_eq!(lengths("content-length: 5, 5|content-length: 5"), (Some(5), vec![b"5".to_vec()]));
    assert_eq!(lengths("content-length: 5|transfer-encoding: chunked"), (None, vec![]));
    assert_eq!(lengths("x: y"), (None, vec![]));
}
