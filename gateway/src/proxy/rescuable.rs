//! A stream that may be continued if it breaks.

use bytes::Bytes;
use spillway_plugins::api::Api;
use spillway_plugins::rescue::{Continuation, Resumed, Sent, Splice};
use spillway_plugins::stream::StreamState;

use super::unfinished::{Due, Unfinished};
use crate::gateway::Gateway;
use crate::request::{BufferShare, ModelRequest, RequestBody};

/// How a stream may be continued.
pub(super) enum Rescuable {
    /// By another one: what was sent, and its place in the room for bodies.
    Again(Box<(Sent, BufferShare)>),
    /// By the rest of the same response, which runs on where it is: its name, and the number of the last event that was sent.
    Same(Option<(String, u64)>),
}

impl Rescuable {
    /// Of a stream that begins; `None` if it is not to be continued.
    pub(super) fn new(gateway: &Gateway, body: &RequestBody, unfinished: &Unfinished, model_request: &ModelRequest) -> Option<Self> {
        let most = model_request.pool.config.rescue?;
        if unfinished.rescue.is_some() || model_request.object.is_some() {
            return None;
        }
        if model_request.api == Api::Responses && model_request.stores && model_request.fields.references.background {
            return Some(Rescuable::Same(None));
        }
        // A response that is stored has another name at each backend: what refers to it later must find it.
        let may = body.kept.is_some() && !model_request.stores && !model_request.is_pinned() && !model_request.sealed;
        let sent = Sent::new(model_request.api, most).filter(|_| may)?;
        Some(Rescuable::Again(Box::new((sent, BufferShare::new(&gateway.buffered)))))
    }

    /// Notes what was sent, after which the stream is in this state; whether it can still be continued.
    pub(super) fn push(&mut self, events: &Bytes, state: &StreamState) -> bool {
        match self {
            Rescuable::Again(kept) => {
                let (sent, share) = &mut **kept;
                sent.pass(events.clone());
                share.covers(sent.size())
            }
            Rescuable::Same(known) => {
                match (known.as_mut(), &state.response, state.sequence) {
                    (Some((_, last)), _, Some(sequence)) => *last = sequence,
                    (None, Some(response), Some(sequence)) => *known = Some((response.clone(), sequence)),
                    _ => {}
                }
                true
            }
        }
    }

    /// What continues it, if anything can.
    pub(super) fn continuation(self) -> Option<Box<Due>> {
        Some(Box::new(match self {
            Rescuable::Again(kept) => {
                let (sent, share) = *kept;
                Due { continuation: Continuation::Again(Box::new(Splice::new(sent)?)), _share: Some(share) }
            }
            Rescuable::Same(known) => {
                let (response, last) = known?;
                Due { continuation: Continuation::Same(Resumed::new(response, last)), _share: None }
            }
        }))
    }
}

#[cfg(test)]
mod tests;
