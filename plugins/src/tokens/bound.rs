//! A cheap upper estimate of a prompt's tokens, from its length: for the reservation.

use crate::json::Encoded;

/// Tokens of an image in the prompt: 1024 by 1024 pixels in full detail (OpenAI's images guide).
pub(super) const IMAGE: u64 = 765;

/// Bodies up to this size are examined as a whole; of longer ones, only samples.
const WHOLE: usize = 4096;
/// The number of samples, and the length of each.
const SAMPLES: usize = 16;
const SAMPLE: usize = 256;

/// The approximate number of tokens in a request body's prompt, rather too many than too few: a token for four bytes of
/// ASCII (as in English text) or two bytes of anything else, and a fixed number for each image in it. Takes the same
/// time for any length.
pub fn input_bound(body: &[u8], encoded: Encoded) -> u64 {
    let other = other_than_ascii(body);
    let text = body.len().saturating_sub(encoded.bytes);
    // Encoded bytes are ASCII, so all other bytes are in the text.
    let other = other.min(text);
    ((text - other).div_ceil(4) + other.div_ceil(2)) as u64 + encoded.count * IMAGE
}

/// The approximate number of bytes that are not ASCII.
fn other_than_ascii(body: &[u8]) -> usize {
    // Sums of at most 255 ones fit into a byte: a simple fold over a fixed width can be vectorised.
    let in_step = |step: &[u8]| usize::from(step.iter().fold(0u8, |sum, byte| sum + (byte >> 7)));
    // Most prompts are only ASCII, and checking that is faster than counting.
    let count = |bytes: &[u8]| if bytes.is_ascii() { 0 } else { bytes.chunks(192).map(in_step).sum::<usize>() };
    if body.len() <= WHOLE {
        return count(body);
    }
    let step = body.len() / SAMPLES;
    let seen: usize = (0..SAMPLES).map(|sample| count(&body[sample * step..][..SAMPLE.min(step)])).sum();
    seen * (body.len() / (SAMPLES * SAMPLE.min(step)))
}
