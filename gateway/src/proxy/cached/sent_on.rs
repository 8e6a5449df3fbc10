//! What of a caller's head reaches backends and changes the answer, as a part of the cache's namespace.

use std::fmt::Write as _;

use http::HeaderName;
use pingora::http::RequestHeader;

use crate::proxy::headers::{is_among, nominated, passed_on};

/// Headers that change the answer, whoever sends them.
static SEEN: [HeaderName; 3] =
    [HeaderName::from_static("anthropic-beta"), HeaderName::from_static("anthropic-version"), HeaderName::from_static("openai-beta")];

/// Writes names and values: of those headers, and of all that the consumer is `allowed` to send, with which it chooses a
/// deployment, a tier or a content filter. A header that isn't passed on changes no answer.
pub(super) fn write(seen: &mut String, head: &RequestHeader, allowed: &[HeaderName]) {
    // Most requests have none of them: looking at all names takes less than looking three of them up.
    let is_seen = |name: &HeaderName| ["anthropic-", "openai-"].iter().any(|prefix| name.as_str().starts_with(prefix));
    if head.headers.keys().any(is_seen) {
        let stays = nominated(&head.headers);
        for name in SEEN.iter().filter(|name| !is_among(name.as_str(), &stays)) {
            head.headers.get_all(name).iter().for_each(|value| put(seen, name.as_str(), value.as_bytes()));
        }
    }
    if !allowed.is_empty() {
        let is_allowed = |name: &str| allowed.iter().any(|other| other == name);
        let mut sent: Vec<_> = passed_on(head, allowed).filter(|(name, _)| is_allowed(name)).collect();
        // The order of names doesn't matter, that of one name's values does.
        sent.sort_by_key(|(name, _)| *name);
        sent.into_iter().for_each(|(name, value)| put(seen, name, value));
    }
}

fn put(seen: &mut String, name: &str, value: &[u8]) {
    // Writing to a text can't fail.
    let _ = write!(seen, "{name}={value:?};");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(fields: &[(&'static str, &str)], allowed: &[&'static str]) -> String {
        let mut head = RequestHeader::build("POST", b"/v1/chat/completions", None).unwrap();
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        let allowed: Vec<_> = allowed.iter().map(|name| HeaderName::from_static(name)).collect();
        let mut seen = String::new();
        write(&mut seen, &head, &allowed);
        seen
    }

    #[test]
    fn what_is_sent_on_is_seen_and_nothing_else() {
        let both = ["x-ms-service-tier", "x-policy-id"];
        assert_eq!(seen(&[("user-agent", "x"), ("x-policy-id", "a")], &[]), "", "it is withheld");
        assert_eq!(seen(&[("user-agent", "x")], &both), "");
        assert_eq!(seen(&[("openai-beta", "a")], &[]), "openai-beta=[97];");
        let one = seen(&[("x-policy-id", "a"), ("x-ms-service-tier", "b")], &both);
        assert_eq!(one, "x-ms-service-tier=[98];x-policy-id=[97];");
        assert_eq!(one, seen(&[("x-ms-service-tier", "b"), ("x-policy-id", "a")], &both), "in any order");
        assert_ne!(one, seen(&[("x-ms-service-tier", "b"), ("x-policy-id", "c")], &both));
        // A caller that keeps a header from the backend must not leave an answer that was made without it.
        for (name, allowed) in [("x-policy-id", &both[..]), ("anthropic-beta", &[])] {
            assert_eq!(seen(&[(name, "a"), ("connection", name)], allowed), "", "{name}");
        }
    }
}
