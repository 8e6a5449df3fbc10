//! `[plugins.cache]`: answers that are used again; and how a consumer uses the cache.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use spillway_plugins::cache::Keeping;
use spillway_plugins::cache::semantic::Scoping;

use crate::config::checker::Checker;
use crate::config::raw::RawPool;
use crate::config::scalar::{DurationText, SizeText};

/// The cache: answers that are used again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCache {
    /// For equal requests.
    pub exact: Option<RawExactCache>,
    /// For requests with the same meaning.
    pub semantic: Option<RawSemanticCache>,
}

/// The cache for equal requests.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawExactCache {
    /// How long an answer is valid. Default `10m`.
    pub ttl: Option<DurationText>,
    /// Memory for answers. Default `64MiB`.
    pub max_memory: Option<SizeText>,
    /// Longest answer that is cached. Default `1MiB`.
    pub max_answer: Option<SizeText>,
    /// How long a request waits for the answer to an equal one; then it is sent itself. Default `30s`.
    pub wait: Option<DurationText>,
    /// Cache answers that call tools, too. Default false.
    pub tool_calls: Option<bool>,
    /// Cache answers that a content filter has marked, too. Default false.
    pub filtered: Option<bool>,
}

/// The cache for requests with the same meaning.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSemanticCache {
    /// The pool for embeddings; the first of its models is used.
    pub embeddings: String,
    /// Least cosine similarity of two embeddings, 0 to 1. Default 0.95.
    pub threshold: Option<f64>,
    /// How long an answer is valid. Default `1h`.
    pub ttl: Option<DurationText>,
    /// Most questions in the cache. Default 10000; at most 100000.
    pub max_entries: Option<usize>,
    /// How long an embedding may take; then similar questions are not searched. Default `500ms`.
    pub limit: Option<DurationText>,
    /// Most messages, without instructions, of a request that uses this cache. Default 1.
    pub max_messages: Option<usize>,
    /// Ignore differences in instructions. Default false.
    pub ignore_system: Option<bool>,
    /// Only log which requests would be answered, with both prompts (redacted), to choose a threshold. Default false.
    pub dry_run: Option<bool>,
}

/// How a consumer uses the cache.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawConsumerCache {
    /// Its requests may be answered from the cache, and their answers cached. Default true.
    pub enabled: Option<bool>,
    /// Consumers with the same namespace get each other's cached answers. Default: a namespace of its own.
    pub namespace: Option<String>,
}

/// The cache.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheRules {
    /// For equal requests.
    pub exact: ExactRules,
    /// For requests with the same meaning.
    pub semantic: Option<SemanticRules>,
}

/// The cache for equal requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExactRules {
    /// How long an answer is valid.
    pub ttl: Duration,
    /// Memory for answers, in bytes.
    pub max_memory: usize,
    /// Longest answer that is cached, in bytes.
    pub max_answer: usize,
    /// How long a request waits for the answer to an equal one.
    pub wait: Duration,
    /// Which answers are cached.
    pub keeping: Keeping,
}

/// The cache for requests with the same meaning.
#[derive(Debug, Clone, PartialEq)]
pub struct SemanticRules {
    /// The embedding model.
    pub model: String,
    /// Least cosine similarity of two embeddings.
    pub threshold: f32,
    /// How long an answer is valid.
    pub ttl: Duration,
    /// Most questions.
    pub max_entries: usize,
    /// How long an embedding may take.
    pub limit: Duration,
    /// Which requests use it.
    pub scoping: Scoping,
    /// Hits are only logged.
    pub dry_run: bool,
    /// The folder in which it survives a restart.
    pub folder: Option<PathBuf>,
}

/// Whose cached answers a consumer gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheNamespace {
    /// Its own.
    Own,
    /// Those of all consumers with this namespace.
    Shared(Arc<str>),
}

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
    let max_memory = check.size(raw.max_memory, 64 << 20, &format!("{KEY}.max_memory"));
    let max_answer = check.size(raw.max_answer, 1 << 20, &format!("{KEY}.max_answer"));
    if max_answer > max_memory {
        check.problem(&format!("{KEY}.max_answer"), "is larger than 'max_memory'");
    }
    ExactRules {
        ttl: check.span(raw.ttl, 600, &format!("{KEY}.ttl")),
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
        ttl: check.span(raw.ttl, 3600, &format!("{KEY}.ttl")),
        max_entries,
        limit: raw.limit.map_or(Duration::from_millis(500), |limit| limit.0),
        scoping: Scoping { max_messages: raw.max_messages.unwrap_or(1), ignore_system: raw.ignore_system.unwrap_or(false) },
        dry_run: raw.dry_run.unwrap_or(false),
        folder: state_dir.map(Path::to_owned),
    })
}

/// How a consumer uses the cache.
pub(in crate::config) fn consumer(raw: Option<&RawConsumerCache>, key: &str, check: &mut Checker<'_>) -> Option<CacheNamespace> {
    let Some(raw) = raw else { return Some(CacheNamespace::Own) };
    if raw.namespace.as_ref().is_some_and(String::is_empty) {
        check.problem(&format!("{key}.namespace"), "must not be empty");
    }
    let namespace = raw.namespace.as_deref().map_or(CacheNamespace::Own, |name| CacheNamespace::Shared(name.into()));
    raw.enabled.unwrap_or(true).then_some(namespace)
}
