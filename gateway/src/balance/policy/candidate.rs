//! A usable member, as the policies see it.

use super::weighted;
use crate::balance::target::Target;

/// A usable member.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its target.
    pub target: &'a Target,
    /// Its weight, at least 1.
    pub weight: u32,
}

/// Two different candidates, each drawn by weight: the start of "power of two choices".
pub(super) fn draw_two(candidates: &[Candidate<'_>], rng: &mut fastrand::Rng) -> (usize, usize) {
    let first = weighted::pick(candidates.iter().map(|c| f64::from(c.weight)), rng);
    let others = candidates.iter().enumerate().map(|(i, c)| if i == first { 0.0 } else { f64::from(c.weight) });
    (first, weighted::pick(others, rng))
}
