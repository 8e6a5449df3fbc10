//! Heads as they come from backends.

use super::*;

fn cut(text: &[u8]) -> (Result<Option<AnswerHead>, BadHead>, BytesMut) {
    let mut buffer = BytesMut::from(text);
    (AnswerHead::cut(&mut buffer), buffer)
}

fn head(text: &[u8]) -> AnswerHead {
    cut(text).0.unwrap().unwrap()
}

#[test]
fn a_head_is_cut_off_and_its_fields_are_found_in_small_letters() {
    let text = b"HTTP/1.1 429 Too Many\r\nContent-Type: text/plain \r\nX-A:1\r\nx-a :\t2\r\nEmpty:\r\nX-High: \xe9\r\n\r\nbody";
    let (head, rest) = cut(text);
    let head = head.unwrap().unwrap();
    assert_eq!((head.status.as_u16(), head.version, &rest[..]), (429, Version::HTTP_11, &b"body"[..]));
    let fields: Vec<_> = head.iter().collect();
    let expected: [(&str, &[u8]); 5] = [("content-type", b"text/plain"), ("x-a", b"1"), ("x-a", b"2"), ("empty", b""), ("x-high", b"\xe9")];
    assert_eq!(fields, expected);
    assert_eq!((head.get("x-a"), head.get("X-A"), head.get("x")), (Some(&b"1"[..]), None, None));
    assert_eq!(head.all("x-a").collect::<Vec<_>>(), [b"1", b"2"]);
    let map = head.map().unwrap();
    assert_eq!((map.status, map.version, map.headers.len()), (head.status, Version::HTTP_11, 5));
    assert_eq!(map.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(map.headers["x-high"].as_bytes(), b"\xe9");
}

#[test]
fn a_head_may_have_no_reason_no_fields_an_old_version_and_bare_line_ends() {
    for text in [&b"HTTP/1.0 200\r\n\r\n"[..], b"HTTP/1.0 200 \r\n\r\n", b"HTTP/1.0 200 OK\n\n"] {
        let head = head(text);
        assert_eq!((head.status, head.version, head.iter().count()), (StatusCode::OK, Version::HTTP_10, 0));
    }
}

#[test]
fn a_head_that_is_not_whole_stays_in_the_buffer() {
    let text = b"HTTP/1.1 200 OK\r\na: b\r\n\r\n";
    for end in 0..text.len() {
        let (head, rest) = cut(&text[..end]);
        assert!(head.unwrap().is_none(), "{end}");
        assert_eq!(&rest[..], &text[..end]);
    }
}

#[test]
fn what_is_no_head_is_refused() {
    for text in [
        &b"\r\nHTTP/1.1 200 OK\r\n\r\n"[..],
        b"nonsense\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: b\0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: b\rc\r\n\r\n",
    ] {
        assert!(cut(text).0.is_err(), "{}", text.escape_ascii());
    }
}

#[test]
fn a_head_has_bounds() {
    let fields = |count: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(count));
    assert_eq!(head(fields(MOST_FIELDS).as_bytes()).iter().count(), MOST_FIELDS);
    assert_eq!(cut(fields(MOST_FIELDS + 1).as_bytes()).0.unwrap_err(), BadHead::Syntax(httparse::Error::TooManyHeaders));
    let long = |length: usize| format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(length - 24));
    let whole = head(long(MOST_BYTES).as_bytes());
    assert_eq!(whole.get("a").map(<[u8]>::len), Some(MOST_BYTES - 24));
    assert_eq!(cut(long(MOST_BYTES + 1).as_bytes()).0.unwrap_err(), BadHead::TooLong);
    assert_eq!(cut(&long(2 * MOST_BYTES).as_bytes()[..MOST_BYTES + 1]).0.unwrap_err(), BadHead::TooLong);
}

#[test]
fn fields_can_be_removed_and_reduced_to_one_element() {
    let mut head = head(b"HTTP/1.1 200 OK\r\na: 5 , 5\r\nb: 1\r\nA: 5\r\n\r\n");
    head.keep_first_element("a");
    head.keep_first_element("none");
    assert_eq!(head.iter().collect::<Vec<_>>(), [("a", &b"5"[..]), ("b", b"1")]);
    head.detach();
    head.remove("b");
    assert_eq!(head.iter().collect::<Vec<_>>(), [("a", &b"5"[..])]);
    assert_eq!(head.map().unwrap().headers["a"], "5");
}
