//! What the caller gets.

/// How a request ended. Written by whoever ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum End {
    /// It hasn't, or nobody noticed: the caller's connection died.
    #[default]
    CallerLeft,
    /// The caller got a whole answer.
    Complete,
    /// The gateway answered by itself.
    Refused(&'static str),
    /// The last resort answered.
    LastResort,
    /// The answer broke after its first byte, and the caller was told.
    Cut,
}

/// What the caller got so far.
#[derive(Debug, Default)]
pub struct Reply {
    /// The status. Written with the head.
    pub status: Option<u16>,
    /// Whether it is streamed.
    pub streamed: bool,
    /// Bytes of its body.
    pub bytes_out: usize,
    /// How it ended.
    pub end: End,
    /// What came of continuing a broken stream.
    pub rescued: Option<&'static str>,
}
