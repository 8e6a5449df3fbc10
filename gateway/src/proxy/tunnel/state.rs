//! What is known of a request on Pingora's loop, between its hooks.

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
    /// What was read of an upload before its model was known; `None` for a WebSocket.
    pub(super) upload: Option<ReplayBody>,
    pub(super) prefix_due: bool,
    pub(super) retry_state: Option<RetryState>,
    pub(super) attempt: Option<AttemptState>,
    /// Reads on in an upload's form, so that nothing in its rest is what the gateway has not seen.
    pub(super) form: Option<FormReader>,
    /// What the caller gets if this ends without an answer.
    pub(super) refusal: Option<Refusal>,
    pub(super) answered: bool,
    /// How the attempt went, by the answer's head.
    pub(super) judged: AttemptOutcome,
    /// The beginning of an answer that names what is stored.
    pub(super) made: Vec<u8>,
    /// What reads an answer for its usage.
    pub(super) answer: Option<Tap>,
    /// What reads a socket's frames for its turns' usage.
    pub(super) tap: SocketTap,
    /// What reads what its caller says, and the room for it.
    pub(super) said: SocketReader,
    pub(super) said_room: Option<BufferShare>,
    /// Why the gateway has ended a socket: nothing passes any more, in either direction.
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
            form,
            refusal: None,
            answered: false,
            judged: AttemptOutcome::Ok,
            made: Vec::new(),
            answer: None,
            tap: SocketTap::default(),
            said: SocketReader::default(),
            said_room: None,
            ended: None,
        }
    }

    /// A WebSocket.
    pub fn web_socket() -> Self {
        Tunnel::new(None, None)
    }

    /// An upload of which `prefix` was read, and its form by `form`, if it is one that is acted on.
    pub fn upload(prefix: ReplayBody, form: Option<FormReader>) -> Self {
        Tunnel::new(Some(prefix), form)
    }
}
