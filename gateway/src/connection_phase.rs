//! The phase of a connection: idle, reading a head, reading a body, or answering. The server's guard and the request's
//! stages share it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use crate::clock::Tick;

tokio::task_local! {
    /// The phase of the connection that this task serves.
    pub(crate) static PHASE: Arc<Phase>;
}

const IDLE: u8 = 0;
const HEAD: u8 = 1;
const REQUEST: u8 = 2;
const ANSWER: u8 = 3;

/// The phase of a connection, shared between its guard and its task.
#[derive(Debug)]
pub struct Phase {
    phase: AtomicU8,
    deadline: AtomicU64,
    /// The body of the current request is chunked.
    chunked: AtomicBool,
    /// The bytes of the body, if it is chunked, can be read in two ways; or the guard didn't see them, because Pingora
    /// read them together with the head.
    broken: AtomicBool,
}

impl Phase {
    /// A connection that has just been accepted.
    pub fn new(deadline: Tick) -> Arc<Self> {
        Arc::new(Phase {
            phase: AtomicU8::new(IDLE),
            deadline: AtomicU64::new(deadline.0),
            chunked: AtomicBool::new(false),
            broken: AtomicBool::new(true),
        })
    }

    /// A connection on which a head has begun, with this deadline.
    pub fn in_head(deadline: Tick) -> Arc<Self> {
        let phase = Phase::new(deadline);
        phase.phase.store(HEAD, Ordering::Relaxed);
        phase
    }

    /// Bytes of a head arrive. Starts a new head with this deadline if none had begun; returns whether it did.
    pub fn head_begins(&self, deadline: impl FnOnce() -> Tick) -> bool {
        let begins = self.phase.compare_exchange(IDLE, HEAD, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if begins {
            self.deadline.store(deadline().0, Ordering::Relaxed);
            self.chunked.store(false, Ordering::Relaxed);
        }
        begins
    }

    /// A head of an HTTP/2 connection begins, with this deadline.
    pub fn http2_head_begins(&self, deadline: Tick) {
        self.deadline.store(deadline.0, Ordering::Relaxed);
        self.phase.store(HEAD, Ordering::Relaxed);
    }

    /// Whether a head is being read.
    pub fn is_head(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == HEAD
    }

    /// Whether the body of the current request is chunked.
    pub fn is_chunked(&self) -> bool {
        self.chunked.load(Ordering::Relaxed)
    }

    /// Sets whether the bytes of the body so far, if it is chunked, can be read in two ways.
    pub fn chunks_are_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::Relaxed);
    }

    /// The head has been read; a request begins.
    pub fn request_begins(&self) {
        self.phase.store(REQUEST, Ordering::Relaxed);
    }

    /// The request's body is chunked. Returns whether the bytes so far can be read in two ways.
    pub fn body_is_chunked(&self) -> bool {
        self.chunked.store(true, Ordering::Relaxed);
        self.broken.load(Ordering::Relaxed)
    }

    /// The request's body has been read: what follows is the next request, or the end of the connection.
    pub fn body_ends(&self) {
        self.phase.store(ANSWER, Ordering::Relaxed);
    }

    /// The request is over; the next head may come until `deadline`.
    pub fn request_ends(&self, deadline: Tick) {
        self.deadline.store(deadline.0, Ordering::Relaxed);
        self.broken.store(true, Ordering::Relaxed);
        self.phase.store(IDLE, Ordering::Relaxed);
    }

    /// Whether a request is being read or answered.
    pub fn is_request(&self) -> bool {
        matches!(self.phase.load(Ordering::Relaxed), REQUEST | ANSWER)
    }

    /// Whether the request's body has been read, and its answer is under way.
    pub fn is_answer(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == ANSWER
    }

    /// When the head must be complete; otherwise the connection ends.
    pub fn deadline(&self) -> Tick {
        Tick(self.deadline.load(Ordering::Relaxed))
    }
}

/// Reports to the connection's guard that a head was read. Does nothing for HTTP/2 streams, whose tasks are not the
/// connection's own.
pub(crate) fn request_begins() {
    let _ = PHASE.try_with(|phase| phase.request_begins());
}

/// Reports to the connection's guard that the body is chunked. Returns whether the bytes so far can be read in two
/// ways.
pub(crate) fn body_is_chunked() -> bool {
    PHASE.try_with(|phase| phase.body_is_chunked()).unwrap_or(false)
}

/// Reports to the connection's guard that a body was read to its end.
pub(crate) fn body_ends() {
    let _ = PHASE.try_with(|phase| phase.body_ends());
}
