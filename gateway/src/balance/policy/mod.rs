//! How a tier's usable members share the traffic. One file per policy.
//!
//! To add one: a file here, and a line in each of [`Policy::NAMES`] and [`Policy::pick`]; the
//! property suite below then runs on it.

mod affinity;
mod candidate;
mod headroom;
mod latency;
mod least_requests;
mod weighted;

#[cfg(test)]
mod tests;

pub use candidate::Candidate;

/// The policies by which members of one tier are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// In proportion to the weights.
    #[default]
    Weighted,
    /// The less busy of two, by requests in flight over weight.
    LeastRequests,
    /// The faster of two, by peak EWMA of the time to the first token.
    Latency,
    /// In proportion to weight times the share of the rate limits that is left.
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
