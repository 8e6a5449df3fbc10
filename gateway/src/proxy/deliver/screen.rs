//! Holds events of a stream back until there is enough text for the guard to judge, together with the end of what was
//! already sent.

use bytes::Bytes;
use spillway_plugins::guard::{AnswerText, StreamEnding};
use spillway_plugins::sse::{Fate, Splitter};

/// Longest plain answer that is checked.
pub(super) const LONGEST: usize = 4 << 20;
/// Characters of the text already sent that are checked again with the text that follows, so that nothing can hide at
/// the boundary.
pub(super) const OVERLAP: usize = 200;
/// Most bytes of a stream that are held back. When there are more, they are checked, however little text they have.
pub(super) const PENDING: usize = 256 * 1024;

/// Events of a stream that are held back.
#[derive(Debug, Default)]
pub(super) struct StreamScreen {
    pub(super) pending: Vec<Bytes>,
    pub(super) length: usize,
    pub(super) splitter: Splitter,
    /// The answer's text: the end of what was sent, and all that is held back.
    pub(super) said: AnswerText,
    /// Text came since the last check.
    pub(super) news: bool,
    /// An event that is held back can't be read.
    pub(super) unreadable: bool,
    /// Approximate number of output tokens at the last check.
    pub(super) looked_at: u64,
    pub(super) ending: StreamEnding,
}

impl StreamScreen {
    pub(super) fn take(&mut self, events: &Bytes, over: bool) {
        let StreamScreen { splitter, said, news, unreadable, .. } = self;
        let mut read = |bytes: Bytes| {
            splitter.feed(bytes, |event| {
                let before = said.bytes();
                *unreadable |= said.add(&event.data).is_err();
                *news |= said.bytes() > before;
                Fate::Pass
            });
        };
        read(events.clone());
        if over {
            // The end of the last event is missing; clients may read it all the same.
            read(Bytes::from_static(b"\n\n"));
        }
        // Only whole events arrive here, except one that is too long to be read.
        self.unreadable |= !self.splitter.at_boundary();
        if !events.is_empty() {
            self.length += events.len();
            self.pending.push(events.clone());
        }
    }

    /// Everything that is held back: it passed the check.
    pub(super) fn release(&mut self) -> Bytes {
        self.length = 0;
        self.news = false;
        self.unreadable = false;
        self.said = std::mem::take(&mut self.said).ends(OVERLAP);
        let whole: Bytes = std::mem::take(&mut self.pending).concat().into();
        Splitter::default().feed(whole.clone(), |event| {
            self.ending.note(&event.data);
            Fate::Pass
        });
        whole
    }
}

#[cfg(test)]
mod tests;
