//! The cache for requests with the same meaning: questions, their embeddings, and the answers.

mod store;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use spillway_plugins::cache::Entry;
use spillway_plugins::cache::semantic::{Index, Known, Near, Question};
use spillway_plugins::prompt_log::redact::{Class, Redactor};
use tracing::{info, warn};

use crate::config::SemanticRules;
use crate::self_request::{Internal, InternalError, OnBehalfOf};
use crate::telemetry::metrics::CacheMetrics;
use store::Store;
pub use store::StoreError;

/// The semantic cache.
#[derive(Debug)]
pub struct SemanticCache {
    /// Its rules.
    pub rules: SemanticRules,
    index: Index,
    store: Option<Store>,
    /// Redacts the texts in a dry run's log lines; `None` if there is no dry run.
    dry_run: Option<Redactor>,
}

/// Why there is no embedding.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddingError {
    /// The request failed.
    #[error("{0}")]
    Asked(#[from] InternalError),
    /// The answer can't be parsed.
    #[error("the answer contains no embedding: {0}")]
    Answer(#[from] serde_json::Error),
    /// The answer contains no embedding.
    #[error("the answer contains no embedding")]
    Empty,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Embedding {
    embedding: Vec<f32>,
}

/// Longest text of a question in a dry run's log line.
const SHOWN: usize = 500;

impl SemanticCache {
    /// With what is on disk, at `now` (milliseconds since 1970).
    ///
    /// # Errors
    /// If the file or its thread can't be used.
    pub fn open(rules: SemanticRules, now: i64) -> Result<Self, StoreError> {
        let index = Index::new(rules.max_entries);
        let store = match &rules.folder {
            Some(folder) => Some(Store::open(folder, rules.max_entries, now, |known| index.fill(known, now))?),
            None => None,
        };
        let redactor = || Redactor::new(&Class::NAMES.map(|(_, class)| class), &[]);
        let dry_run = rules.dry_run.then(redactor).transpose()?;
        Ok(SemanticCache { rules, index, store, dry_run })
    }

    /// The embedding of a text, requested on behalf of this caller.
    ///
    /// # Errors
    /// [`EmbeddingError`]; in any case no similar question is searched.
    pub async fn embed(&self, internal: &Internal, text: &str, whom: OnBehalfOf, id: &str) -> Result<Arc<[f32]>, EmbeddingError> {
        let body = json!({ "model": self.rules.model, "input": text }).to_string();
        let answer = internal.post("/v1/embeddings", body.into(), whom, id, self.rules.limit).await?;
        let answer: Answer = serde_json::from_slice(&answer)?;
        let first = answer.data.into_iter().next().map(|one| one.embedding).filter(|vector| !vector.is_empty());
        Ok(first.ok_or(EmbeddingError::Empty)?.into())
    }

    /// The nearest known question, if it is near enough. A dry run only logs it.
    pub fn find(
        &self,
        question: &Question,
        vector: &[f32],
        now: i64,
        metrics: &CacheMetrics,
        allowed: impl Fn(&Entry) -> bool,
    ) -> Option<Near> {
        let near = self.index.find(question, vector, self.rules.threshold, now, allowed)?;
        let Some(redactor) = &self.dry_run else { return Some(near) };
        let shown = |text: &str| -> String { redactor.redact(text).chars().take(SHOWN).collect() };
        metrics.dry_hits.inc();
        info!(
            score = near.score,
            asked = shown(&question.text),
            known = shown(&near.text),
            "dry run: this would be answered from the semantic cache"
        );
        None
    }

    /// Adds an answer.
    pub fn learn(&self, question: Question, vector: Arc<[f32]>, entry: &Entry, now: i64) {
        let entry = Arc::new(Entry { good_until: Entry::until(now, self.rules.ttl), ..entry.clone() });
        let known = Known { question, vector, entry };
        self.index.learn(&known, now);
        if let Some(store) = &self.store {
            store.put(known);
        }
    }

    /// How many questions are known.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Waits until everything is kept, at most `limit`.
    pub async fn flush(&self, limit: Duration) {
        if let Some(store) = &self.store {
            store.flush(limit).await;
        }
    }

    /// Logs, at most now and then, why no similar question can be searched.
    pub fn embedding_failed(&self, error: &EmbeddingError, metrics: &CacheMetrics) {
        metrics.embedding_failures.inc();
        if metrics.embedding_failures.get().is_power_of_two() {
            warn!(%error, failures = metrics.embedding_failures.get(), "a question could not be embedded: similar questions are not searched");
        }
    }
}
