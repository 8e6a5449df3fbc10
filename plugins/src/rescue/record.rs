//! What a caller has got of a stream.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use serde_json::Value;

use super::side::{Channel, Difference, Need, Side, channel};
use super::walk::walk;
use crate::api::Api;
use crate::sse::{Fate, MOST_KEPT, Splitter};

/// Bytes that a channel or fact counts in addition to its text.
const EACH: usize = 64;

/// A fact, and whether it must be repeated.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) value: String,
    pub(super) need: Need,
}

/// What was sent, as a caller assembles it.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) texts: HashMap<Channel, String>,
    pub(super) marks: HashMap<Channel, Mark>,
    pub(super) identities: HashMap<Channel, Value>,
    /// Channels that were closed by an event.
    pub(super) closed: HashSet<Channel>,
    /// Arguments that are complete.
    pub(super) complete: HashSet<Channel>,
    /// How choices, items or blocks ended, if they have.
    pub(super) ended: HashMap<u64, String>,
    pub(super) sequence: Option<u64>,
    /// The kind of the last text.
    turns: HashMap<u64, &'static str>,
    size: usize,
}

impl Record {
    /// Whether these arguments are complete.
    fn is_call(kind: &str, text: &str) -> bool {
        kind.contains("arguments") && text.starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    }

    /// Closes the channels of complete arguments.
    fn close_calls(&mut self) {
        let complete = self.texts.iter().filter(|(channel, text)| Self::is_call(&channel.kind, text));
        self.complete = complete.map(|(channel, _)| channel.clone()).collect();
    }
}

/// Records what a caller gets of a stream, so that a second one can continue it.
#[derive(Debug)]
pub struct Sent {
    api: Api,
    splitter: Splitter,
    /// `None` if a second stream can't be compared with it.
    record: Option<Record>,
    most: usize,
}

impl Sent {
    /// For a new stream, of which at most `most` bytes are recorded; `None` if streams of `api` can't be compared.
    pub fn new(api: Api, most: usize) -> Option<Self> {
        api.writes_texts().then(|| Sent { api, splitter: Splitter::keeping(MOST_KEPT), record: Some(Record::default()), most })
    }

    /// Records bytes that are sent to the caller.
    pub fn pass(&mut self, bytes: Bytes) {
        let Self { api, splitter, record, most } = self;
        let Some(known) = record else { return };
        let mut fits = true;
        splitter.feed(bytes, |event| {
            fits = fits && event.cut.is_none() && known.read(*api, event.name, &event.data).is_ok() && known.size <= *most;
            Fate::Pass
        });
        if !fits || splitter.is_within_event() {
            self.give_up();
        }
    }

    /// Forgets everything: no second stream can continue this one.
    pub fn give_up(&mut self) {
        self.record = None;
    }

    /// The number of recorded bytes.
    pub fn size(&self) -> usize {
        self.record.as_ref().map_or(0, |record| record.size)
    }

    /// The record to compare a second stream with, if one can continue it.
    pub(super) fn into_record(self) -> Option<(Api, Record, usize)> {
        let mut record = self.record.filter(|_| self.splitter.at_boundary())?;
        record.close_calls();
        Some((self.api, record, self.most))
    }
}

impl Record {
    fn read(&mut self, api: Api, name: &[u8], data: &[u8]) -> Result<(), Difference> {
        let mut event: Value = serde_json::from_slice(data).map_err(|_| Difference::Unreadable)?;
        self.sequence = event.get("sequence_number").and_then(Value::as_u64).or(self.sequence);
        walk(api, name, &mut event, self).map(drop)
    }
}

impl Side for Record {
    fn text(&mut self, channel: Channel, text: &str) -> Result<usize, Difference> {
        if self.closed.contains(&channel) || self.ended.contains_key(&channel.outer) {
            return Err(Difference::Unreadable);
        }
        self.size += text.len();
        match self.texts.get_mut(&channel) {
            Some(known) => known.push_str(text),
            None => {
                self.size += EACH;
                self.texts.insert(channel, text.to_owned());
            }
        }
        Ok(0)
    }

    fn mark(&mut self, channel: Channel, value: &str, need: Need) -> Result<bool, Difference> {
        match self.marks.get(&channel) {
            Some(known) if known.value == value => Ok(true),
            Some(_) => Err(Difference::Unreadable),
            None => {
                self.size += EACH + value.len();
                self.marks.insert(channel, Mark { value: value.to_owned(), need });
                Ok(false)
            }
        }
    }

    fn closes(&mut self, channel: Channel) -> Result<bool, Difference> {
        self.size += EACH;
        self.closed.insert(channel);
        Ok(false)
    }

    fn ends(&mut self, outer: u64, how: &str) -> Result<bool, Difference> {
        self.size += EACH + how.len();
        self.ended.insert(outer, how.to_owned());
        Ok(false)
    }

    fn turn(&mut self, outer: u64, kind: &'static str) -> Result<(), Difference> {
        match self.turns.insert(outer, kind) {
            Some(before) if before == kind => Ok(()),
            // The calls are all that they will be, but that can't be compared with what was sent of each.
            Some("tool_calls" | "function_call") => Err(Difference::Unreadable),
            _ => self.text(channel(outer, 0, "flow"), &turn(kind)).map(drop),
        }
    }

    fn identity(&mut self, channel: Channel, value: &mut Value) -> Result<(), Difference> {
        let says_nothing = value.is_null() || value.as_str() == Some("") || value.as_u64() == Some(0);
        if !says_nothing && !self.identities.contains_key(&channel) {
            self.size += EACH + value.as_str().map_or(0, str::len);
            self.identities.insert(channel, value.take());
        }
        Ok(())
    }

    fn over(&mut self) -> Result<(), Difference> {
        // Nothing is left to be completed.
        Err(Difference::Unreadable)
    }

    fn foreign(&mut self) -> Result<(), Difference> {
        Err(Difference::Unreadable)
    }
}

/// The separator between texts of two kinds.
pub(super) fn turn(kind: &str) -> String {
    format!("\0{kind}\0")
}
