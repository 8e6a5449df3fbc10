//! Which requests can be answered from the cache, and which answers are cached.

use crate::answer::{AnswerFacts, facts};
use crate::api::Api;
use crate::objects::References;

/// Which answers are cached in addition to plain text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keeping {
    /// Those that call tools.
    pub tool_calls: bool,
    /// Those that a content filter has marked.
    pub filtered: bool,
}

/// Longest request that uses the cache, in bytes: longer ones are seldom sent twice.
const LONGEST: usize = 1 << 20;

/// Whether a request can use the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suits {
    /// Its answer doesn't depend only on its content.
    Not,
    /// Its answer may be cached.
    Well,
    /// Its answer may be cached, but probably can't be, because it offers tools: other requests should not wait for it.
    Perhaps,
}

/// Whether the answer to a request depends only on its content, as far as that is known without reading it, and not on
/// stored objects. An answer that its backend stores belongs to its consumer only.
pub fn may_suit(api: Api, length: usize, references: &References, deeper: bool, shared: bool) -> bool {
    let stored = references.store_the_answer(api);
    matches!(api, Api::Chat | Api::Completions | Api::Embeddings | Api::Responses | Api::Messages)
        && length <= LONGEST
        && references.names.is_empty()
        && !references.malformed
        && !deeper
        && !(stored && shared)
}

/// What a request offers to the model besides its content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offers {
    /// Documents, the web, or something that is stored.
    live: bool,
    tools: bool,
}

impl Offers {
    /// Reads a member of the request; `filled` if it isn't empty.
    pub(super) fn note(&mut self, api: Api, name: &[u8], filled: bool) {
        match name {
            b"web_search_options" | b"data_sources" | b"background" | b"mcp_servers" => self.live |= filled,
            // A template that is stored elsewhere.
            b"prompt" => self.live |= api == Api::Responses,
            b"tools" | b"functions" => self.tools |= filled,
            _ => {}
        }
    }

    /// Whether a request can use the cache.
    pub fn suits(self) -> Suits {
        match (self.live, self.tools) {
            (true, _) => Suits::Not,
            (false, true) => Suits::Perhaps,
            (false, false) => Suits::Well,
        }
    }
}

/// Whether an answer with status 200 may be cached: a complete one, without tool calls and filter marks unless these
/// are allowed.
pub fn may_keep(api: Api, answer: &[u8], streamed: bool, keeping: Keeping) -> bool {
    let Some(AnswerFacts { complete, calls_tools, filtered, .. }) = facts(api, answer, streamed) else { return false };
    complete && (keeping.tool_calls || !calls_tools) && (keeping.filtered || !filtered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Asked, KeyKind};

    #[test]
    fn what_depends_on_more_than_itself_is_not_kept() {
        let suits = |api: Api, body: &str| match may_suit(api, body.len(), &References::default(), false, false) {
            true => Asked::read(&KeyKind::Shared, "n", api, "m", body.as_bytes()).map_or(Suits::Not, |asked| asked.offers.suits()),
            false => Suits::Not,
        };
        assert_eq!(suits(Api::Chat, r#"{"messages":[]}"#), Suits::Well);
        assert_eq!(suits(Api::Completions, r#"{"prompt":"x"}"#), Suits::Well);
        assert_eq!(suits(Api::Chat, r#"{"tools":[{}]}"#), Suits::Perhaps);
        for (api, body) in [
            (Api::Chat, r#"{"web_search_options":{"a":1}}"#),
            (Api::Chat, r#"{"data_sources":[{}]}"#),
            (Api::Responses, r#"{"prompt":{"id":"p"}}"#),
            (Api::Responses, r#"{"background":true}"#),
            (Api::Messages, r#"{"mcp_servers":[{}]}"#),
            (Api::Speech, r#"{"input":"x"}"#),
            (Api::Chat, "[1"),
        ] {
            assert_eq!(suits(api, body), Suits::Not, "{body}");
        }
        assert_eq!(suits(Api::Chat, &format!(r#"{{"a":"{}"}}"#, "x".repeat(LONGEST))), Suits::Not);
        let stored = |unstored: bool, shared: bool| {
            let references = References { unstored, ..References::default() };
            may_suit(Api::Responses, 10, &references, false, shared)
        };
        assert_eq!([stored(false, true), stored(true, true), stored(false, false)], [false, true, true]);
        let threads = |shared: bool| may_suit(Api::Messages, 10, &References { remembered: true, ..References::default() }, false, shared);
        assert_eq!([threads(true), threads(false)], [false, true], "the message of a thread is its owner's");
    }
}
