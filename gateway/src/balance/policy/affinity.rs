//! Bounded-load weighted rendezvous hashing: a key goes to the member with the highest score, so
//! that prompt caches stay warm and a lost member moves only its own keys; a member with more
//! than its fair share of the load passes to the next.

use super::Candidate;

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
            let score = score(candidate, key);
            if best.is_none_or(|(_, highest)| score > highest) {
                best = Some((index, score));
            }
        }
        best.map(|(index, _)| index)
    };
    best(true).or_else(|| best(false)).unwrap_or(0)
}

/// Weighted rendezvous score: -weight / log(u), with u in (0, 1) from a hash of key and member.
fn score(candidate: &Candidate<'_>, key: u64) -> f64 {
    let hash = mix(candidate.target.seed() ^ mix(key));
    let unit = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(candidate.weight) / log2(unit)
}

/// The finaliser of splitmix64: every bit of the input moves every bit of the output.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Logarithm to the base 2 of a positive normal number, to about 1e-4: exponent plus a series for
/// the mantissa around 1. A score needs no more, and a library call per member would show.
fn log2(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as f64 - 1023.0;
    // The mantissa, moved to [0.75, 1.5) so that the result is continuous around 1.
    let mantissa = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    let (mantissa, exponent) = if mantissa >= 1.5 { (mantissa / 2.0, exponent + 1.0) } else { (mantissa, exponent) };
    // ln(m) = 2 atanh((m - 1) / (m + 1))
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let t2 = t * t;
    exponent + std::f64::consts::LOG2_E * 2.0 * t * (1.0 + t2 * (1.0 / 3.0 + t2 * (1.0 / 5.0 + t2 / 7.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_close_enough() {
        for number in 1..10_000 {
            let x = f64::from(number) / 10_000.0;
            assert!((log2(x) - x.log2()).abs() < 1e-4, "{x}: {} is not {}", log2(x), x.log2());
        }
        assert!(log2(1.0 - f64::EPSILON) < 0.0, "never zero below one");
    }
}
