//! Heads as they are sent.

use http::header;

use super::*;

#[test]
fn a_head_has_its_line_its_fields_and_an_empty_line() {
    let mut head = RequestHead::new(Method::POST, b"/v1/chat/completions?a=b").unwrap();
    let long = "y".repeat(3000);
    for (name, value) in [("host", &b"a.test"[..]), ("x-long", long.as_bytes()), ("x-high", b"\xe9"), ("x-twice", b"1"), ("x-twice", b"2")]
    {
        head.add(&HeaderName::from_static(name), value);
    }
    assert_eq!((head.method(), head.target()), (&Method::POST, &b"/v1/chat/completions?a=b"[..]));
    let expected = format!("POST /v1/chat/completions?a=b HTTP/1.1\r\nhost: a.test\r\nx-long: {long}\r\nx-high: ");
    let expected = [expected.as_bytes(), b"\xe9\r\nx-twice: 1\r\nx-twice: 2\r\n\r\n"].concat();
    assert_eq!(head.into_bytes(), expected);
}

#[test]
fn a_target_that_would_end_the_line_is_not_written() {
    for path in [&b""[..], b"/a b", b"/a\r\nx: y", b"/a\nb", b"/\0", b"/\x7f"] {
        assert_eq!(RequestHead::new(Method::GET, path).err(), Some(Unwritable::Target), "{}", path.escape_ascii());
    }
}

#[test]
fn a_value_that_would_end_its_line_is_not_written() {
    let mut head = RequestHead::new(Method::GET, b"/").unwrap();
    for value in [&b"a\r\nx: y"[..], b"a\nb", b"\0"] {
        assert_eq!(head.require(&header::HOST, value), Err(Unwritable::Value));
    }
    head.require(&header::HOST, b"a").unwrap();
    assert_eq!(head.into_bytes(), "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
}

#[test]
fn another_reader_finds_the_same() {
    let mut head = RequestHead::new(Method::GET, b"/x?a=%20").unwrap();
    for (name, value) in [("host", "a"), ("accept-encoding", "identity"), ("x-empty", "")] {
        head.add_parsed(name, value.as_bytes());
    }
    let theirs = head.to_pingora().unwrap();
    assert_eq!((&theirs.method, theirs.raw_path()), (&Method::GET, &b"/x?a=%20"[..]));
    assert_eq!(theirs.headers["accept-encoding"], "identity");
    let bytes = head.into_bytes();
    let mut fields = [httparse::EMPTY_HEADER; 8];
    let mut request = httparse::Request::new(&mut fields);
    assert_eq!(request.parse(&bytes), Ok(httparse::Status::Complete(bytes.len())));
    assert_eq!((request.method, request.path, request.version), (Some("GET"), Some("/x?a=%20"), Some(1)));
    let found: Vec<_> = request.headers.iter().map(|field| (field.name, field.value)).collect();
    assert_eq!(found, [("host", &b"a"[..]), ("accept-encoding", b"identity"), ("x-empty", b"")]);
}

#[test]
fn a_credential_is_not_shown() {
    let mut head = RequestHead::new(Method::GET, b"/x").unwrap();
    head.set(&header::AUTHORIZATION, b"Bearer CANARY");
    assert_eq!(format!("{head:?}"), r#"GET /x ["authorization"]"#);
    assert!(!format!("{:?}", head.to_pingora().unwrap()).contains("CANARY"));
}
