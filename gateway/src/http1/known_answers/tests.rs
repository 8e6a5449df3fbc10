use proptest::prelude::*;

use super::*;

const FIRST: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-RateLimit-Remaining: 5\r\ncontent-length: 2\r\nx-a: b\r\n\r\n";

/// A head as a parser reads it that knows none, and what is behind it.
fn parsed_to(text: &str) -> Option<(AnswerHead, BytesMut)> {
    KNOWN.with_borrow_mut(Vec::clear);
    let mut buffer = BytesMut::from(text);
    read(&mut buffer).ok().flatten().map(|head| (head, buffer))
}

/// A head as a parser reads it that knows none.
fn parsed(text: &str) -> Option<AnswerHead> {
    parsed_to(text).map(|(head, _)| head)
}

/// A head as it is compared with `first`.
fn compared(first: &str, text: &str) -> Option<(AnswerHead, BytesMut)> {
    parsed(first)?;
    let mut buffer = BytesMut::from(text);
    cut(&mut buffer).map(|head| (head, buffer))
}

fn fields(head: &AnswerHead) -> Vec<(String, Vec<u8>)> {
    head.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect()
}

#[test]
fn a_head_with_other_values_is_the_one_that_is_parsed() {
    for next in [
        FIRST.to_owned(),
        FIRST.replace(": 5", ": 4999").replace(": 2", ": 12345"),
        FIRST.replace("application/json", "text/event-stream; charset=utf-8"),
    ] {
        let (head, rest) = compared(FIRST, &format!("{next}{{}}")).unwrap();
        assert_eq!(&rest[..], b"{}");
        let reference = parsed(&next).unwrap();
        assert_eq!((head.status, head.version), (reference.status, reference.version));
        assert_eq!(fields(&head), fields(&reference));
        assert_eq!(head.get("content-type"), reference.get("content-type"));
    }
}

#[test]
fn any_other_head_is_parsed() {
    for next in [
        FIRST.replace("200 OK", "201 OK"),
        FIRST.replace("HTTP/1.1", "HTTP/1.0"),
        FIRST.replace("x-a: b", "x-a: b\r\nx-b: c"),
        FIRST.replace("\r\nx-a: b", ""),
        FIRST.replace("x-a: b", "x-a: b\r\n c"),
        FIRST.replace("x-a: b", "x-a:  b"),
        FIRST.replace("x-a: b", "x-a: b "),
        FIRST.replace("x-a: b", "x-a: "),
        FIRST.replace("x-a: b", "x-a: \u{e9}"),
        FIRST.replace("x-a: b", "x-a: b\nTransfer-Encoding: chunked"),
        FIRST.replace("x-a: b", "x-A: b"),
        FIRST.replace("\r\n", "\n"),
        FIRST.replace("x-a: b", &format!("x-a: {}", "b".repeat(MOST_BYTES))),
    ] {
        assert!(compared(FIRST, &next).is_none(), "{next:?}");
    }
    for end in 0..FIRST.len() {
        assert!(compared(FIRST, &FIRST[..end]).is_none(), "{end}");
    }
}

#[test]
fn unusual_heads_are_not_remembered() {
    for unusual in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\nx-a: 1\nx-b: 2\n\n", "HTTP/1.1 200 OK\r\nx-a: 1\nx-b: 2\r\n\r\n"] {
        assert!(compared(unusual, unusual).is_none(), "{unusual:?}");
    }
    for value in ["", "\u{e9}", "b "] {
        let unusual = FIRST.replace("x-a: b", &format!("x-a: {value}"));
        assert!(parsed(&unusual).is_some());
        assert!(KNOWN.with_borrow(Vec::is_empty), "it would be learnt again each time: {unusual:?}");
    }
    let long = FIRST.replace("x-a", &"a".repeat(LONGEST));
    assert!(compared(&long, &long).is_none());
}

#[test]
fn the_last_ones_are_known() {
    KNOWN.with_borrow_mut(Vec::clear);
    let head = |number: usize| FIRST.replace("x-a", &format!("x-{number}"));
    let ask = |number| read(&mut BytesMut::from(head(number).as_str())).unwrap().unwrap();
    for number in 0..MOST {
        ask(number);
    }
    let known = |number| cut(&mut BytesMut::from(head(number).as_str())).is_some();
    assert!((0..MOST).all(known));
    // The first was used before all others now.
    ask(MOST);
    assert_eq!([known(0), known(1), known(MOST)], [false, true, true]);
}

proptest! {
    /// Whatever is read by comparing is read the same by parsing.
    #[test]
    fn what_is_compared_is_what_would_be_parsed(
        values in prop::collection::vec("[ -~]{0,12}|[ -~\t\r\né]{0,4}|1", 3),
        first in prop::collection::vec("[!-~]{1,5}|[ -~\t]{0,4}", 3),
        cut in 0..6usize,
        insert in "|[ -~\r\n]{0,3}",
        at in 0..160usize,
    ) {
        let write = |values: &[String]| format!(
            "HTTP/1.1 200 OK\r\nx-a: {}\r\ncontent-length:{}\r\nX-C : {}\r\n\r\n", values[0], values[1], values[2],
        );
        let mut next = write(&values);
        if let Some(place) = at.checked_sub(60).filter(|place| next.is_char_boundary(*place) && next.is_char_boundary(place + cut)) {
            next.replace_range(place..(place + cut).min(next.len()), &insert);
        }
        if let Some((head, rest)) = compared(&write(&first), &next) {
            let Some((reference, left)) = parsed_to(&next) else { panic!("it would not be read: {next:?}") };
            prop_assert_eq!((head.status, head.version), (reference.status, reference.version));
            prop_assert_eq!(fields(&head), fields(&reference));
            prop_assert_eq!(rest, left);
        }
    }
}
