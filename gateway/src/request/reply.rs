//! What the caller has received.

/// How a request ended. Written by the stage that ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum End {
    /// It has not ended, or its end was not seen: the caller's connection was closed.
    #[default]
    CallerLeft,
    /// The caller received a whole answer.
    Complete,
    /// The gateway itself answered.
    Refused(&'static str),
    /// The last resort answered.
    LastResort,
    /// The answer broke after its first byte, and the caller got an error event.
    Cut,
}

/// What the caller has received so far.
#[derive(Debug, Default)]
pub struct Reply {
    /// The status. Written with the head.
    pub status: Option<u16>,
    /// Whether the answer is a stream.
    pub streamed: bool,
    /// Bytes of the answer's body.
    pub bytes_out: usize,
    /// How it ended.
    pub end: End,
    /// Result of continuing a broken stream, if that was tried.
    pub rescued: Option<&'static str>,
}
