//! Bounded-load weighted rendezvous hashing: a key goes to the member with the highest score, so
//! that prompt caches stay warm and a lost member moves only its own keys; a member with more
//! than its fair share of the load passes to the next.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use super::Candidate;

/// How far above the average load a member may go.
const BOUND: f64 = 1.25;

pub(super) fn pick(candidates: &[Candidate<'_>], key: u64) -> usize {
    let total_weight: f64 = candidates.iter().map(|c| f64::from(c.weight)).sum();
    let in_flight: f64 = candidates.iter().map(|c| f64::from(c.target.in_flight())).sum::<f64>() + 1.0;
    let fits = |c: &Candidate<'_>| {
        let share = in_flight * f64::from(c.weight) / total_weight * BOUND;
        f64::from(c.target.in_flight()) < share.max(1.0)
    };
    let best = |only_fitting: bool| {
        let scored = candidates.iter().enumerate().filter(|(_, c)| !only_fitting || fits(c));
        scored.map(|(i, c)| (i, score(c, key))).max_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i)
    };
    best(true).or_else(|| best(false)).unwrap_or(0)
}

/// Weighted rendezvous score: -weight / ln(u), with u from a hash of key and member. The hash is
/// unseeded, so that every node and every run agrees.
fn score(candidate: &Candidate<'_>, key: u64) -> f64 {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one((key, &candidate.target.id));
    let unit = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(candidate.weight) / unit.ln()
}
