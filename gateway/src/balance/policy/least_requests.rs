//! Weighted power of two choices: of two members drawn by weight, the one with fewer requests in flight per unit of
//! weight. Nearly as good as comparing all members, and requests don't all choose the same member.

use super::candidate::{Candidate, draw_two};

pub(super) fn pick(candidates: &[Candidate<'_>], rng: &mut fastrand::Rng) -> usize {
    let (a, b) = draw_two(candidates, rng);
    let load = |i: usize| f64::from(candidates[i].target.in_flight() + 1) / f64::from(candidates[i].weight.max(1));
    if load(b) < load(a) { b } else { a }
}
