//! `[plugins]`.

use super::Checker;
use crate::config::raw::{RawPlugins, RawPool};

const REDACTIONS: [&str; 5] = ["email", "phone", "iban", "card", "secret"];

/// Returns whether callers without a known key are refused.
pub(super) fn read(raw: &RawPlugins, pools: &[RawPool], no_consumers: bool, check: &mut Checker<'_>) -> bool {
    let mut required = !no_consumers;
    if let Some(auth) = &raw.auth {
        required = auth.required.unwrap_or(required);
        if let Some(jwt) = &auth.jwt {
            if !jwt.issuer.starts_with("https://") {
                check.problem("plugins.auth.jwt.issuer", format!("'{}' is no https:// URL", jwt.issuer));
            }
            if jwt.audiences.is_empty() {
                check.problem("plugins.auth.jwt.audiences", "at least one audience is needed, or tokens for anybody would be accepted");
            }
            check.not_available("plugins.auth.jwt", "accepting tokens");
        } else if required && no_consumers {
            check.problem("plugins.auth.required", "nobody could call: there are no [[consumers]] and no plugins.auth.jwt");
        }
    }
    if let Some(log) = &raw.prompt_log {
        for (at, name) in log.redact.iter().flatten().enumerate().filter(|(_, name)| !REDACTIONS.contains(&name.as_str())) {
            check.unknown(&format!("plugins.prompt_log.redact[{at}]"), "redaction", name, REDACTIONS);
        }
        if log.enabled == Some(true) {
            if log.path.is_none() {
                check.problem("plugins.prompt_log", "'path' is missing");
            }
            check.not_available("plugins.prompt_log", "the prompt log");
        }
    }
    if let Some(cache) = &raw.cache {
        if let Some(semantic) = &cache.semantic {
            if !pools.iter().any(|pool| pool.name == semantic.embeddings) {
                check.unknown(
                    "plugins.cache.semantic.embeddings",
                    "pool",
                    &semantic.embeddings,
                    pools.iter().map(|pool| pool.name.as_str()),
                );
            }
            if semantic.threshold.is_some_and(|threshold| !(0.0..=1.0).contains(&threshold)) {
                check.problem("plugins.cache.semantic.threshold", "must be from 0 to 1");
            }
        }
        check.not_available("plugins.cache", "the cache");
    }
    required
}
