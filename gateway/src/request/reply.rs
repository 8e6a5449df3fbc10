//! What the caller has received.

use crate::request_end::End;

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
