//! Consumers whose keys have all expired: `spillway check` warns of them.

use super::error::Problem;
use super::places::Places;
use super::{Config, Consumer};

/// Consumers that had a way in, and have none at `now` (seconds since 1970) by what the config says; `text` is the config's, for
/// the positions.
pub fn expired(config: &Config, text: &str, now: i64) -> Vec<Problem> {
    let has_tokens = config.plugins.auth.tokens.is_some();
    let is_out = |consumer: &Consumer| {
        let all_are_over = consumer.keys.iter().all(|key| key.validity.expires.is_some_and(|until| until <= now));
        !consumer.keys.is_empty() && all_are_over && consumer.certificates.is_empty() && !has_tokens
    };
    let places = Places::of(text);
    let out = config.consumers.iter().enumerate().filter(|(_, consumer)| is_out(consumer));
    out.map(|(at, consumer)| {
        let key = format!("consumers[{at}].keys");
        let message = format!(
            "the keys of '{name}' have expired: its calls get 401, unless it has a key that was issued at run time; \
             `spillway keys new --consumer {name}` makes another",
            name = consumer.name
        );
        Problem { position: places.find(&key), key, message }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Secrets;

    #[test]
    fn only_a_consumer_without_another_way_in() {
        let with = |keys: &str, rest: &str| {
            let text = format!(
                "[server]\nlisten = [\"127.0.0.1:0\"]\n[[backends]]\nname = \"a\"\nkind = \"mock\"\n[[pools]]\nname = \"p\"\nmodels = [\"m\"]\n\
                 members = [{{ backend = \"a\" }}]\n[[consumers]]\nname = \"c\"\nkeys = [{keys}]\n{rest}"
            );
            let config = Config::parse(&text, Path::new("t.toml"), &Secrets::default()).unwrap_or_else(|error| panic!("{error}\n{text}"));
            let all = expired(&config, &text, 1_800_000_000);
            all.iter().map(|problem| (problem.position.map(|at| at.line), problem.to_string())).collect::<Vec<_>>()
        };
        let key = |digit: &str, until: &str| format!("{{ sha256 = \"{}\"{until} }}", digit.repeat(64));
        let old = key("a", ", expires = \"2027-01-01\"");
        let found = with(&old, "");
        assert!(
            matches!(&found[..], [(Some(12), text)] if text.starts_with("consumers[0].keys: the keys of 'c' have expired")),
            "{found:?}"
        );
        assert_eq!(with(&format!("{old}, {}", key("b", "")), ""), []);
        assert_eq!(with(&key("a", ", expires = \"2037-01-01\""), ""), []);
        assert_eq!(with(&old, "certificates = [{ san = \"c.example\" }]\n"), []);
        assert_eq!(with("", ""), []);
    }
}
