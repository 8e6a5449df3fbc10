//! Watches a streamed answer: has output begun, is it complete, did it fail inside HTTP 200?
//!
//! The watcher decides what the attempt loop may still do. Until [`StreamState::content`] the held bytes can be dropped
//! and the attempt replaced; after that only an error event and an unfinished transfer can show the caller that the
//! answer is not complete.

mod choices;
mod shape;
mod state;
mod typed;

use bytes::Bytes;

use shape::{Found, Shapes};
use state::EventKind;
pub use state::StreamState;

use crate::api::Api;
use crate::json::{Kind, Value};
use crate::objects::Made;
use crate::sse::{self, Event, EventReader, Fate, Splitter};
use crate::tokens::{OutputMeter, is_asked_for};

/// Reads one answer's events.
#[derive(Debug)]
pub struct StreamWatch {
    splitter: Splitter,
    reading: Reading,
}

/// What reads the events.
#[derive(Debug)]
struct Reading {
    api: Api,
    state: StreamState,
    choices: choices::Choices,
    /// Whether the caller didn't ask for the chunk with the usage: then it is removed.
    hide_usage: bool,
    /// That chunk's data, for the cache.
    hidden: Option<Bytes>,
    /// The form that most events have.
    shapes: Shapes,
}

impl StreamWatch {
    /// Watches a new answer of `api` with so many `choices`; `hide_usage`: without the chunk that contains only the
    /// usage.
    pub fn new(api: Api, choices: u64, hide_usage: bool) -> Self {
        let choices = choices::Choices::of(choices);
        let reading = Reading { api, state: StreamState::default(), choices, hide_usage, hidden: None, shapes: Shapes::default() };
        StreamWatch { splitter: Splitter::keeping(sse::KEPT), reading }
    }

    /// Keeps events of up to `most` bytes until they are complete; longer ones pass in pieces.
    pub fn keeping(mut self, most: usize) -> Self {
        self.splitter = Splitter::keeping(most);
        self
    }

    /// Also notes the name of the answer if its API names stored ones only then.
    pub fn storing(mut self, stores: bool) -> Self {
        self.reading.state.stored = stores;
        self
    }

    /// Reads a chunk. Returns the bytes of complete events that may be passed on, and the bytes so far of an event that
    /// is too long to be kept.
    pub fn feed(&mut self, chunk: Bytes) -> Bytes {
        self.splitter.feed_to(&mut self.reading, chunk)
    }

    /// The stream has ended: reads the rest. Returns its bytes that may be passed on.
    pub fn end(&mut self) -> Bytes {
        self.splitter.finish_to(&mut self.reading)
    }

    /// The state so far.
    pub fn state(&self) -> &StreamState {
        &self.reading.state
    }

    /// The objects made since the last call.
    pub fn take_made(&mut self) -> Made {
        std::mem::take(&mut self.reading.state.made)
    }

    /// The data of the chunk with the usage that was removed.
    pub fn take_hidden(&mut self) -> Option<Bytes> {
        self.reading.hidden.take()
    }

    /// The amount of text so far, for an estimate.
    pub fn take_output(&mut self) -> OutputMeter {
        std::mem::take(&mut self.reading.state.output)
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

impl EventReader for Reading {
    fn known(&mut self, bytes: &[u8]) -> Option<usize> {
        let event = self.shapes.fit(bytes)?;
        self.state.content = true;
        self.state.sequence = event.number.or(self.state.sequence);
        self.state.output.push(bytes, &Value { kind: Kind::String, range: event.text });
        Some(event.length)
    }

    fn event(&mut self, event: Event<'_>, block: &[u8]) -> Fate {
        let mut found = Found::default();
        let kind = self.read(&event, &mut found);
        if let Some(cut) = event.cut {
            self.state.output.pass_over(cut);
            return Fate::Pass;
        }
        match kind {
            EventKind::UsageOnly if self.hide_usage => {
                self.hidden = Some(Bytes::copy_from_slice(&event.data));
                Fate::Drop
            }
            EventKind::Malformed => {
                self.state.malformed = self.state.malformed.saturating_add(1);
                Fate::Drop
            }
            EventKind::UsageOnly => Fate::Pass,
            EventKind::Anything => {
                self.shapes.learn(block, &event.data, &found);
                Fate::Pass
            }
        }
    }
}

impl Reading {
    /// Reads an event, and notes what is `found` in it.
    fn read(&mut self, event: &Event<'_>, found: &mut Found) -> EventKind {
        if event.data.starts_with(b"[DONE]") {
            self.state.done = true;
            return EventKind::Anything;
        }
        if event.data.is_empty() {
            return EventKind::Anything;
        }
        if is_asked_for(self.api) {
            return choices::read(&event.data, &mut self.state, &mut self.choices, found);
        }
        if typed::read(self.api, event, &mut self.state, &mut self.choices, found) { EventKind::Anything } else { EventKind::Malformed }
    }
}

#[cfg(test)]
mod tests;
