//! An answer that has not come to its end: what reads it on, or continues it.

use spillway_plugins::api::Api;
use spillway_plugins::rescue::Continuation;
use spillway_plugins::stream::StreamWatch;
use spillway_plugins::tokens::Metered;

use super::deliver::tap::Tap;
use crate::request::{BufferShare, Metering};

/// An answer that has not come to its end.
#[derive(Default)]
pub(super) struct Unfinished {
    /// What was reading it when its caller left. Written by `deliver`.
    pub(super) reading: Option<Reading>,
    /// Whether it can be continued after a break. Written by `deliver` and `rescue`.
    pub(super) rescue: Option<Rescue>,
}

/// How a request stands with being rescued.
pub(super) enum Rescue {
    /// Its stream broke; this continues it.
    Due(Box<Due>),
    /// Another answer is about to be asked for: what broke is not what the caller gets.
    Begins,
    /// That was tried, or is.
    Tried,
}

/// What continues a broken stream, and its place in the room for bodies.
pub(super) struct Due {
    pub(super) continuation: Continuation,
    pub(super) _share: Option<BufferShare>,
}

/// What reads an answer.
pub(super) enum Reading {
    /// A stream's events.
    Stream(Box<StreamWatch>),
    /// Any other answer.
    Plain(Tap),
}

impl Reading {
    /// It ends here: notes what it has told so far.
    pub(super) fn end(self, metering: &mut Metering, api: Api) {
        if let Reading::Stream(mut watch) = self {
            let (finished, reported) = (watch.state().finished, watch.state().reported);
            metering.usage = reported.usage(api).filter(|_| finished).map(Metered::reported);
            metering.whole = finished;
            metering.so_far = reported;
            metering.output = watch.take_output();
        }
    }
}

#[cfg(test)]
mod tests;
