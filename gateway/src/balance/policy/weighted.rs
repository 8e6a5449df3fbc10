//! A draw in proportion to weights.

/// Index of the drawn weight. With all weights zero the first is taken.
pub(super) fn pick(weights: impl Iterator<Item = f64> + Clone, rng: &mut fastrand::Rng) -> usize {
    let total: f64 = weights.clone().sum();
    let mut point = rng.f64() * total;
    let mut last = 0;
    for (index, weight) in weights.enumerate().filter(|(_, weight)| *weight > 0.0) {
        last = index;
        point -= weight;
        if point < 0.0 {
            break;
        }
    }
    last
}
