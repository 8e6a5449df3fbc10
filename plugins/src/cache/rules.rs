//! Which requests can be answered from the cache, and which answers are kept.

use crate::answer::{Facts, facts};
use crate::api::Api;
use crate::objects::References;

/// Which answers are kept beside plain text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keeping {
    /// Those that call tools.
    pub tool_calls: bool,
    /// Those that a content filter has marked.
    pub filtered: bool,
}

/// Whether the answer to a request is decided by what stands in it. What refers to something stored is decided by
/// that, too; an answer that is `stored` at its backend is its consumer's alone.
pub fn is_cacheable(api: Api, references: &References, deeper: bool, shared: bool) -> bool {
    let stored = api == Api::Responses && !references.unstored;
    matches!(api, Api::Chat | Api::Completions | Api::Embeddings | Api::Responses | Api::Messages)
        && references.names.is_empty()
        && !references.malformed
        && !deeper
        && !(stored && shared)
}

/// Whether an answer with status 200 may be kept: a whole one, without calls and marks unless those are wanted.
pub fn may_keep(api: Api, answer: &[u8], streamed: bool, keeping: Keeping) -> bool {
    let Some(Facts { complete, calls_tools, filtered, .. }) = facts(api, answer, streamed) else { return false };
    complete && (keeping.tool_calls || !calls_tools) && (keeping.filtered || !filtered)
}
