//! Power of two choices by expected wait: peak EWMA of the time to the first token, times the requests already in
//! flight there. A member without a sample counts as fast as the other one.

use super::candidate::{Candidate, draw_two};

pub(super) fn pick(candidates: &[Candidate<'_>], rng: &mut fastrand::Rng) -> usize {
    let (a, b) = draw_two(candidates, rng);
    let known = (candidates[a].target.latency(), candidates[b].target.latency());
    let (latency_a, latency_b) = match known {
        (Some(a), Some(b)) => (a, b),
        (Some(known), None) | (None, Some(known)) => (known, known),
        (None, None) => (1.0, 1.0),
    };
    let cost = |latency: f64, i: usize| latency * f64::from(candidates[i].target.in_flight() + 1);
    if cost(latency_b, b) < cost(latency_a, a) { b } else { a }
}
