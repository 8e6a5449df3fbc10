//! In proportion to weight times the share of its rate limits that a member has left. A member whose share isn't known
//! counts as full; one that is nearly empty still gets a little, so that its next answer can report a new share.

use super::candidate::Candidate;
use super::weighted;

/// The lowest share that is used.
const LEAST: f64 = 0.02;

pub(super) fn pick(candidates: &[Candidate<'_>], rng: &mut fastrand::Rng) -> usize {
    let shares: smallvec::SmallVec<[f64; 32]> =
        candidates.iter().map(|c| f64::from(c.weight) * c.target.headroom().unwrap_or(1.0).max(LEAST)).collect();
    weighted::pick(shares.iter().copied(), rng)
}
