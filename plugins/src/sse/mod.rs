//! Splits a byte stream into server-sent events (WHATWG HTML, section 9.2) at any chunk boundary.
//!
//! Events are passed on whole. An event that is longer than what is kept passes in pieces, as they arrive, and is read
//! meanwhile: its fields, and an [`Excerpt`] of its data.

mod event;
mod long;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

#[cfg(doc)]
use crate::excerpt::Excerpt;
use event::ByFunction;
pub use event::{Event, EventReader, Fate};
use long::LongEvent;

/// The longest event that is kept until it is complete, unless a reader asks for more.
pub const KEPT: usize = 64 * 1024;
/// The same for readers that can't work with an excerpt.
pub const MOST_KEPT: usize = 1024 * 1024;

/// Splits chunks into complete events; the unfinished tail waits for its rest.
#[derive(Debug)]
pub struct Splitter {
    tail: BytesMut,
    /// Where the tail's last line begins: everything before it was scanned.
    line: usize,
    /// How far that line was scanned.
    seen: usize,
    /// The longest event that is kept.
    most: usize,
    /// An event that became longer than that: its bytes pass until its end.
    long: Option<Box<LongEvent>>,
    started: bool,
}

impl Default for Splitter {
    fn default() -> Self {
        Splitter::keeping(MOST_KEPT)
    }
}

impl Splitter {
    /// Keeps events of up to `most` bytes until they are complete.
    pub fn keeping(most: usize) -> Self {
        Splitter { tail: BytesMut::new(), line: 0, seen: 0, most, long: None, started: false }
    }

