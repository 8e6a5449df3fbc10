//! An answer of a backend means one thing: it doesn't depend on how its bytes are cut, nor on the answers before it; another
//! reader finds the same head and the same body, and a connection is used again only if nothing is left behind the answer.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use spillway::http1::answer::Answer;
use spillway::http1::chunks::Piece;
use spillway::http1::framing::Extent;
use spillway::http1::known_answers;
use spillway_fuzz::{cuts, mutate_messages, pieces};

/// Most answers of a connection that are looked at.
const MOST: usize = 16;

/// What was understood of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Understood {
    status: u16,
    fields: Vec<(String, Vec<u8>)>,
    extent: Extent,
    body: Vec<u8>,
    /// Bytes behind the answer.
    behind: usize,
    keeps_alive: bool,
}

/// Reads the next answer of a connection; `None` if it is refused or not whole when the connection ends.
fn next<'p>(buffer: &mut BytesMut, mut rest: impl Iterator<Item = &'p &'p [u8]>, to_head: bool) -> Option<Understood> {
    let (mut answer, mut body) = (Answer::new(to_head), Vec::new());
    while !answer.read_head(buffer).ok()? {
        buffer.extend_from_slice(rest.next()?);
    }
    loop {
        match answer.read_body(buffer).ok()? {
            Piece::Data(bytes) => body.extend_from_slice(&bytes),
            Piece::End => break,
            Piece::More => match rest.next() {
                Some(piece) => buffer.extend_from_slice(piece),
                None => answer.closed().ok()?,
            },
        }
    }
    assert!(answer.is_over());
    let (head, framing) = (answer.head()?, answer.framing()?);
    let map = head.map().expect("what is taken can be in a map");
    let fields: Vec<_> = head.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
    assert_eq!(map.headers.len(), fields.len());
    for name in fields.iter().map(|(name, _)| name.as_str()).chain(["content-length", "transfer-encoding", "connection", "x-none"]) {
        let values: Vec<_> = fields.iter().filter(|(other, _)| other == name).map(|(_, value)| &value[..]).collect();
        assert!(head.all(name).eq(values.iter().copied()) && head.get(name) == values.first().copied(), "{name} is found");
    }
    let keeps_alive = framing.keeps_alive;
    Some(Understood { status: head.status.as_u16(), fields, extent: framing.extent, body, behind: 0, keeps_alive })
}

/// Reads the answers that come in these pieces, before the connection ends; a bit of `to_heads` for each request that was a `HEAD`.
/// The thread knows no heads of others.
fn understood(pieces: &[&[u8]], to_heads: u64) -> Vec<Understood> {
    known_answers::forget();
    let (mut buffer, mut rest, mut all) = (BytesMut::new(), pieces.iter(), Vec::new());
    while all.len() < MOST
        && let Some(answer) = next(&mut buffer, rest.by_ref(), to_heads >> all.len() & 1 == 1)
    {
        let behind = buffer.len() + rest.clone().map(|piece| piece.len()).sum::<usize>();
        let ends = !answer.keeps_alive || behind == 0;
        all.push(Understood { behind, ..answer });
        if ends {
            break;
        }
    }
    all
}

/// What another reader finds in a chunked body, and how many bytes are behind it.
fn chunked(mut text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((begin, size))) = httparse::parse_chunk_size(text) else { return None };
        text = &text[begin..];
        let size = usize::try_from(size).ok()?;
        if size == 0 {
            break;
        }
        body.extend_from_slice(text.get(..size)?);
        text = text.get(size..)?.strip_prefix(b"\r\n")?;
    }
    loop {
        let end = text.windows(2).position(|two| two == b"\r\n")?;
        text = &text[end + 2..];
        if end == 0 {
            return Some((body, text.len()));
        }
    }
}

