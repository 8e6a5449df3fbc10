//! Where a connection stands: between requests, in one, or in its answer. The server's guard and the request's stages share it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use crate::clock::Tick;

tokio::task_local! {
    /// Of the connection whose task this is.
    pub(crate) static PHASE: Arc<Phase>;
}

const IDLE: u8 = 0;
const HEAD: u8 = 1;
const REQUEST: u8 = 2;
const ANSWER: u8 = 3;

/// Where a connection stands, shared between its guard and its task.
#[derive(Debug)]
pub struct Phase {
    phase: AtomicU8,
    deadline: AtomicU64,
    /// The body of the request under way is chunked.
    chunked: AtomicBool,
    /// Its chunks, if that is what they are, can be read in two ways; or they did not come by here, since Pingora had
    /// taken them with what came before.
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

    /// Bytes of a head come, if none had; whether it is a new one, with this deadline.
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

    /// Whether a head is under way.
    pub fn is_head(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == HEAD
    }

    /// Whether the body of the request under way is chunked.
    pub fn is_chunked(&self) -> bool {
        self.chunked.load(Ordering::Relaxed)
    }

    /// Whether what came of the body, if that is chunked, can be read in two ways.
    pub fn chunks_are_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::Relaxed);
    }

    /// The head is read; a request is under way.
    pub fn request_begins(&self) {
        self.phase.store(REQUEST, Ordering::Relaxed);
    }

    /// Its body is chunked; whether what came of it already can be read in two ways.
    pub fn body_is_chunked(&self) -> bool {
        self.chunked.store(true, Ordering::Relaxed);
        self.broken.load(Ordering::Relaxed)
    }

    /// Its body is read: whatever comes now is the beginning of the next one, or the end of the connection.
    pub fn body_ends(&self) {
        self.phase.store(ANSWER, Ordering::Relaxed);
    }

    /// The request is over; the next head may come until `deadline`.
    pub fn request_ends(&self, deadline: Tick) {
        self.deadline.store(deadline.0, Ordering::Relaxed);
        self.broken.store(true, Ordering::Relaxed);
        self.phase.store(IDLE, Ordering::Relaxed);
    }

    /// Whether a request is under way, or its answer.
    pub fn is_request(&self) -> bool {
        matches!(self.phase.load(Ordering::Relaxed), REQUEST | ANSWER)
    }

    /// Whether its body is read, and its answer under way.
    pub fn is_answer(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == ANSWER
    }

    /// When the head must be whole, or the connection ends.
    pub fn deadline(&self) -> Tick {
        Tick(self.deadline.load(Ordering::Relaxed))
    }
}

/// Tells the connection's guard that a head was read. Does nothing for HTTP/2 streams, whose
/// tasks are not the connection's own.
pub(crate) fn request_begins() {
    let _ = PHASE.try_with(|phase| phase.request_begins());
}

/// Tells the connection's guard that the body is chunked; whether what came of it already can be read in two ways.
pub(crate) fn body_is_chunked() -> bool {
    PHASE.try_with(|phase| phase.body_is_chunked()).unwrap_or(false)
}

/// Tells the connection's guard that a body was read to its end.
pub(crate) fn body_ends() {
    let _ = PHASE.try_with(|phase| phase.body_ends());
}
