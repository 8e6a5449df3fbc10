//! Watches a streamed answer: has output begun, is it complete, did it fail inside HTTP 200?
//!
//! The watcher decides what the attempt loop may still do. Until [`StreamState::content`] the held bytes can be dropped
//! and the attempt replaced; after that only an error event and an unfinished transfer can show the caller that the
//! answer is not complete.

mod choices;
mod state;
mod typed;

use bytes::Bytes;

use state::EventKind;
pub use state::StreamState;

use crate::api::Api;
use crate::objects::Made;
use crate::sse::{self, Event, Fate, Splitter};
use crate::tokens::{OutputMeter, is_asked_for};

/// Reads one answer's events.
#[derive(Debug)]
pub struct StreamWatch {
    api: Api,
    splitter: Splitter,
    state: StreamState,
    choices: choices::Choices,
    /// Whether the caller didn't ask for the chunk with the usage: then it is removed.
    hide_usage: bool,
    /// That chunk's data, for the cache.
    hidden: Option<Bytes>,
}

impl StreamWatch {
    /// Watches a new answer of `api` with so many `choices`; `hide_usage`: without the chunk that contains only the
    /// usage.
    pub fn new(api: Api, choices: u64, hide_usage: bool) -> Self {
        let choices = choices::Choices::of(choices);
        let splitter = Splitter::keeping(sse::KEPT);
        StreamWatch { api, splitter, state: StreamState::default(), choices, hide_usage, hidden: None }
    }

    /// Keeps events of up to `most` bytes until they are complete; longer ones pass in pieces.
    pub fn keeping(mut self, most: usize) -> Self {
        self.splitter = Splitter::keeping(most);
        self
    }

    /// Reads a chunk. Returns the bytes of complete events that may be passed on, and the bytes so far of an event that
    /// is too long to be kept.
    pub fn feed(&mut self, chunk: Bytes) -> Bytes {
        let Self { api, splitter, state, choices, hide_usage, hidden } = self;
        splitter.feed(chunk, |event| fate(*api, &event, state, choices, hidden, *hide_usage))
    }

    /// The stream has ended: reads the rest. Returns its bytes that may be passed on.
    pub fn end(&mut self) -> Bytes {
        let Self { api, splitter, state, choices, hide_usage, hidden } = self;
        splitter.finish(|event| fate(*api, &event, state, choices, hidden, *hide_usage))
    }

    /// The state so far.
    pub fn state(&self) -> &StreamState {
        &self.state
    }

    /// The objects made since the last call.
    pub fn take_made(&mut self) -> Made {
        std::mem::take(&mut self.state.made)
    }

    /// The data of the chunk with the usage that was removed.
    pub fn take_hidden(&mut self) -> Option<Bytes> {
        self.hidden.take()
    }

    /// The amount of text so far, for an estimate.
    pub fn take_output(&mut self) -> OutputMeter {
        std::mem::take(&mut self.state.output)
    }

    /// Whether the stream is between two events.
    pub fn at_boundary(&self) -> bool {
        self.splitter.at_boundary()
    }

    /// Whether a part of an event was passed on, and its rest has not arrived yet.
    pub fn is_within_event(&self) -> bool {
        self.splitter.is_within_event()
    }
}

/// Reads an event, and decides whether it is passed on.
fn fate(
    api: Api,
    event: &Event<'_>,
    state: &mut StreamState,
    choices: &mut choices::Choices,
    hidden: &mut Option<Bytes>,
    hide_usage: bool,
) -> Fate {
    let told = read_event(api, event, state, choices);
    if let Some(cut) = event.cut {
        state.output.pass_over(cut);
        return Fate::Pass;
    }
    match told {
        EventKind::UsageOnly if hide_usage => {
            *hidden = Some(Bytes::copy_from_slice(&event.data));
            Fate::Drop
        }
        EventKind::Malformed => {
            state.malformed = state.malformed.saturating_add(1);
            Fate::Drop
        }
        EventKind::UsageOnly | EventKind::Anything => Fate::Pass,
    }
}

fn read_event(api: Api, event: &Event<'_>, state: &mut StreamState, choices: &mut choices::Choices) -> EventKind {
    if event.data.starts_with(b"[DONE]") {
        state.done = true;
        return EventKind::Anything;
    }
    if event.data.is_empty() {
        return EventKind::Anything;
    }
    if is_asked_for(api) {
        return choices::read(&event.data, state, choices);
    }
    if typed::read(api, event, state, choices) { EventKind::Anything } else { EventKind::Malformed }
}

#[cfg(test)]
mod tests;
