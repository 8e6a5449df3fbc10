//! Which requests can be answered from the cache, and which answers are cached.

use crate::answer::{AnswerFacts, facts};
use crate::api::Api;
use crate::json::Reader;
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

/// Whether the answer to a request depends only on its content, and not on stored objects, documents or the web. An
/// answer that its backend stores belongs to its consumer only.
pub fn suits(api: Api, body: &[u8], references: &References, deeper: bool, shared: bool) -> Suits {
    let stored = api == Api::Responses && !references.unstored;
    let known = matches!(api, Api::Chat | Api::Completions | Api::Embeddings | Api::Responses | Api::Messages)
        && body.len() <= LONGEST
        && references.names.is_empty()
        && !references.malformed
        && !deeper
        && !(stored && shared);
    let (mut live, mut tools) = (!known, false);
    if known {
        let read = Reader::new(body).object(|name, value| match name {
            "web_search_options" | "data_sources" | "background" | "mcp_servers" => live |= value.is_filled(body),
            // A template that is stored elsewhere.
            "prompt" => live |= api == Api::Responses,
            "tools" | "functions" => tools |= value.is_filled(body),
            _ => {}
        });
        live |= read.is_err();
    }
    match (live, tools) {
        (true, _) => Suits::Not,
        (false, true) => Suits::Perhaps,
        (false, false) => Suits::Well,
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

    #[test]
    fn what_depends_on_more_than_itself_is_not_kept() {
        let suits = |api: Api, body: &str| suits(api, body.as_bytes(), &References::default(), false, false);
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
            super::suits(Api::Responses, br#"{"input":"x"}"#, &references, false, shared)
        };
        assert_eq!([stored(false, true), stored(true, true), stored(false, false)], [Suits::Not, Suits::Well, Suits::Well]);
    }
}
