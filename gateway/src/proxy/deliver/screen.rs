//! What stays back of a stream under guard until it is long enough to be judged, together with the end of what has passed.

use bytes::Bytes;
use spillway_plugins::guard::{Shape, Spoken};
use spillway_plugins::sse::{Fate, Splitter};

/// Most of a plain answer that is looked at.
pub(super) const LONGEST: usize = 4 << 20;
/// Characters of what has passed that are looked at again with what follows: nothing hides at a cut.
pub(super) const OVERLAP: usize = 200;
/// Bytes of a stream that stay back at most: more is looked at, whatever it says.
pub(super) const PENDING: usize = 256 * 1024;

/// What stays back of a stream.
#[derive(Debug, Default)]
pub(super) struct Screen {
    pub(super) pending: Vec<Bytes>,
    pub(super) length: usize,
    pub(super) splitter: Splitter,
    /// What was said: the end of what has passed, and all that stays back.
    pub(super) said: Spoken,
    /// Something was said since the last look.
    pub(super) news: bool,
    /// Something that stays back can't be read.
    pub(super) unreadable: bool,
    /// Tokens that had come when it was looked at last, about.
    pub(super) looked_at: u64,
    pub(super) shape: Shape,
}

impl Screen {
    pub(super) fn take(&mut self, events: &Bytes, over: bool) {
        let Screen { splitter, said, news, unreadable, .. } = self;
        let mut read = |bytes: Bytes| {
            splitter.feed(bytes, |event| {
                let before = said.heard();
                *unreadable |= said.add(&event.data).is_err();
                *news |= said.heard() > before;
                Fate::Pass
            });
        };
        read(events.clone());
        if over {
            // An end that nobody wrote: clients may read it all the same.
            read(Bytes::from_static(b"\n\n"));
        }
        // What comes are whole events, but for one that is longer than any is read.
        self.unreadable |= !self.splitter.at_boundary();
        if !events.is_empty() {
            self.length += events.len();
            self.pending.push(events.clone());
        }
    }

    /// All that stays back: it has passed.
    pub(super) fn release(&mut self) -> Bytes {
        self.length = 0;
        self.news = false;
        self.unreadable = false;
        self.said = std::mem::take(&mut self.said).ends(OVERLAP);
        let whole: Bytes = std::mem::take(&mut self.pending).concat().into();
        Splitter::default().feed(whole.clone(), |event| {
            self.shape.note(&event.data);
            Fate::Pass
        });
        whole
    }
}

#[cfg(test)]
mod tests;
