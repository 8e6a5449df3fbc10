//! The rules of the plugins that read or change prompts and answers.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::Secret;
use spillway_plugins::cache::Keeping;
use spillway_plugins::cache::semantic::Scoping;
use spillway_plugins::guard::Rules;
use spillway_plugins::guard::safety::Thresholds;
use spillway_plugins::prompt_log::Level;
use spillway_plugins::prompt_log::redact::Redactor;
use spillway_plugins::transform::{HeaderChanges, Transform};

use super::BackendAuth;

/// The cache.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheRules {
    /// For equal requests.
    pub exact: ExactRules,
    /// For requests with the same meaning.
    pub semantic: Option<SemanticRules>,
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

/// The prompt log: what it records of prompts and answers, and where.
#[derive(Debug, PartialEq)]
pub struct PromptLogRules {
    /// The file.
    pub path: PathBuf,
    /// How much is recorded of the requests of a consumer without a level of its own.
    pub level: Level,
    /// The share of requests that are recorded, 0 to 1.
    pub sample: f64,
    /// Removes sensitive texts.
    pub redactor: Redactor,
    /// Longest text of a message that is recorded, in bytes.
    pub max_message: usize,
    /// Size at which a new file is begun, in bytes.
    pub rotate_size: u64,
    /// Time after which a new file is begun.
    pub rotate_every: Duration,
    /// How long rotated files are kept.
    pub keep: Duration,
    /// Whether rotated files are compressed.
    pub compress: bool,
    /// The OpenTelemetry collector that gets the records, too.
    pub otlp: Option<OtlpRules>,
}

/// An OpenTelemetry collector.
#[derive(Debug, Clone, PartialEq)]
pub struct OtlpRules {
    /// Its root URL, without a slash at the end.
    pub url: String,
    /// Headers of requests to it.
    pub headers: Vec<(String, Secret)>,
}

/// Traces: which requests are sampled, and the collector.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceRules {
    /// The collector.
    pub otlp: OtlpRules,
    /// The share of requests that are sampled if their caller sends no trace, 0 to 1.
    pub sample: f64,
    /// Most requests per second that are sampled because their caller's trace is.
    pub caller_rate: u32,
}

/// A consumer's own settings of the prompt log.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ConsumerLog {
    /// How much is recorded.
    pub level: Option<Level>,
    /// The share of requests that are recorded, 0 to 1.
    pub sample: Option<f64>,
}

/// Changes to requests and their answers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transforms {
    /// To requests' bodies.
    pub body: Transform,
    /// To requests' headers.
    pub request: HeaderChanges,
    /// To answers' headers.
    pub response: HeaderChanges,
}

/// The guard: which prompts and answers it blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct GuardRules {
    /// The rules that need no service.
    pub local: Rules,
    /// Whether answers are checked, too.
    pub answers: bool,
    /// Tokens of a stream that are held back until they are checked.
    pub window: u64,
    /// Whether APIs are allowed whose content can't be checked.
    pub pass_unread: bool,
    /// The content safety service.
    pub safety: Option<SafetyRules>,
}

impl GuardRules {
    /// Equal for rules that give the same result for answers.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.answers.hash(&mut hasher);
        self.local.fingerprint().hash(&mut hasher);
        if let Some(safety) = &self.safety {
            (&safety.url, &safety.thresholds).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Whether what can't be checked is allowed.
    pub fn fails_open(&self) -> bool {
        self.safety.as_ref().is_some_and(|safety| safety.fails_open)
    }
}

/// The content safety service, and what it is asked to check.
#[derive(Debug, Clone, PartialEq)]
pub struct SafetyRules {
    /// Its root URL, without a slash at the end.
    pub url: String,
    /// The gateway's credential for it.
    pub auth: BackendAuth,
    /// The severities from which on content is blocked.
    pub thresholds: Thresholds,
    /// Whether prompts are checked for attacks.
    pub shield: bool,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Whether content is allowed if the service can't check it.
    pub fails_open: bool,
}
