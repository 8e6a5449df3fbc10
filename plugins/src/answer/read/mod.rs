//! Assembles streams, also incomplete ones.

mod choices;
mod event;
mod merge;
mod messages;
mod responses;

use crate::api::Api;

pub(super) use event::Read;

/// Reads a stream. `None` if this API has none, or if it contains no useful event.
pub(super) fn stream(api: Api, events: &[u8]) -> Option<Read> {
    match api {
        Api::Chat => choices::read(events, choices::Form::Message),
        Api::Completions => choices::read(events, choices::Form::Text),
        Api::Responses => responses::read(events),
        Api::Messages => messages::read(events),
        _ => None,
    }
}
