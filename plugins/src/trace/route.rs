//! A path for spans: few different ones, without names that callers chose.

use crate::api::Api;

/// Beginnings of paths, and whether a deployment's name follows.
const ROOTS: [(&str, bool); 5] =
    [("/openai/deployments/", true), ("/openai/v1/", false), ("/openai/", false), ("/anthropic/v1/", false), ("/v1/", false)];

/// Path segments below an API that are not names.
const WORDS: [&str; 7] = ["cancel", "input_items", "items", "content", "compact", "input_tokens", "count_tokens"];

/// The template of a path of this API.
pub fn route(path: &str, api: Api) -> Option<String> {
    let (root, named, rest) = ROOTS.iter().find_map(|(root, named)| Some((root, *named, path.strip_prefix(root)?)))?;
    let (name, below) = if named { ("{deployment}/", rest.split_once('/')?.1) } else { ("", rest) };
    let within = below.strip_prefix(api.operation())?;
    if !within.is_empty() && !within.starts_with('/') {
        return None;
    }
    let mut route = format!("{root}{name}{}", api.operation());
    for part in within.split('/').skip(1) {
        route.push('/');
        route.push_str(if WORDS.contains(&part) { part } else { "{id}" });
    }
    Some(route)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_left_out() {
        for (path, api, expected) in [
            ("/v1/chat/completions", Api::Chat, Some("/v1/chat/completions")),
            ("/openai/v1/responses", Api::Responses, Some("/openai/v1/responses")),
            ("/openai/responses/resp_1/cancel", Api::Responses, Some("/openai/responses/{id}/cancel")),
            ("/openai/deployments/gpt-4o/chat/completions", Api::Chat, Some("/openai/deployments/{deployment}/chat/completions")),
            ("/v1/conversations/c/items/i", Api::Conversations, Some("/v1/conversations/{id}/items/{id}")),
            ("/anthropic/v1/messages", Api::Messages, Some("/anthropic/v1/messages")),
            ("/v1/responses/compact", Api::Responses, Some("/v1/responses/compact")),
            ("/v1/messages/count_tokens", Api::Messages, Some("/v1/messages/count_tokens")),
            ("/v1/chat/completionsX", Api::Chat, None),
            ("/v1/files", Api::Chat, None),
            ("/", Api::Chat, None),
        ] {
            assert_eq!(route(path, api).as_deref(), expected, "{path}");
        }
    }
}
