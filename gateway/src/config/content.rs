//! What becomes of prompts and answers.

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

/// Answers that needn't be asked for again.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheRules {
    /// For equal requests.
    pub exact: ExactRules,
    /// For requests that mean the same.
    pub semantic: Option<SemanticRules>,
}

/// Answers for requests that mean the same.
#[derive(Debug, Clone, PartialEq)]
pub struct SemanticRules {
    /// The model that embeds.
    pub model: String,
    /// Least cosine of two embeddings.
    pub threshold: f32,
    /// How long an answer is good.
    pub ttl: Duration,
    /// Most questions.
    pub max_entries: usize,
    /// How long an embedding may take.
    pub limit: Duration,
    /// Which requests are looked at.
    pub scoping: Scoping,
    /// Hits are only told.
    pub dry_run: bool,
    /// Where it survives a restart.
    pub folder: Option<PathBuf>,
}

/// Answers for equal requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExactRules {
    /// How long an answer is good.
    pub ttl: Duration,
    /// Memory for answers, in bytes.
    pub max_memory: usize,
    /// Longest answer that is kept, in bytes.
    pub max_answer: usize,
    /// How long a request waits for the answer to an equal one.
    pub wait: Duration,
    /// Which answers are kept.
    pub keeping: Keeping,
}

/// What is written down of prompts and answers, and where.
#[derive(Debug, PartialEq)]
pub struct PromptLogRules {
    /// The file.
    pub path: PathBuf,
    /// How much is written down of a consumer's requests that says nothing else.
    pub level: Level,
    /// The share of requests that are written down, 0 to 1.
    pub sample: f64,
    /// Removes what must not be kept.
    pub redactor: Redactor,
    /// Longest text that is kept of a message, in bytes.
    pub max_message: usize,
    /// Longest file, in bytes.
    pub rotate_size: u64,
    /// Longest time in one file.
    pub rotate_every: Duration,
    /// How long older files are kept.
    pub keep: Duration,
    /// Whether older files are compressed.
    pub compress: bool,
    /// The OpenTelemetry collector that gets the records, too.
    pub otlp: Option<OtlpRules>,
}

/// An OpenTelemetry collector.
#[derive(Debug, Clone, PartialEq)]
pub struct OtlpRules {
    /// Its root, without a slash at the end.
    pub url: String,
    /// Headers for it.
    pub headers: Vec<(String, Secret)>,
}

/// Which requests are told of in traces, and to whom.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceRules {
    /// The collector.
    pub otlp: OtlpRules,
    /// The share of requests whose caller has no trace, 0 to 1.
    pub sample: f64,
    /// Most requests per second for the sake of a caller's trace.
    pub caller_rate: u32,
}

/// What is written down of a consumer's requests, where it says so itself.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ConsumerLog {
    /// How much.
    pub level: Option<Level>,
    /// The share of requests, 0 to 1.
    pub sample: Option<f64>,
}

/// What becomes of requests on their way.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transforms {
    /// Of their bodies.
    pub body: Transform,
    /// Of their headers.
    pub request: HeaderChanges,
    /// Of their answers' headers.
    pub response: HeaderChanges,
}

/// What may be asked and answered.
#[derive(Debug, Clone, PartialEq)]
pub struct GuardRules {
    /// Rules of one's own.
    pub local: Rules,
    /// Whether answers are looked at, too.
    pub answers: bool,
    /// Tokens of a stream that stay back until they are looked at.
    pub window: u64,
    /// Whether APIs pass whose content isn't looked at.
    pub pass_unread: bool,
    /// The content safety service.
    pub safety: Option<SafetyRules>,
}

impl GuardRules {
    /// Equal for rules that judge answers alike.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.answers.hash(&mut hasher);
        self.local.fingerprint().hash(&mut hasher);
        if let Some(safety) = &self.safety {
            (&safety.url, &safety.thresholds).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Whether what nobody can judge may pass.
    pub fn fails_open(&self) -> bool {
        self.safety.as_ref().is_some_and(|safety| safety.fails_open)
    }
}

/// What is asked of the content safety service.
#[derive(Debug, Clone, PartialEq)]
pub struct SafetyRules {
    /// Its root, without a slash at the end.
    pub url: String,
    /// How the gateway proves itself there.
    pub auth: BackendAuth,
    /// What is too much.
    pub thresholds: Thresholds,
    /// Whether prompts are searched for attacks.
    pub shield: bool,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Whether what it can't judge may pass.
    pub fails_open: bool,
}
