//! `[plugins.cache]`.

use spillway_plugins::cache::Keeping;

use super::{Checker, server};
use crate::config::ExactRules;
use crate::config::raw::{RawCache, RawExactCache, RawPool, RawSemanticCache};

pub(super) fn read(raw: Option<&RawCache>, pools: &[RawPool], check: &mut Checker<'_>) -> Option<ExactRules> {
    let cache = raw?;
    if let Some(semantic) = &cache.semantic {
        self::semantic(semantic, pools, check);
    }
    cache.exact.as_ref().map(|raw| exact(raw, check))
}

fn exact(raw: &RawExactCache, check: &mut Checker<'_>) -> ExactRules {
    const KEY: &str = "plugins.cache.exact";
    let max_memory = server::size(raw.max_memory, 64 << 20, &format!("{KEY}.max_memory"), check);
    let max_answer = server::size(raw.max_answer, 1 << 20, &format!("{KEY}.max_answer"), check);
    if max_answer > max_memory {
        check.problem(&format!("{KEY}.max_answer"), "is more than 'max_memory' has room for");
    }
    ExactRules {
        ttl: server::span(raw.ttl, 600, &format!("{KEY}.ttl"), check),
        max_memory,
        max_answer,
        wait: raw.wait.map_or(std::time::Duration::from_secs(30), |wait| wait.0),
        keeping: Keeping { tool_calls: raw.tool_calls.unwrap_or(false), filtered: raw.filtered.unwrap_or(false) },
    }
}

fn semantic(raw: &RawSemanticCache, pools: &[RawPool], check: &mut Checker<'_>) {
    if !pools.iter().any(|pool| pool.name == raw.embeddings) {
        check.unknown("plugins.cache.semantic.embeddings", "pool", &raw.embeddings, pools.iter().map(|pool| pool.name.as_str()));
    }
    if raw.threshold.is_some_and(|threshold| !(0.0..=1.0).contains(&threshold)) {
        check.problem("plugins.cache.semantic.threshold", "must be from 0 to 1");
    }
    check.not_available("plugins.cache.semantic", "the semantic cache");
}
