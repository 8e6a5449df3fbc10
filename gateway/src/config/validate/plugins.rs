//! `[plugins]`, but for `auth`.

use super::Checker;
use crate::config::raw::{RawPlugins, RawPool};

const REDACTIONS: [&str; 5] = ["email", "phone", "iban", "card", "secret"];

pub(super) fn read(raw: &RawPlugins, pools: &[RawPool], check: &mut Checker<'_>) {
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
}
