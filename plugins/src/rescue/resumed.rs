//! The rest of the same response: a backend that still runs it sends its events from any number on.

use bytes::Bytes;

use crate::json::Reader;
use crate::sse::{Fate, MOST_KEPT, Splitter};

/// Reads the rest of a response with numbered events.
#[derive(Debug)]
pub struct Resumed {
    id: String,
    /// The number of the last event that was sent to the caller.
    last: u64,
    splitter: Splitter,
}

impl Resumed {
    /// The response `id`, of which the caller has everything up to the event `last`.
    pub fn new(id: String, last: u64) -> Self {
        Resumed { id, last, splitter: Splitter::keeping(MOST_KEPT) }
    }

    /// The request for the rest: path below the API's root, and query.
    pub fn asks(&self) -> (String, String) {
        (format!("responses/{}", self.id), format!("stream=true&starting_after={}", self.last))
    }

    /// The number of the last event that was sent to the caller.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Reads the next bytes. Returns what is sent to the caller, without events that it has already.
    pub(super) fn feed(&mut self, bytes: Bytes) -> Bytes {
        let Self { last, splitter, .. } = self;
        splitter.feed(bytes, |event| {
            let mut number = None;
            let _ = Reader::new(&event.data).object(|name, value| {
                if name == "sequence_number" {
                    number = value.as_u64(&event.data);
                }
            });
            match number {
                Some(number) if number <= *last => Fate::Drop,
                number => {
                    *last = number.unwrap_or(*last);
                    Fate::Pass
                }
            }
        })
    }

    /// The stream has ended.
    pub(super) fn end(&mut self) -> Bytes {
        let rest = self.splitter.take_tail();
        if rest.is_empty() { rest } else { self.feed([&rest[..], b"\n\n"].concat().into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64) -> String {
        format!("event: x\ndata: {{\"type\":\"x\",\"sequence_number\":{number}}}\n\n")
    }

    #[test]
    fn what_was_sent_comes_once_however_it_is_cut() {
        let all: String = (0..20).map(event).collect();
        let rest: String = (8..20).map(event).collect();
        for from in 0..=8 {
            let stream: String = (from..20).map(event).collect();
            for size in 1..200 {
                let mut resumed = Resumed::new("resp_1".to_owned(), 7);
                let mut out: Vec<u8> =
                    stream.as_bytes().chunks(size).flat_map(|piece| resumed.feed(Bytes::copy_from_slice(piece))).collect();
                out.extend(resumed.end());
                assert_eq!((String::from_utf8(out).unwrap(), resumed.last()), (rest.clone(), 19));
            }
        }
        assert_eq!(Resumed::new("resp_1".to_owned(), 7).asks(), ("responses/resp_1".to_owned(), "stream=true&starting_after=7".to_owned()));
        let mut resumed = Resumed::new("r".to_owned(), 7);
        assert_eq!(resumed.feed(Bytes::from(all.clone().into_bytes())), rest.as_bytes());
        assert_eq!(resumed.feed(Bytes::from(all.into_bytes())), "", "not twice");
    }
}
