//! Bounded-load weighted rendezvous hashing: a key goes to the member with the highest score, so that prompt caches are
//! used and a lost member moves only its own keys; a member with more than its fair share of the load passes the key to
//! the next one.

use std::f64::consts::LN_2;

use super::candidate::Candidate;

/// How far above the average load a member may go.
const BOUND: f64 = 1.25;

pub(super) fn pick(candidates: &[Candidate<'_>], key: u64) -> usize {
    let total_weight: f64 = candidates.iter().map(|c| f64::from(c.weight)).sum();
    let in_flight: f64 = candidates.iter().map(|c| f64::from(c.target.in_flight())).sum::<f64>() + 1.0;
    let per_weight = in_flight / total_weight * BOUND;
    let fits = |c: &Candidate<'_>| f64::from(c.target.in_flight()) < (f64::from(c.weight) * per_weight).max(1.0);
    let best = |only_fitting: bool| {
        let mut best: Option<(usize, f64)> = None;
        for (index, candidate) in candidates.iter().enumerate().filter(|(_, c)| !only_fitting || fits(c)) {
            let (weight, unit) = (f64::from(candidate.weight), unit(candidate, key));
            // As -log2(u) >= (1 - u) / ln 2, most members are skipped without a logarithm.
            if best.is_some_and(|(_, highest)| weight * LN_2 <= highest * (1.0 - unit)) {
                continue;
            }
            let score = -weight / unit.log2();
            if best.is_none_or(|(_, highest)| score > highest) {
                best = Some((index, score));
            }
        }
        best.map(|(index, _)| index)
    };
    best(true).or_else(|| best(false)).unwrap_or(0)
}

/// A number u in (0, 1) from key and member. The weighted rendezvous score is -weight / log(u).
fn unit(candidate: &Candidate<'_>, key: u64) -> f64 {
    let hash = mix(candidate.target.seed() ^ mix(key));
    ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// The finaliser of splitmix64: every bit of the input changes every bit of the output.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