/// The first final head that another reader finds: its status, its fields, and what is behind it.
fn head(mut text: &[u8]) -> Option<(u16, Vec<(String, Vec<u8>)>, &[u8])> {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; 256];
        let mut answer = httparse::Response::new(&mut fields);
        let mut rules = httparse::ParserConfig::default();
        rules.allow_spaces_after_header_name_in_responses(true).allow_obsolete_multiline_headers_in_responses(true);
        let Ok(httparse::Status::Complete(end)) = rules.parse_response(&mut answer, text) else { return None };
        text = &text[end..];
        let status = answer.code?;
        if status >= 200 {
            let fields = answer.headers.iter().map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec())).collect();
            return Some((status, fields, text));
        }
    }
}

/// Where a body ends by the fields of its head.
fn extent(status: u16, fields: &[(String, Vec<u8>)], to_head: bool) -> Extent {
    if to_head || matches!(status, 204 | 304) {
        return Extent::Nothing;
    }
    match (elements(fields, "transfer-encoding").last(), elements(fields, "content-length").first()) {
        (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => Extent::Chunked,
        (Some(_), _) | (None, None) => Extent::UntilClose,
        (None, Some(length)) => match length.parse().expect("a length is a number") {
            0 => Extent::Nothing,
            length => Extent::Length(length),
        },
    }
}

/// The elements of a list in a head.
fn elements(fields: &[(String, Vec<u8>)], name: &str) -> Vec<String> {
    let values = fields.iter().filter(|(other, _)| other == name).map(|(_, value)| String::from_utf8_lossy(value));
    values.flat_map(|value| value.split(',').map(|element| element.trim_ascii().to_owned()).collect::<Vec<_>>()).collect()
}

/// Another reader understands the same of the answer that `text` begins with.
fn check(whole: &Understood, text: &[u8], to_head: bool) {
    let (status, fields, rest) = head(text).expect("another reader finds a head");
    assert_eq!(whole.status, status);
    // One length is left of several that are equal, none beside a transfer coding.
    let others = |fields: &[(String, Vec<u8>)]| -> Vec<_> { fields.iter().filter(|(name, _)| name != "content-length").cloned().collect() };
    assert_eq!(others(&whole.fields), others(&fields));
    assert!(whole.fields.iter().filter(|(name, _)| name == "content-length").count() <= 1);
    assert_eq!(whole.extent, extent(status, &fields, to_head));
    let closes = elements(&fields, "connection").iter().any(|element| element.eq_ignore_ascii_case("close"));
    let both = ["content-length", "transfer-encoding"].iter().all(|name| !elements(&fields, name).is_empty());
    assert!(!whole.keeps_alive || !(closes || both || whole.extent == Extent::UntilClose), "no other answer may follow");
    let (body, behind) = match whole.extent {
        Extent::Nothing => (Vec::new(), rest.len()),
        Extent::Length(length) => {
            let length = usize::try_from(length).expect("it was read");
            (rest[..length].to_vec(), rest.len() - length)
        }
        Extent::Chunked => chunked(rest).expect("another reader finds chunks"),
        Extent::UntilClose => (rest.to_vec(), 0),
    };
    assert_eq!((&whole.body, whole.behind), (&body, behind));
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| { mutate_messages(data, (size, max_size), seed, b"HTTP/1.") });

fuzz_target!(|input: &[u8]| {
    let Some((lengths, text)) = cuts(input) else { return };
    for to_heads in [0, u64::MAX, 0x5555_5555_5555_5555] {
        let all = understood(&[text], to_heads);
        assert_eq!(understood(&pieces(text, lengths), to_heads), all);
        let mut begin = 0;
        for (number, whole) in all.iter().enumerate() {
            let rest = &text[begin..];
            assert_eq!(understood(&[rest], to_heads >> number).first(), Some(whole), "it depends on what came before");
            check(whole, rest, to_heads >> number & 1 == 1);
            begin = text.len() - whole.behind;
        }
        // Nor is one refused because of those before it.
        if all.len() < MOST && all.last().is_none_or(|last| last.keeps_alive) {
            assert_eq!(understood(&[&text[begin..]], to_heads >> all.len()).first(), None);
        }
    }
});
