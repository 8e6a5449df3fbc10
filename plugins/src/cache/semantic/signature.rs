//! Signatures of vectors: a few hundred bits whose differences estimate the angle between two vectors.
//!
//! Source: M. Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002. Each bit says on which
//! side of a random plane a vector lies; two vectors with an angle of θ differ in each bit with a probability of θ/π.

use std::f32::consts::PI;

/// Bits of a signature.
pub(super) const BITS: usize = 512;
const WORDS: usize = BITS / 64;

/// A vector's signature.
pub(super) type Signature = [u64; WORDS];

/// Random signs, 64 at once. The same in every process.
fn signs(round: u64, word: usize) -> u64 {
    // splitmix64 of the position.
    let mut z = (round << 32 | word as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The signature of a vector: on which side of each random plane it lies.
///
/// Instead of using planes, the vector is rotated at random, by two rounds of random signs and a Hadamard transform (N.
/// Ailon, B. Chazelle, "Approximate nearest neighbors and the fast Johnson-Lindenstrauss transform", STOC 2006): n log
/// n steps instead of n times the number of bits.
pub(super) fn signature(vector: &[f32]) -> Signature {
    let mut turned = vec![0.0f32; vector.len().next_power_of_two().max(BITS)];
    turned[..vector.len()].copy_from_slice(vector);
    for round in 0..2 {
        for (word, components) in turned.chunks_mut(64).enumerate() {
            let signs = signs(round, word);
            for (bit, component) in components.iter_mut().enumerate() {
                if (signs >> bit) & 1 == 1 {
                    *component = -*component;
                }
            }
        }
        hadamard(&mut turned);
    }
    let mut signature = [0; WORDS];
    for (bit, side) in turned.iter().take(BITS).enumerate() {
        signature[bit / 64] |= u64::from(*side > 0.0) << (bit % 64);
    }
    signature
}

/// The Walsh-Hadamard transform, in place, without its scale.
fn hadamard(values: &mut [f32]) {
    let mut half = 1;
    while half < values.len() {
        for block in values.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for (low, high) in low.iter_mut().zip(high) {
                (*low, *high) = (*low + *high, *low - *high);
            }
        }
        half *= 2;
    }
}

/// The number of bits in which two signatures differ.
pub(super) fn distance(one: &Signature, other: &Signature) -> u32 {
    one.iter().zip(other).map(|(one, other)| (one ^ other).count_ones()).sum()
}

/// The most bits in which vectors with at least this cosine differ, except for one pair in tens of thousands: the mean
/// plus five deviations.
pub(super) fn most(cosine: f32) -> u32 {
    let share = cosine.clamp(-1.0, 1.0).acos() / PI;
    let deviation = (share * (1.0 - share) * BITS as f32).sqrt();
    (share * BITS as f32 + 5.0 * deviation + 4.0).ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(rng: &mut u64, length: usize) -> Vec<f32> {
        let mut next = || {
            *rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*rng >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        (0..length).map(|_| next()).collect()
    }

    fn cosine(one: &[f32], other: &[f32]) -> f32 {
        let dot = |one: &[f32], other: &[f32]| one.iter().zip(other).map(|(one, other)| one * other).sum::<f32>();
        dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
    }

    #[test]
    fn near_vectors_differ_in_few_bits() {
        let mut rng = 7;
        for _ in 0..300 {
            let one = random(&mut rng, 384);
            let noise = random(&mut rng, 384);
            let other: Vec<f32> = one.iter().zip(&noise).map(|(one, noise)| one + 0.4 * noise).collect();
            let near = cosine(&one, &other);
            assert!(distance(&signature(&one), &signature(&other)) <= most(near), "{near}");
            let far = random(&mut rng, 384);
            assert!(distance(&signature(&one), &signature(&far)) > most(0.9), "{}", cosine(&one, &far));
        }
        assert_eq!(distance(&signature(&[1.0; 8]), &signature(&[2.0; 8])), 0);
    }
}
