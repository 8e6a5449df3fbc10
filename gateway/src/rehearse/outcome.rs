//! What a rehearsed fault showed. Plain data: reports print it, findings are derived from it. All durations are in the
//! config's own time.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::fault::{Fault, NotApplicable};
use super::finding::Finding;

/// One attempt of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// The backend.
    pub backend: String,
    /// The deployment there.
    pub deployment: String,
    /// The tier.
    pub tier: u32,
    /// How it ended: the label of [`crate::attempt_outcome::AttemptOutcome`].
    pub outcome: &'static str,
    /// The backend's status, if it answered.
    pub status: Option<u16>,
}

/// Who served a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Served {
    /// A member of the pool.
    Member {
        /// Its tier.
        tier: u32,
        /// Its backend.
        backend: String,
        /// The deployment there.
        deployment: String,
    },
    /// The pool's last resort.
    LastResort,
    /// The gateway itself refused: its error code.
    Gateway {
        /// The code, such as `no_backend_available`.
        code: String,
    },
    /// Nobody: the answer broke off, or none came.
    Nobody,
}

impl Served {
    /// The tier, if a member served.
    pub fn tier(&self) -> Option<u32> {
        match self {
            Served::Member { tier, .. } => Some(*tier),
            _ => None,
        }
    }
}

/// What its caller saw of a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RequestOutcome {
    /// The pool.
    pub pool: String,
    /// The model that was asked for.
    pub model: String,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// The consumer that called, if the config has any.
    pub consumer: Option<String>,
    /// When it was sent, from the beginning of the rehearsal.
    #[serde(serialize_with = "seconds")]
    pub at: Duration,
    /// The status that the caller saw; 0 if there was no answer.
    pub status: u16,
    /// Whether the caller got a whole answer, of whatever status.
    pub whole: bool,
    /// The `retry-after` that the caller saw, in seconds.
    pub retry_after: Option<u64>,
    /// Who served it.
    pub served: Served,
    /// Every attempt in order.
    pub attempts: Vec<Attempt>,
    /// From the request to the first byte of the answer, without the time that the model itself takes for its first
    /// token when there is no fault: what failovers, timeouts and waits added.
    #[serde(serialize_with = "seconds")]
    pub added: Duration,
    /// From the request to the end of the answer.
    #[serde(serialize_with = "seconds")]
    pub took: Duration,
}

impl RequestOutcome {
    /// Whether the caller got what it asked for.
    pub fn is_good(&self) -> bool {
        self.whole && self.status == 200 && !matches!(self.served, Served::LastResort)
    }
}

/// A count of requests that were served alike.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServedBy {
    /// By whom.
    #[serde(flatten)]
    pub served: Served,
    /// How many.
    pub requests: u64,
}

/// A count of requests with a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StatusCount {
    /// The status; 0 if there was no answer.
    pub status: u16,
    /// How many.
    pub requests: u64,
}

/// The requests of one pool under a fault, summed up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PoolSums {
    /// The pool.
    pub pool: String,
    /// Requests.
    pub requests: u64,
    /// Those whose callers got what they asked for.
    pub good: u64,
    /// Those whose answers began, and broke off.
    pub broken: u64,
    /// By whom they were served, the most first.
    pub served: Vec<ServedBy>,
    /// What callers saw, by status.
    pub statuses: Vec<StatusCount>,
    /// Attempts in all.
    pub attempts: u64,
    /// The longest `added`.
    #[serde(serialize_with = "seconds")]
    pub added_most: Duration,
    /// The median of `added`.
    #[serde(serialize_with = "seconds")]
    pub added_median: Duration,
    /// What the requests cost by use, in US dollars, where prices are known.
    pub cost_usd: f64,
    /// Attempts whose cost is not known.
    pub cost_unknown: u64,
}

/// A limit of the config, and whether it was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LimitKept {
    /// The limit: `consumers.crm-bot requests_per_minute`.
    pub limit: String,
    /// What it allows.
    pub allowed: u64,
    /// What got through.
    pub used: u64,
    /// Whether that is within it.
    pub kept: bool,
    /// Whether it was tried: the flood used it up, or was refused. A flood has only so many requests.
    pub reached: bool,
}

impl LimitKept {
    /// What the flood showed, in words.
    pub fn says(&self) -> &'static str {
        match (self.kept, self.reached) {
            (false, _) => "NOT KEPT",
            (true, true) => "kept",
            (true, false) => "not reached",
        }
    }
}

/// An alert of `deploy/prometheus/spillway.alerts.yml` that this fault would set off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// Its name.
    pub name: &'static str,
    /// `page` or `ticket`.
    pub severity: &'static str,
    /// How long the fault must last until it fires.
    #[serde(serialize_with = "seconds")]
    pub after: Duration,
}

/// What one fault showed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FaultOutcome {
    /// The fault.
    pub fault: Fault,
    /// Every request, in the order in which they were sent.
    pub requests: Vec<RequestOutcome>,
    /// The sums of each pool.
    pub pools: Vec<PoolSums>,
    /// Limits that were tried, and whether they were kept.
    pub limits: Vec<LimitKept>,
    /// Alerts that would fire.
    pub alerts: Vec<Alert>,
    /// What else is worth knowing, in sentences.
    pub notes: Vec<String>,
}

/// A whole rehearsal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rehearsal {
    /// The config file, as it was given.
    pub config: String,
    /// What was replaced for the rehearsal, in sentences.
    pub replaced: Vec<String>,
    /// The requests without any fault.
    pub baseline: FaultOutcome,
    /// The faults, in order.
    pub faults: Vec<FaultOutcome>,
    /// Kinds of faults that don't apply.
    pub not_applicable: Vec<NotApplicable>,
    /// What should be changed, the worst first.
    pub findings: Vec<Finding>,
}

fn seconds<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64((time.as_secs_f64() * 1000.0).round() / 1000.0)
}
