//! What a body is written in.

use std::io::Write as _;
use std::sync::Arc;

use prometheus::IntGauge;

use super::*;
use crate::proxy::fixtures::{Setup, facts};
use crate::request::BufferBudget;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(*name, http::HeaderValue::from_static(value));
    }
    map
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn read(bytes: &[u8], coding: Coding, limit: usize) -> Result<Vec<u8>, Refusal> {
    let budget = Arc::new(BufferBudget::new(1 << 24, IntGauge::new("g", "h").unwrap()));
    decompress(bytes, coding, limit, BodyBuffer::new(&budget)).map(|plain| plain.as_slice().to_vec())
}

#[test]
fn types_and_letters_are_understood_in_one_way() {
    for good in ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=\"UTF-8\"", "text/json", "a/b+json; x=1"]
    {
        assert!(json(&headers(&[("content-type", good)])).is_ok(), "{good}");
    }
    for bad in ["text/plain", "application/json; charset=utf-16", "application/json; charset=utf-8; charset=utf-7"] {
        assert!(json(&headers(&[("content-type", bad)])).is_err(), "{bad}");
    }
    assert!(json(&headers(&[("content-type", "application/json"), ("content-type", "application/json")])).is_err());
}

#[test]
fn one_coding_is_known() {
    assert_eq!(coding(&headers(&[])), Ok(Coding::Identity));
    assert_eq!(coding(&headers(&[("content-encoding", "X-GZip")])), Ok(Coding::Gzip));
    assert_eq!(coding(&headers(&[("content-encoding", "zstd")])), Ok(Coding::Zstd));
    for bad in ["br", "deflate", "gzip, gzip", "identity, gzip", "", "gzip;q=1"] {
        assert!(coding(&headers(&[("content-encoding", bad)])).is_err(), "{bad}");
    }
    assert!(coding(&headers(&[("content-encoding", "gzip"), ("content-encoding", "gzip")])).is_err());
}

#[test]
fn bodies_come_out_whole_within_their_bound() {
    let text = br#"{"model":"m"}"#.repeat(10_000);
    let zstd = zstd::stream::encode_all(&text[..], 1).unwrap();
    for (bytes, coding) in [(gzip(&text), Coding::Gzip), (zstd, Coding::Zstd)] {
        assert_eq!(read(&bytes, coding, text.len()).unwrap(), text);
        assert_eq!(read(&bytes, coding, text.len() - 1), Err(Refusal::TooLarge { limit: text.len() - 1 }));
        assert!(read(&bytes[..bytes.len() - 1], coding, text.len()).is_err(), "a part of it");
        assert!(read(&[&bytes[..], b"x"].concat(), coding, text.len()).is_err(), "something behind it");
        assert!(read(&[&bytes[..], &bytes[..]].concat(), coding, text.len() * 2).is_err(), "two in one");
        assert!(read(&text, coding, text.len()).is_err(), "something else");
    }
}

#[test]
fn a_type_is_told_once_and_a_form_is_not_compressed() {
    assert_eq!(content_type(&headers(&[])), Ok(None));
    assert_eq!(content_type(&headers(&[("content-type", "a/b; c=d")])), Ok(Some("a/b; c=d")));
    let twice = content_type(&headers(&[("content-type", "a/b"), ("content-type", "a/b")])).expect_err("it is told twice");
    assert_eq!((twice.shape().status.as_u16(), twice.shape().code), (415, "unsupported_media_type"));
    assert_eq!(uncompressed(&headers(&[("content-encoding", "identity")])), Ok(()));
    for coding in ["gzip", "zstd", "br"] {
        assert_eq!(uncompressed(&headers(&[("content-encoding", coding)])).map_err(|no| no.shape().status.as_u16()), Err(415), "{coding}");
    }
}

#[tokio::test]
async fn a_compressed_body_takes_its_share_as_what_it_becomes() {
    let gateway = Setup { server: "max_body = \"64KiB\"\nmax_buffered = \"96KiB\"", ..Setup::default() }.gateway();
    let facts = facts(&gateway);
    let compressed = |length: usize| {
        let mut buffer = BodyBuffer::new(&gateway.buffered);
        assert!(buffer.push(gzip(&vec![b'x'; length]).into(), None));
        buffer
    };
    let refused = |plain: Result<BodyBuffer, IntakeError>| match plain {
        Err(IntakeError::Refuse(refusal)) => Some(refusal),
        _ => None,
    };
    let whole = plain(&gateway, &facts, compressed(1000), Coding::Gzip).await.ok().expect("it fits");
    assert_eq!((whole.as_slice(), gateway.metrics.buffered.get()), (&[b'x'; 1000][..], 1000), "what was compressed is gone");
    let as_it_is = plain(&gateway, &facts, whole, Coding::Identity).await.ok().expect("it is plain");
    assert_eq!(as_it_is.len(), 1000);
    let limit = 64 * 1024;
    assert_eq!(refused(plain(&gateway, &facts, compressed(limit + 1), Coding::Gzip).await), Some(Refusal::TooLarge { limit }));
    let mut held = BodyBuffer::new(&gateway.buffered);
    assert!(held.push(vec![0; 40 * 1024].into(), None));
    let no_room = Some(Refusal::Overloaded { what: "request bodies" });
    assert_eq!(refused(plain(&gateway, &facts, compressed(limit - 500), Coding::Gzip).await), no_room);
    drop((as_it_is, held));
    assert_eq!(gateway.metrics.buffered.get(), 0);
}
