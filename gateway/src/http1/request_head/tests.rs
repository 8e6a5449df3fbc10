//! Heads as they are sent.

use http::HeaderValue;

use super::*;

#[test]
fn a_head_has_its_line_its_fields_and_an_empty_line() {
    let mut head = RequestHeader::build("POST", b"/v1/chat/completions?a=b", None).unwrap();
    head.append_header("Host", "a.test").unwrap();
    head.append_header("X-Long", "y".repeat(3000)).unwrap();
    head.append_header("x-high", HeaderValue::from_bytes(b"\xe9").unwrap()).unwrap();
    head.append_header("x-twice", "1").unwrap();
    head.append_header("x-twice", "2").unwrap();
    let expected = format!("POST /v1/chat/completions?a=b HTTP/1.1\r\nhost: a.test\r\nx-long: {}\r\nx-high: ", "y".repeat(3000));
    let expected = [expected.as_bytes(), b"\xe9\r\nx-twice: 1\r\nx-twice: 2\r\n\r\n"].concat();
    assert_eq!(write(&head).unwrap(), expected);
}

#[test]
fn a_target_that_would_end_the_line_is_not_written() {
    for path in [&b"/a b"[..], b"/a\r\nx: y", b"/a\nb", b"/\0", b"/\x7f"] {
        if let Ok(head) = RequestHeader::build("GET", path, None) {
            assert_eq!(write(&head), Err(Unwritable::Target), "{}", path.escape_ascii());
        }
    }
    assert!(HeaderValue::from_bytes(b"a\r\nb").is_err() && HeaderValue::from_bytes(b"a\nb").is_err());
}

#[test]
fn another_reader_finds_the_same() {
    let mut head = RequestHeader::build("GET", b"/x", None).unwrap();
    for (name, value) in [("host", "a"), ("accept-encoding", "identity"), ("x-empty", "")] {
        head.append_header(name, value).unwrap();
    }
    let bytes = write(&head).unwrap();
    let mut fields = [httparse::EMPTY_HEADER; 8];
    let mut request = httparse::Request::new(&mut fields);
    assert_eq!(request.parse(&bytes), Ok(httparse::Status::Complete(bytes.len())));
    assert_eq!((request.method, request.path, request.version), (Some("GET"), Some("/x"), Some(1)));
    let found: Vec<_> = request.headers.iter().map(|field| (field.name, field.value)).collect();
    assert_eq!(found, [("host", &b"a"[..]), ("accept-encoding", b"identity"), ("x-empty", b"")]);
}
