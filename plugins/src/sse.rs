//! Splits a byte stream into server-sent events (WHATWG HTML, section 9.2) at any chunk boundary.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

/// An event longer than this is passed on unread, so that memory stays flat whatever arrives.
pub const MAX_EVENT: usize = 1024 * 1024;

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is passed on.
    Pass,
    /// It is taken out.
    Drop,
}

/// One event: the bytes of its `data` and `event` fields.
#[derive(Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The `event` field's value, empty if there is none.
    pub name: &'a [u8],
    /// The `data` field's value; several lines are joined with LF.
    pub data: std::borrow::Cow<'a, [u8]>,
}

/// Cuts chunks into whole events; the unfinished tail waits for its rest.
#[derive(Debug, Default)]
pub struct Splitter {
    tail: BytesMut,
    /// Inside an event that outgrew [`MAX_EVENT`]: bytes pass until its end.
    oversized: bool,
    started: bool,
}

impl Splitter {
    /// Takes a chunk, calls `event` for every event that it completes, and returns the bytes up
    /// to the end of the last one, without those that `event` drops. Comments complete nothing, but
    /// are part of the returned bytes.
    ///
    /// A chunk of whole events is returned as it came, without a copy.
    pub fn feed(&mut self, chunk: Bytes, mut event: impl FnMut(Event<'_>) -> Fate) -> Bytes {
        if self.oversized {
            return self.pass_oversized(chunk, event);
        }
        let mut whole = if self.tail.is_empty() {
            chunk
        } else {
            self.tail.extend_from_slice(&chunk);
            self.tail.split().freeze()
        };
        let mut done = 0;
        let mut dropped: Vec<Range<usize>> = Vec::new();
        while let Some(len) = block_len(&whole[done..]) {
            if self.emit(&whole[done..done + len], &mut event) == Fate::Drop {
                dropped.push(done..done + len);
            }
            done += len;
        }
        let rest = whole.split_off(done);
        let whole = without(whole, &dropped);
        if rest.len() > MAX_EVENT {
            self.oversized = true;
            return if whole.is_empty() { rest } else { [whole, rest].concat().into() };
        }
        self.tail.extend_from_slice(&rest);
        whole
    }

    /// Whether every byte handed in was handed out: the stream stands between two events.
    pub fn at_boundary(&self) -> bool {
        self.tail.is_empty() && !self.oversized
    }

    /// Gives up the unfinished tail, for an end of stream at which it is passed on as it is.
    pub fn take_tail(&mut self) -> Bytes {
        self.tail.split().freeze()
    }

    fn pass_oversized(&mut self, mut chunk: Bytes, event: impl FnMut(Event<'_>) -> Fate) -> Bytes {
        match block_len(&chunk) {
            None => chunk,
            Some(len) => {
                self.oversized = false;
                let rest = chunk.split_off(len);
                let more = self.feed(rest, event);
                if more.is_empty() { chunk } else { [chunk, more].concat().into() }
            }
        }
    }

    fn emit(&mut self, block: &[u8], event: &mut impl FnMut(Event<'_>) -> Fate) -> Fate {
        let block = if self.started { block } else { block.strip_prefix(b"\xef\xbb\xbf").unwrap_or(block) };
        self.started = true;
        parse_block(block).map_or(Fate::Pass, event)
    }
}

/// Bytes without these ranges, which follow each other.
fn without(bytes: Bytes, dropped: &[Range<usize>]) -> Bytes {
    if dropped.is_empty() {
        return bytes;
    }
    let mut kept = BytesMut::with_capacity(bytes.len());
    let mut at = 0;
    for range in dropped {
        kept.extend_from_slice(&bytes[at..range.start]);
        at = range.end;
    }
    kept.extend_from_slice(&bytes[at..]);
    kept.freeze()
}

/// Length of the first block of lines including the blank line that ends it.
///
/// A CR at the very end is undecided (an LF may follow) unless the line it ends is already blank.
fn block_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line_end = at + memchr2(b'\n', b'\r', bytes.get(at..)?)?;
        let next = match (bytes[line_end], bytes.get(line_end + 1)) {
            (b'\r', Some(b'\n')) => line_end + 2,
            // The end of a blank line is one whatever follows; an LF that does is a blank line of its own.
            (b'\r', None) if line_end > at => return None,
            _ => line_end + 1,
        };
        if line_end == at {
            return Some(next);
        }
        at = next;
    }
}

/// Reads the fields of one block; `None` if it holds no `data`.
fn parse_block(block: &[u8]) -> Option<Event<'_>> {
    let mut name: &[u8] = b"";
    let mut data: Option<std::borrow::Cow<'_, [u8]>> = None;
    let mut rest = block;
    while let Some(end) = memchr2(b'\n', b'\r', rest) {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        let (field, value) = match memchr::memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => match &mut data {
                None => data = Some(value.into()),
                Some(joined) => {
                    let joined = joined.to_mut();
                    joined.push(b'\n');
                    joined.extend_from_slice(value);
                }
            },
            b"event" => name = value,
            _ => {}
        }
    }
    data.map(|data| Event { name, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(chunks: impl IntoIterator<Item = Vec<u8>>) -> (Vec<(String, String)>, Vec<u8>, Splitter) {
        let (mut splitter, mut events, mut out) = (Splitter::default(), Vec::new(), Vec::new());
        for chunk in chunks {
            let whole = splitter.feed(chunk.into(), |event| {
                events.push((String::from_utf8_lossy(event.name).into(), String::from_utf8_lossy(&event.data).into()));
                Fate::Pass
            });
            out.extend_from_slice(&whole);
        }
        (events, out, splitter)
    }

    const STREAM: &str = "\u{feff}: hello\n\ndata: one\n\nevent: x\r\ndata:two\r\ndata: three\r\n\r\nid: 7\rdata\r\r: ping\n\ndata: \u{e9}\u{1f600}\n\nretry: 5\n\n";

    fn expected() -> Vec<(String, String)> {
        [("", "one"), ("x", "two\nthree"), ("", ""), ("", "\u{e9}\u{1f600}")].map(|(n, d)| (n.to_owned(), d.to_owned())).to_vec()
    }

    #[test]
    fn reads_every_line_ending() {
        let (events, out, splitter) = run([STREAM.as_bytes().to_vec()]);
        assert_eq!(events, expected());
        assert_eq!(out, STREAM.as_bytes());
        assert!(splitter.at_boundary());
    }

    #[test]
    fn a_whole_chunk_is_not_copied() {
        let chunk = Bytes::from_static(b"data: a\n\ndata: b\n\n");
        let mut splitter = Splitter::default();
        assert_eq!(splitter.feed(chunk.clone(), |_| Fate::Pass).as_ptr(), chunk.as_ptr());
    }

    #[test]
    fn events_can_be_taken_out() {
        let text = b": c\n\ndata: a\n\ndata: drop\n\ndata: b\n\ndata: drop\n\n";
        for size in 1..text.len() {
            let (mut splitter, mut out) = (Splitter::default(), Vec::new());
            for piece in text.chunks(size) {
                let fate = |event: Event<'_>| if &*event.data == b"drop" { Fate::Drop } else { Fate::Pass };
                out.extend_from_slice(&splitter.feed(Bytes::copy_from_slice(piece), fate));
            }
            assert_eq!(out, b": c\n\ndata: a\n\ndata: b\n\n", "pieces of {size}");
        }
    }

    #[test]
    fn an_unfinished_event_waits() {
        let (events, out, mut splitter) = run([b"data: a\n\ndata: b".to_vec()]);
        assert_eq!(events.len(), 1);
        assert_eq!(out, b"data: a\n\n");
        assert!(!splitter.at_boundary());
        assert_eq!(&splitter.take_tail()[..], b"data: b");
    }

    #[test]
    fn an_oversized_event_passes_and_the_next_is_read() {
        let mut long = b"data: ".to_vec();
        long.extend(vec![b'x'; MAX_EVENT + 10]);
        let (events, out, splitter) = run([long.clone(), b"yy\n\ndata: next\n\n".to_vec()]);
        assert_eq!(events, [(String::new(), "next".to_owned())]);
        assert_eq!(out.len(), long.len() + 16);
        assert!(splitter.at_boundary());
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_events_and_bytes(cuts in proptest::collection::vec(0..STREAM.len(), 0..12)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let (events, out, splitter) = run(cuts.windows(2).map(|w| STREAM.as_bytes()[w[0]..w[1]].to_vec()));
            prop_assert_eq!(events, expected());
            prop_assert_eq!(out, STREAM.as_bytes());
            prop_assert!(splitter.at_boundary());
        }
    }
}
