//! What the caller has received.

use std::fmt;

use spillway_plugins::limits::{Demand, LimitId};

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
    /// The limit that refused the request, if one did.
    pub limit: Option<Box<RefusedBy>>,
    /// Result of continuing a broken stream, if that was tried.
    pub rescued: Option<&'static str>,
}

/// The limit that refused a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedBy {
    /// Whose limit it is: `consumer 'crm-bot'`.
    pub owner: String,
    /// Which limit.
    pub id: LimitId,
    /// What the request would have reserved.
    pub demand: Demand,
}

impl fmt::Display for RefusedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.id, self.owner)
    }
}
