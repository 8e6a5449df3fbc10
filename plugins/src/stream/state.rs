//! What is known of a stream, and what an event tells.

use crate::objects::Made;
use crate::retry::{Fault, classify_event};
use crate::tokens::{OutputMeter, Reported};

/// What is known of a stream so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamState {
    /// An event with output was seen: the attempt must be committed to.
    pub content: bool,
    /// The answer is whole: every choice has its finish reason, or the terminal event came.
    pub finished: bool,
    /// The API's own last event came (`[DONE]`, `message_stop`, `response.completed`, `response.failed`): nothing that
    /// matters follows.
    pub done: bool,
    /// The upstream said that it failed.
    pub fault: Option<Fault>,
    /// What was made since it was last taken: the response, its items.
    pub made: Made,
    /// The token counts that were reported so far.
    pub reported: Reported,
    /// How much text has come.
    pub output: OutputMeter,
    /// Events that were left out since they are no JSON: strict readers break at one.
    pub malformed: u32,
    /// The response's name, once it is told.
    pub response: Option<String>,
    /// Sequence number of the last typed event, for an error event that continues the count.
    pub sequence: Option<u64>,
}

/// What an event tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Anything,
    /// The usage, and nothing else.
    UsageOnly,
    /// Nothing that could be read.
    Malformed,
}

/// Turns an `error` value into the fault it reports.
pub(super) fn fault_of(data: &[u8]) -> Fault {
    classify_event(data)
}
