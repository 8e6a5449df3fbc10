//! The body of a request.

use crate::request::ReplayBody;

/// The body of a request, and what is known of its size.
#[derive(Debug, Default)]
pub struct RequestBody {
    /// The whole body. Written by `intake`. `deliver` drops it when no attempt can need it any more. A short body
    /// stays, because an estimate may need it.
    pub kept: Option<ReplayBody>,
    /// Bytes received so far.
    pub bytes: usize,
    /// Upper bound of the tokens in its prompt, if a limit needed it. Written by `admit`.
    pub input_bound: Option<u64>,
}
