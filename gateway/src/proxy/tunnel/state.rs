//! The state of a request on Pingora's loop, between its hooks.

use spillway_plugins::multipart::FormReader;
use spillway_plugins::realtime::SocketReader;
use spillway_plugins::tokens::SocketTap;

use crate::attempt_outcome::AttemptOutcome;
use crate::proxy::attempt_state::AttemptState;
use crate::proxy::deliver::tap::Tap;
use crate::proxy::refusal::Refusal;
use crate::proxy::retry_state::RetryState;
use crate::request::{BufferShare, ReplayBody};

/// A request on Pingora's loop.
pub struct Tunnel {
    /// The part of an upload that was read before its model was known; `None` for a WebSocket.
    pub(super) upload: Option<ReplayBody>,
    pub(super) prefix_due: bool,
    pub(super) retry_state: Option<RetryState>,
    pub(super) attempt: Option<AttemptState>,
    /// The number of the token that the attempt sent.
    pub(super) token: u64,
    /// Reads the rest of an upload's form, so that no part of it is unchecked.
    pub(super) form: Option<FormReader>,
    /// The refusal for the caller if this ends without an answer.
    pub(super) refusal: Option<Refusal>,
    pub(super) answered: bool,
    /// The attempt's outcome, according to the answer's head.
    pub(super) judged: AttemptOutcome,
    /// The beginning of an answer that names stored objects.
    pub(super) made: Vec<u8>,
    /// Reads the usage in an answer.
    pub(super) answer: Option<Tap>,
    /// Reads the usage of a socket's turns in its frames.
    pub(super) tap: SocketTap,
    /// Reads the caller's messages, and holds their share of the budget.
    pub(super) said: SocketReader,
    pub(super) said_room: Option<BufferShare>,
    /// Whether a side of a socket has ended: the caller's, and the backend's before it.
    pub(super) caller_ended: bool,
    pub(super) backend_ended: bool,
    /// Why the gateway has closed a socket: nothing passes any more, in either direction.
    pub(super) ended: Option<&'static str>,
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnel").field("answered", &self.answered).finish_non_exhaustive()
    }
}

impl Tunnel {
    fn new(upload: Option<ReplayBody>, form: Option<FormReader>) -> Self {
        Tunnel {
            upload,
            prefix_due: false,
            retry_state: None,
            attempt: None,
            token: 0,
            form,
            refusal: None,
            answered: false,
            judged: AttemptOutcome::Ok,
            made: Vec::new(),
            answer: None,
            tap: SocketTap::default(),
            said: SocketReader::default(),
            said_room: None,
            caller_ended: false,
            backend_ended: false,
            ended: None,
        }
    }

    /// Whether the backend has broken a socket off: it `failed` or ended before anybody said that the socket is closed.
    pub(super) fn is_broken_off(&self, failed: bool) -> bool {
        let closed = self.tap.has_closed() || self.said.has_closed() || self.caller_ended;
        (failed || self.backend_ended) && !closed
    }

    /// A WebSocket.
    pub fn web_socket() -> Self {
        Tunnel::new(None, None)
    }

    /// An upload of which `prefix` was read. `form` has read its form, if the form's fields are used.
    pub fn upload(prefix: ReplayBody, form: Option<FormReader>) -> Self {
        Tunnel::new(Some(prefix), form)
    }
}
