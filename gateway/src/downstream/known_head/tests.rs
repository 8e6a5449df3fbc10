use bytes::BytesMut;
use http::HeaderMap;
use proptest::prelude::*;

use super::super::strict_head::{Scan, scan};
use super::*;

const FIRST: &str = "POST /v1/chat/completions?a=b HTTP/1.1\r\nHost: gateway:8080\r\nAuthorization: Bearer x\r\n\
                     content-type: application/json\r\nX-Trace: 1\r\nConnection: keep-alive\r\nContent-Length: 12\r\n\r\n";

/// A head as it is parsed, and the bytes behind it.
fn parsed(text: &str) -> Option<(StrictHead, Bytes, RequestHeader)> {
    let mut bytes = BytesMut::from(text);
    let Scan::Strict(found) = scan(&bytes) else { return None };
    let (map, raw) = found.take(&mut bytes, HeaderMap::new())?;
    Some((found, raw, map))
}

fn known(text: &str) -> (KnownHead, RequestHeader) {
    let (found, raw, map) = parsed(text).unwrap();
    (KnownHead::new(found, raw, &map).unwrap(), map)
}

fn fields(map: &RequestHeader) -> Vec<(String, Vec<u8>)> {
    map.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

#[test]
fn a_head_with_other_values_is_the_one_that_is_parsed() {
    let (mut known, mut map) = known(FIRST);
    for next in [
        FIRST.to_owned(),
        FIRST.replace(": 12", ": 12345"),
        FIRST.replace(": 12", ": 0").replace("Bearer x", "Bearer somebody else"),
        FIRST.replace("X-Trace: 1", "X-Trace: a b"),
        FIRST.to_owned(),
    ] {
        let bytes = format!("{next}{{\"a\": 1}}");
        let again = known.again(bytes.as_bytes()).unwrap();
        let (found, _, reference) = parsed(&next).unwrap();
        assert_eq!((again.end, again.body, known.closes()), (next.len(), found.body, found.closes));
        known.update(bytes.as_bytes(), &again, &mut map).unwrap();
        assert_eq!(fields(&map), fields(&reference), "{next}");
        assert_eq!(map.raw_path(), reference.raw_path());
    }
}

#[test]
fn whatever_decides_about_framing_is_parsed() {
    let (known, _) = known(FIRST);
    for next in [
        FIRST.replace("POST", "PUT"),
        FIRST.replace("/v1/", "/v2/"),
        FIRST.replace("gateway:8080", "gateway:8081"),
        FIRST.replace("application/json", "application/json2"),
        FIRST.replace("keep-alive", "close"),
        FIRST.replace("keep-alive", "upgrade"),
        FIRST.replace("X-Trace", "Expect!"),
        FIRST.replace("X-Trace: 1", "X-Trace: 1\r\nX-Other: 1"),
        FIRST.replace("X-Trace: 1", "X-Trace: 1\r\n folded"),
        FIRST.replace("X-Trace: 1", "X-Trace: 1\nContent-Length: 3"),
        FIRST.replace("X-Trace: 1", "X-Trace:  1"),
        FIRST.replace("X-Trace: 1", "X-Trace: 1 "),
        FIRST.replace("X-Trace: 1", "X-Trace: \t1"),
        FIRST.replace("X-Trace: 1", "X-Trace: \u{e9}"),
        FIRST.replace("X-Trace: 1", "X-Trace: "),
        FIRST.replace("X-Trace: 1\r\n", "X-Trace: 1\r"),
        FIRST.replace("X-Trace: 1\r\n", ""),
        FIRST.replace("Length: 12", "Length: 012"),
        FIRST.replace("Length: 12", "Length: +12"),
        FIRST.replace("Length: 12", "Length: 12, 12"),
        FIRST.replace("Length: 12", "Length:"),
        FIRST.replace("Length: 12", "Length: 12\r\nContent-Length: 12"),
        FIRST.replace("Length: 12", "Length: 12\r\nTransfer-Encoding: chunked"),
        FIRST.replace("X-Trace: 1", &format!("X-Trace: {}", "1".repeat(MAX_HEAD))),
        FIRST.replace("\r\n", "\n"),
    ] {
        assert_eq!(known.again(next.as_bytes()), None, "{next:?}");
    }
    for end in 0..FIRST.len() {
        assert_eq!(known.again(&FIRST.as_bytes()[..end]), None, "{end}");
    }
}

#[test]
fn two_fields_of_one_name_are_parsed() {
    let (found, raw, map) = parsed(&FIRST.replace("X-Trace: 1", "X-Trace: 1\r\nx-trace: 2")).unwrap();
    assert!(KnownHead::new(found, raw, &map).is_none());
}

proptest! {
    /// Whatever is read by comparing is read the same by parsing.
    #[test]
    fn what_is_compared_is_what_would_be_parsed(
        values in prop::collection::vec(prop::collection::vec("[ -~]{0,12}|[ -~\t\r\né]{0,4}|1", 3..4), 1..4),
        lengths in prop::collection::vec("[0-9]{1,6}|[ -~]{0,4}", 4),
        cut in 0..6usize,
        insert in "|[ -~\r\n]{0,3}",
        at in 0..200usize,
    ) {
        let write = |values: &[String], length: &str| format!(
            "POST /x HTTP/1.1\r\nhost: a\r\nx-a: {}\r\ncontent-type: application/json\r\nx-b:{}\r\ncontent-length: {length}\r\nx-c: {}\r\n\r\n",
            values[0], values[1], values[2],
        );
        let first = write(&["1".into(), "2".into(), "3".into()], "7");
        let (mut known, mut map) = known(&first);
        for (values, length) in values.iter().zip(&lengths) {
            let mut next = write(values, length);
            if let Some(place) = at.checked_sub(100).filter(|place| next.is_char_boundary(*place) && next.is_char_boundary(place + cut)) {
                next.replace_range(place..(place + cut).min(next.len()), &insert);
            }
            let Some(again) = known.again(next.as_bytes()) else { continue };
            let Some((found, _, reference)) = parsed(&next) else { panic!("it would not be read: {next:?}") };
            prop_assert_eq!((again.end, again.body, known.closes()), (found.end, found.body, found.closes));
            known.update(next.as_bytes(), &again, &mut map).unwrap();
            prop_assert_eq!(fields(&map), fields(&reference));
        }
    }

    #[test]
    fn a_usual_head_is_not_parsed_twice(trace in "[!-~]{1,40}", key in "[!-~]{1,40}", length in 0usize..1_000_000) {
        let next = FIRST.replace("X-Trace: 1", &format!("X-Trace: {trace}")).replace("Bearer x", &key).replace(": 12", &format!(": {length}"));
        let (known, _) = known(FIRST);
        prop_assert_eq!(known.again(next.as_bytes()).map(|again| (again.end, again.body)), Some((next.len(), length)));
    }
}
