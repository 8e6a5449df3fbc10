//! A cheap bound of a prompt's tokens, from its length: what admission reserves.

use crate::json::Encoded;

/// What an image in the prompt counts as: 1024 by 1024 pixels in full detail (OpenAI's images guide).
pub(super) const IMAGE: u64 = 765;

/// Bodies up to this are looked at as a whole; of longer ones, samples.
const WHOLE: usize = 4096;
/// How many samples, and how long each is.
const SAMPLES: usize = 16;
const SAMPLE: usize = 256;

/// About how many tokens a request body's prompt has, rather more than fewer: a token for four bytes of
/// ASCII (English text has about as many) or two bytes of anything else, and a fixed count for each image
/// that is written into it. Takes the same time however long the body is.
pub fn input_bound(body: &[u8], encoded: Encoded) -> u64 {
    let other = other_than_ascii(body);
    let text = body.len().saturating_sub(encoded.bytes);
    // What is encoded is ASCII, so all that is other stands in the text.
    let other = other.min(text);
    ((text - other).div_ceil(4) + other.div_ceil(2)) as u64 + encoded.count * IMAGE
}

/// About how many bytes are no ASCII.
fn other_than_ascii(body: &[u8]) -> usize {
    // Sums of at most 255 ones fit a byte: a plain fold over a fixed width is what vectorises.
    let in_step = |step: &[u8]| usize::from(step.iter().fold(0u8, |sum, byte| sum + (byte >> 7)));
    // Most prompts are ASCII through and through, which is seen sooner than counted.
    let count = |bytes: &[u8]| if bytes.is_ascii() { 0 } else { bytes.chunks(192).map(in_step).sum::<usize>() };
    if body.len() <= WHOLE {
        return count(body);
    }
    let step = body.len() / SAMPLES;
    let seen: usize = (0..SAMPLES).map(|sample| count(&body[sample * step..][..SAMPLE.min(step)])).sum();
    seen * (body.len() / (SAMPLES * SAMPLE.min(step)))
}
