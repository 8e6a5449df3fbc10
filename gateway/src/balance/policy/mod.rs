//! How a tier's usable members share the traffic. One file per policy.
//!
//! To add one: a file here, and in this file a variant of [`Policy`] with a line in [`Policy::NAMES`] and in
//! [`Policy::pick`]; the property suite in `tests.rs` then runs on it. The variants' doc comments are in the
//! configuration reference.

mod affinity;
mod candidate;
mod headroom;
mod latency;
mod least_requests;
mod weighted;

#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::Deserialize;

pub use candidate::Candidate;

/// How the members of one tier share the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// In proportion to the weights.
    #[default]
    Weighted,
    /// The less busy of two, by requests in flight over weight.
    LeastRequests,
    /// The faster of two, by peak EWMA of the time to the first token.
    Latency,
    /// In proportion to weight times what the rate-limit headers say is left.
    Headroom,
    /// The same member for the same conversation, unless it is overloaded.
    Affinity,
}

impl Policy {
    /// All policies with their names in the config.
    pub const NAMES: [(&'static str, Policy); 5] = [
        ("weighted", Policy::Weighted),
        ("least-requests", Policy::LeastRequests),
        ("latency", Policy::Latency),
        ("headroom", Policy::Headroom),
        ("affinity", Policy::Affinity),
    ];

    /// Its name in the config.
    pub fn name(self) -> &'static str {
        Policy::NAMES.iter().find(|(_, policy)| *policy == self).map_or("", |(name, _)| name)
    }

    /// Whether it chooses by the request's affinity key; only then the key is computed.
    pub fn uses_key(self) -> bool {
        matches!(self, Policy::Affinity)
    }

    /// Index of the chosen candidate; `candidates` must not be empty.
    pub fn pick(self, candidates: &[Candidate<'_>], affinity_key: u64, rng: &mut fastrand::Rng) -> usize {
        if candidates.len() == 1 {
            return 0;
        }
        match self {
            Policy::Weighted => weighted::pick(candidates.iter().map(|c| f64::from(c.weight)), rng),
            Policy::LeastRequests => least_requests::pick(candidates, rng),
            Policy::Latency => latency::pick(candidates, rng),
            Policy::Headroom => headroom::pick(candidates, rng),
            Policy::Affinity => affinity::pick(candidates, affinity_key),
        }
    }
}