    /// Reads a chunk, calls `event` for every event that it completes, and returns the bytes up to the end of the last
    /// one, without those that `event` drops. Comments complete no event, but are part of the returned bytes. The bytes
    /// of an event that is too long to be kept are returned as they arrive.
    ///
    /// A chunk of complete events is returned without a copy.
    pub fn feed(&mut self, chunk: Bytes, event: impl FnMut(Event<'_>) -> Fate) -> Bytes {
        self.feed_to(&mut ByFunction(event), chunk)
    }

    /// As [`Splitter::feed`], for a reader that may know an event without its parts.
    pub fn feed_to(&mut self, reader: &mut impl EventReader, mut chunk: Bytes) -> Bytes {
        let Some(mut long) = self.long.take() else { return self.feed_short(chunk, reader) };
        let Some(len) = long.take(&chunk) else {
            self.long = Some(long);
            return chunk;
        };
        long.emit(&mut |event| reader.event(event, b""));
        let rest = chunk.split_off(len);
        joined(chunk, self.feed_short(rest, reader))
    }

    fn feed_short(&mut self, chunk: Bytes, reader: &mut impl EventReader) -> Bytes {
        let (mut whole, mut scanned) = if self.tail.is_empty() {
            (chunk, None)
        } else {
            self.tail.extend_from_slice(&chunk);
            let end = block_end(&self.tail, self.line, self.seen);
            if let (Err(line), true) = (end, self.tail.len() <= self.most) {
                (self.line, self.seen) = (line, looked_through(&self.tail));
                return Bytes::new();
            }
            (self.tail.split().freeze(), Some(end))
        };
        let mut done = 0;
        let mut dropped: Vec<Range<usize>> = Vec::new();
        let line = loop {
            let rest = &whole[done..];
            if rest.is_empty() {
                break 0;
            }
            // An event begins here.
            if self.started
                && let Some(len) = reader.known(rest)
            {
                (done, scanned) = (done + len, None);
                continue;
            }
            match scanned.take().unwrap_or_else(|| block_end(rest, 0, 0)) {
                Ok(len) => {
                    if self.emit(&rest[..len], reader) == Fate::Drop {
                        dropped.push(done..done + len);
                    }
                    done += len;
                }
                Err(line) => break line,
            }
        };
        let rest = whole.split_off(done);
        let whole = without(whole, &dropped);
        if rest.len() > self.most {
            let mut begins = &rest[..];
            if !std::mem::replace(&mut self.started, true) {
                begins = begins.strip_prefix(BOM).unwrap_or(begins);
                // A line with only the byte order mark doesn't end an event.
                let blank = begins.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
                begins = &begins[blank..];
            }
            let mut long = Box::new(LongEvent::default());
            // It doesn't end in this chunk.
            long.take(begins);
            self.long = Some(long);
            return joined(whole, rest);
        }
        self.tail.extend_from_slice(&rest);
        (self.line, self.seen) = (line, looked_through(&self.tail));
        whole
    }

    /// Number of bytes that wait for the rest of their event.
    pub fn held(&self) -> usize {
        self.tail.len()
    }

    /// Whether all bytes were returned: the stream is between two events.
    pub fn at_boundary(&self) -> bool {
        self.tail.is_empty() && self.long.is_none()
    }

    /// Whether it is inside an event of which a part was returned already.
    pub fn is_within_event(&self) -> bool {
        self.long.is_some()
    }

    /// Returns the unfinished tail, if the stream ends there and the tail is passed on unchanged.
    pub fn take_tail(&mut self) -> Bytes {
        (self.line, self.seen) = (0, 0);
        self.tail.split().freeze()
    }

    /// The stream has ended: an event that lacks only the blank line is read, too. Returns the bytes that were kept,
    /// unless `event` drops them.
    pub fn finish(&mut self, event: impl FnMut(Event<'_>) -> Fate) -> Bytes {
        self.finish_to(&mut ByFunction(event))
    }

    /// As [`Splitter::finish`].
    pub fn finish_to(&mut self, reader: &mut impl EventReader) -> Bytes {
        if let Some(mut long) = self.long.take() {
            long.take(b"\n");
            long.emit(&mut |event| reader.event(event, b""));
        }
        let tail = self.take_tail();
        if tail.is_empty() {
            return tail;
        }
        let ended = [&tail[..], b"\n\n"].concat();
        if self.emit(&ended, reader) == Fate::Drop { Bytes::new() } else { tail }
    }

    fn emit(&mut self, block: &[u8], reader: &mut impl EventReader) -> Fate {
        let block = if self.started { block } else { block.strip_prefix(BOM).unwrap_or(block) };
        self.started = true;
        parse_block(block).map_or(Fate::Pass, |event| reader.event(event, block))
    }
}

/// A byte order mark, which may be at the beginning.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Two adjacent pieces as one.
fn joined(one: Bytes, other: Bytes) -> Bytes {
    match (one.is_empty(), other.is_empty()) {
        (true, _) => other,
        (_, true) => one,
        _ => [one, other].concat().into(),
    }
}

/// Bytes without these ranges, which are in order.
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

/// Where the first block of lines ends, with the blank line that ends it, if that is there. If not, where its last line
/// begins. `from`: where a line begins; all lines before it were scanned, and that one up to `seen`.
///
/// A CR at the very end is undecided (an LF may follow) unless the line it ends is already blank.
fn block_end(bytes: &[u8], from: usize, seen: usize) -> Result<usize, usize> {
    let (mut at, mut search) = (from, seen.max(from));
    loop {
        let Some(run) = bytes.get(search..).and_then(|rest| memchr2(b'\n', b'\r', rest)) else { return Err(at) };
        let line_end = search + run;
        let next = match (bytes[line_end], bytes.get(line_end + 1)) {
            (b'\r', Some(b'\n')) => line_end + 2,
            // A blank line's end is one, whatever follows; an LF after it is a blank line of its own.
            (b'\r', None) if line_end > at => return Err(at),
            _ => line_end + 1,
        };
        if line_end == at {
            return Ok(next);
        }
        (at, search) = (next, next);
    }
}

/// How far an unfinished block was scanned: a CR at its end is undecided.
fn looked_through(tail: &[u8]) -> usize {
    tail.len() - usize::from(tail.last() == Some(&b'\r'))
}

/// Reads the fields of one block; `None` if it has no `data`.
fn parse_block(block: &[u8]) -> Option<Event<'_>> {
    let mut name: &[u8] = b"";
    let mut data: Option<Cow<'_, [u8]>> = None;
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
    data.map(|data| Event { name, data, cut: None })
}
