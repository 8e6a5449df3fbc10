//! `[plugins.cache]`.

use std::path::Path;
use std::time::Duration;

use spillway_plugins::cache::Keeping;
use spillway_plugins::cache::semantic::Scoping;

use super::checker::Checker;
use super::server;
use crate::config::raw::{RawCache, RawExactCache, RawPool, RawSemanticCache};
use crate::config::{CacheRules, ExactRules, SemanticRules};

/// Most questions that can be searched in the time that a request should wait.
const MOST: usize = 100_000;

pub(super) fn read(raw: Option<&RawCache>, pools: &[RawPool], state_dir: Option<&Path>, check: &mut Checker<'_>) -> Option<CacheRules> {
    let raw = raw?;
    let semantic = raw.semantic.as_ref().map(|raw| self::semantic(raw, pools, state_dir, check));
    // Equal requests also have the same meaning: the semantic cache needs the exact one.
    let exact = raw.exact.as_ref().map(|raw| exact(raw, check));
    match (exact, semantic) {
        (None, Some(_)) => {
            check.problem("plugins.cache.semantic", "needs 'exact', which answers equal requests; 'exact = {}' is enough");
            None
        }
        (exact, semantic) => Some(CacheRules { exact: exact?, semantic: semantic.flatten() }),
    }
}

fn exact(raw: &RawExactCache, check: &mut Checker<'_>) -> ExactRules {
    const KEY: &str = "plugins.cache.exact";
    let max_memory = server::size(raw.max_memory, 64 << 20, &format!("{KEY}.max_memory"), check);
    let max_answer = server::size(raw.max_answer, 1 << 20, &format!("{KEY}.max_answer"), check);
    if max_answer > max_memory {
        check.problem(&format!("{KEY}.max_answer"), "is larger than 'max_memory'");
    }
    ExactRules {
        ttl: server::span(raw.ttl, 600, &format!("{KEY}.ttl"), check),
        max_memory,
        max_answer,
        wait: raw.wait.map_or(Duration::from_secs(30), |wait| wait.0),
        keeping: Keeping { tool_calls: raw.tool_calls.unwrap_or(false), filtered: raw.filtered.unwrap_or(false) },
    }
}

fn semantic(raw: &RawSemanticCache, pools: &[RawPool], state_dir: Option<&Path>, check: &mut Checker<'_>) -> Option<SemanticRules> {
    const KEY: &str = "plugins.cache.semantic";
    let pool = pools.iter().find(|pool| pool.name == raw.embeddings);
    if pool.is_none() {
        check.unknown(&format!("{KEY}.embeddings"), "pool", &raw.embeddings, pools.iter().map(|pool| pool.name.as_str()));
    }
    let threshold = raw.threshold.unwrap_or(0.95);
    if !(0.0..=1.0).contains(&threshold) {
        check.problem(&format!("{KEY}.threshold"), "must be from 0 to 1");
    } else if threshold < 0.85 {
        check.warn(&format!("{KEY}.threshold"), "below 0.85, answers to different questions are likely; try it with 'dry_run' first");
    }
    let max_entries = raw.max_entries.unwrap_or(10_000);
    if !(1..=MOST).contains(&max_entries) {
        check.problem(&format!("{KEY}.max_entries"), format!("must be from 1 to {MOST}"));
    }
    if raw.max_messages == Some(0) {
        check.problem(&format!("{KEY}.max_messages"), "must be at least 1");
    }
    Some(SemanticRules {
        model: pool?.models.first()?.clone(),
        threshold: threshold as f32,
        ttl: server::span(raw.ttl, 3600, &format!("{KEY}.ttl"), check),
        max_entries,
        limit: raw.limit.map_or(Duration::from_millis(500), |limit| limit.0),
        scoping: Scoping { max_messages: raw.max_messages.unwrap_or(1), ignore_system: raw.ignore_system.unwrap_or(false) },
        dry_run: raw.dry_run.unwrap_or(false),
        folder: state_dir.map(Path::to_owned),
    })
}
