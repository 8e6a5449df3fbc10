//! Chunked bodies, whole and in parts.

use proptest::prelude::*;

use super::*;

/// The data of a body, and what is left behind it; `None` if it isn't whole.
type Decoded = Option<(Vec<u8>, Vec<u8>)>;

/// Decodes a body that comes in pieces of these lengths, over and over.
fn decoded(text: &[u8], lengths: &[usize]) -> Result<Decoded, BadChunk> {
    let (mut chunks, mut buffer, mut data) = (Chunks::default(), BytesMut::new(), Vec::new());
    let mut rest = text;
    let mut lengths = lengths.iter().cycle();
    loop {
        match chunks.next(&mut buffer)? {
            Piece::Data(piece) => {
                assert!(!piece.is_empty());
                data.extend_from_slice(&piece);
            }
            Piece::End => {
                assert_eq!(chunks.next(&mut buffer), Ok(Piece::End));
                return Ok(Some((data, [&buffer[..], rest].concat())));
            }
            Piece::More if rest.is_empty() => return Ok(None),
            Piece::More => {
                assert!(buffer.is_empty(), "it keeps nothing back");
                let (piece, after) = rest.split_at(rest.len().min(*lengths.next().unwrap_or(&usize::MAX)));
                buffer.extend_from_slice(piece);
                rest = after;
            }
        }
    }
}

fn whole(text: &str) -> Result<Decoded, BadChunk> {
    decoded(text.as_bytes(), &[])
}

#[test]
fn data_is_handed_out_and_the_rest_is_dropped() {
    for (text, data, behind) in [
        ("0\r\n\r\n", "", ""),
        ("3\r\nabc\r\n0\r\n\r\n", "abc", ""),
        ("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nHTTP/1.1", "abcde", "HTTP/1.1"),
        ("0003;a=b;c=\"d\" \r\n\r\n\r\r\n00\r\n\r\n", "\r\n\r", ""),
        ("A \t\r\n0123456789\r\n0;x\r\nx: y\r\nz:\r\n\r\n", "0123456789", ""),
    ] {
        assert_eq!(whole(text), Ok(Some((data.into(), behind.into()))), "{text:?}");
        for end in 0..text.len() - behind.len() {
            assert_eq!(whole(&text[..end]), Ok(None), "{text:?} {end}");
        }
    }
}

#[test]
fn the_pieces_are_parts_of_the_buffer() {
    let mut buffer = BytesMut::from("3\r\nabc\r\n2\r\nde\r\n");
    let begin = buffer.as_ptr().addr();
    let mut chunks = Chunks::default();
    for (at, expected) in [(3, "abc"), (11, "de")] {
        let Ok(Piece::Data(piece)) = chunks.next(&mut buffer) else { panic!("data") };
        assert_eq!((piece.as_ptr().addr() - begin, &piece[..]), (at, expected.as_bytes()));
    }
}

#[test]
fn what_two_readers_could_understand_differently_is_refused() {
    for (text, error) in [
        ("\r\n", BadChunk::Size),
        (" 3\r\nabc\r\n", BadChunk::Size),
        ("-3\r\nabc\r\n", BadChunk::Size),
        ("0x3\r\nabc\r\n", BadChunk::Size),
        ("3 4\r\nabc\r\n", BadChunk::Size),
        ("3\nabc\n0\n\n", BadChunk::Size),
        (";\r\n", BadChunk::Size),
        ("00000000000000003\r\nabc\r\n", BadChunk::Size),
        ("3\rabc\r\n", BadChunk::LineEnd),
        ("3;a\nb\r\nabc\r\n", BadChunk::LineEnd),
        ("3\r\nabcd\r\n", BadChunk::LineEnd),
        ("3\r\nabc\n0\r\n\r\n", BadChunk::LineEnd),
        ("3\r\nabc\rx", BadChunk::LineEnd),
        ("0\r\n\n", BadChunk::LineEnd),
        ("0\r\na: b\n\r\n", BadChunk::LineEnd),
        ("0\r\na: b\rc\r\n\r\n", BadChunk::LineEnd),
        ("0\r\n\rx", BadChunk::LineEnd),
    ] {
        assert_eq!(whole(text), Err(error), "{text:?}");
        assert_eq!(decoded(text.as_bytes(), &[1]), Err(error), "{text:?}");
    }
}

#[test]
fn lines_have_bounds() {
    let extension = |length: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(length - 1));
    assert_eq!(whole(&extension(MOST_EXTENSION)), Ok(Some((b"a".to_vec(), vec![]))));
    assert_eq!(whole(&extension(MOST_EXTENSION + 1)), Err(BadChunk::Extension));
    assert_eq!(whole(&format!("1{}", " ".repeat(MOST_EXTENSION + 1))), Err(BadChunk::Extension));
    let trailers = |lines: usize| format!("0\r\n{}\r\n", format!("{}\r\n", "x".repeat(1022)).repeat(lines));
    assert!(whole(&trailers(MOST_TRAILERS / 1024)).unwrap().is_some());
    assert_eq!(whole(&trailers(MOST_TRAILERS / 1024 + 1)), Err(BadChunk::Trailers));
}

#[test]
fn a_size_may_be_as_large_as_64_bits() {
    let mut buffer = BytesMut::from("FFFFFFFFFFFFFFFF\r\nabc");
    let mut chunks = Chunks::default();
    assert_eq!(chunks.next(&mut buffer), Ok(Piece::Data(Bytes::from_static(b"abc"))));
    assert_eq!(chunks.left(), Some(u64::MAX - 3));
}

/// A body of these chunks.
fn encoded(chunks: &[Vec<u8>], trailer: &str) -> Vec<u8> {
    let mut text = Vec::new();
    for chunk in chunks {
        text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        text.extend_from_slice(chunk);
        text.extend_from_slice(b"\r\n");
    }
    [&text[..], b"0\r\n", trailer.as_bytes(), b"\r\n"].concat()
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_body(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
        trailer in "(x: y\r\n)?",
        lengths in prop::collection::vec(1usize..30, 1..6),
        behind in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let text = [encoded(&chunks, &trailer), behind.clone()].concat();
        prop_assert_eq!(decoded(&text, &lengths), Ok(Some((chunks.concat(), behind))));
    }

    #[test]
    fn any_cut_of_any_bytes_gives_the_same(
        text in "[0-9a-f; x\r\n]{0,40}",
        lengths in prop::collection::vec(1usize..6, 1..4),
    ) {
        prop_assert_eq!(decoded(text.as_bytes(), &lengths), whole(&text));
    }
}
