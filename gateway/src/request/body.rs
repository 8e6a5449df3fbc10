//! The body of a request.

use crate::request::ReplayBody;

/// The body of a request, and what is known of its size.
#[derive(Debug, Default)]
pub struct RequestBody {
    /// The whole body. Written by `intake`, dropped by `deliver` once no attempt can need it any more, unless it is
    /// short: an estimate may need it.
    pub kept: Option<ReplayBody>,
    /// Its bytes so far.
    pub bytes: usize,
    /// About how many tokens its prompt has, where that was asked for. Written by `admit`.
    pub input_bound: Option<u64>,
}
