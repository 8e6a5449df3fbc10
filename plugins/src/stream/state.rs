//! The state of a stream, and the result of reading an event.

use super::shape::Found;
use crate::api::Api;
use crate::json::{Kind, Value};
use crate::objects::Made;
use crate::retry::{Fault, classify_event};
use crate::tokens::{OutputMeter, Reported, Usage};

/// The state of a stream so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamState {
    /// An event with output was seen: the attempt must be committed to.
    pub content: bool,
    /// The answer is complete: every choice has its finish reason, or the final event came.
    pub finished: bool,
    /// The API's own last event came (`[DONE]`, `message_stop`, `response.completed`, `response.failed`): nothing
    /// relevant follows.
    pub done: bool,
    /// The upstream reported a failure.
    pub fault: Option<Fault>,
    /// Whether the answer is stored under its own name although its API stores none otherwise: a message of a thread.
    pub stored: bool,
    /// Objects made since the last call: the response, its items.
    pub made: Made,
    /// The token counts that were reported so far.
    pub reported: Reported,
    /// The amount of text so far.
    pub output: OutputMeter,
    /// Events that were left out because they are not JSON: strict readers fail at them.
    pub malformed: u32,
    /// The response's id, once it is known.
    pub response: Option<String>,
    /// Sequence number of the last typed event, for an error event that continues the count.
    pub sequence: Option<u64>,
}

impl StreamState {
    /// The usage, if all of it was reported. Nothing is no report of the text that was seen.
    pub fn usage(&self, api: Api) -> Option<Usage> {
        self.reported.usage(api).filter(|usage| usage.output > 0 || !api.writes_texts() || self.output.is_empty())
    }

    /// Measures a value that is output, if it is a text.
    pub(super) fn output(&mut self, data: &[u8], value: &Value, found: &mut Found) {
        if value.kind == Kind::String {
            found.text(value);
            self.output.push(data, value);
        }
    }
}

/// The result of reading an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EventKind {
    Anything,
    /// Only the usage.
    UsageOnly,
    /// It could not be read.
    Malformed,
}

/// The fault that an `error` value means.
pub(super) fn fault_of(data: &[u8]) -> Fault {
    classify_event(data)
}
