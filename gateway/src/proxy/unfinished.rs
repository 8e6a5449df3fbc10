//! An answer that has not ended: what reads the rest of it, or continues it.

use spillway_plugins::api::Api;
use spillway_plugins::rescue::Continuation;
use spillway_plugins::stream::StreamWatch;
use spillway_plugins::tokens::Metered;

use super::deliver::tap::Tap;
use crate::request::{BufferShare, Metering};

/// An answer that has not ended.
#[derive(Default)]
pub(super) struct Unfinished {
    /// What was reading it when its caller left. Written by `deliver`.
    pub(super) reading: Option<AnswerReader>,
    /// Whether it can be continued if it breaks. Written by `deliver` and `rescue`.
    pub(super) rescue: Option<Rescue>,
}

/// The state of a rescue.
pub(super) enum Rescue {
    /// The stream broke; this continues it.
    Due(Box<Due>),
    /// Another answer is about to be requested: the caller's answer is not the broken one.
    Begins,
    /// A rescue was tried, or is in progress.
    Tried,
}

/// What continues a broken stream, and its share of the buffer budget.
pub(super) struct Due {
    pub(super) continuation: Continuation,
    pub(super) _share: Option<BufferShare>,
}

/// What reads an answer.
pub(super) enum AnswerReader {
    /// A stream's events.
    Stream(Box<StreamWatch>),
    /// Any other answer.
    Plain(Tap),
}

impl AnswerReader {
    /// The answer ends here: notes the usage that it has reported so far.
    pub(super) fn end(self, metering: &mut Metering, api: Api) {
        if let AnswerReader::Stream(mut watch) = self {
            let state = watch.state();
            metering.usage = state.usage(api).filter(|_| state.finished).map(Metered::reported);
            metering.note_served(&state.reported);
            metering.whole = state.finished;
            metering.so_far = state.reported.clone();
            metering.output = watch.take_output();
        }
    }
}

#[cfg(test)]
mod tests;
