//! Where the first byte of some kind is, eight bytes at a time.
//!
//! A call of `memchr` costs about as much as reading fifty bytes here, and most texts between two quotes or backslashes are
//! shorter. A word of eight bytes is compared by arithmetic: of what compilers make of a loop over more bytes, some is
//! slower than reading each by itself.

/// Bytes that are looked at together.
const WORD: usize = 8;
/// How far it is read here; beyond this, `memchr` is faster.
const NEAR: usize = 16 * WORD;

/// One in each byte of a word.
const ONES: u64 = 0x0101_0101_0101_0101;
/// The highest bit of each byte.
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Has the highest bit set in each byte that is less than `than`, which is at most 128; other bits have no meaning. Higher bytes
/// than the first one for which this holds may be wrong, too.
#[inline]
fn less(word: u64, than: u8) -> u64 {
    word.wrapping_sub(ONES * u64::from(than)) & !word
}

/// As [`less`], for bytes that are equal to one.
#[inline]
fn equal(word: u64, to: u8) -> u64 {
    less(word ^ (ONES * u64::from(to)), 1)
}

/// The first byte that `found` finds in a word.
#[inline]
fn first(bytes: &[u8], found: impl Fn(u64) -> u64) -> Option<usize> {
    let at = |word: &[u8; WORD]| {
        let found = found(u64::from_le_bytes(*word)) & HIGH;
        (found != 0).then(|| found.trailing_zeros() as usize / 8)
    };
    let (words, rest) = bytes.as_chunks::<WORD>();
    for (number, word) in words.iter().enumerate() {
        if let Some(at) = at(word) {
            return Some(WORD * number + at);
        }
    }
    if rest.is_empty() {
        return None;
    }
    // The last eight bytes, some of them again.
    if let Some(last) = bytes.last_chunk() {
        return at(last).map(|at| bytes.len() - WORD + at);
    }
    // Not one of the bytes that are looked for.
    let mut last = [0xff; WORD];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    at(&last)
}

/// The first quote or backslash.
pub(crate) fn mark(bytes: &[u8]) -> Option<usize> {
    let (near, far) = bytes.split_at(bytes.len().min(NEAR));
    let found = first(near, |word| equal(word, b'"') | equal(word, b'\\'));
    found.or_else(|| memchr::memchr2(b'"', b'\\', far).map(|at| NEAR + at))
}

/// The first byte that can't be in a JSON string as it is: a quote, a backslash or a control character.
pub(crate) fn special(bytes: &[u8]) -> Option<usize> {
    // What turns the quote into the byte after the control characters leaves these below it.
    let special = |word: u64| less(word ^ (ONES * u64::from(b'"' ^ b' ')), b' ' + 1) | equal(word, b'\\');
    let (near, far) = bytes.split_at(bytes.len().min(NEAR));
    first(near, special).or_else(|| {
        // In steps, so that a mark far away isn't looked for again and again.
        let has = |step: &&[u8]| step.iter().fold(false, |hit, byte| hit | (*byte < b' ') | (*byte == b'"') | (*byte == b'\\'));
        let clean = far.chunks(STEP).take_while(|step| !has(step)).map(<[u8]>::len).sum::<usize>();
        first(far.get(clean..)?, special).map(|at| NEAR + clean + at)
    })
}

/// The first `_` or `.`.
pub(crate) fn joint(bytes: &[u8]) -> Option<usize> {
    first(bytes, |word| equal(word, b'_') | equal(word, b'.'))
}

/// The first digit.
pub(crate) fn digit(bytes: &[u8]) -> Option<usize> {
    first(bytes, |word| less(word ^ (ONES * u64::from(b'0')), 10))
}

/// Bytes between two early exits of a search: a simple fold over a fixed width can be vectorised.
const STEP: usize = 256;

/// Whether any byte is a control character.
pub(crate) fn has_control(text: &[u8]) -> bool {
    text.chunks(STEP).any(|step| step.iter().fold(false, |hit, byte| hit | (*byte < 0x20)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_is_found(
            rare in prop::collection::vec(prop_oneof![60 => Just(b'a'), 1 => any::<u8>()], 0..300),
            all in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            for bytes in [&rare, &all] {
                prop_assert_eq!(mark(bytes), bytes.iter().position(|byte| b"\"\\".contains(byte)));
                prop_assert_eq!(special(bytes), bytes.iter().position(|byte| *byte < 0x20 || b"\"\\".contains(byte)));
                prop_assert_eq!(joint(bytes), bytes.iter().position(|byte| b"_.".contains(byte)));
                prop_assert_eq!(digit(bytes), bytes.iter().position(u8::is_ascii_digit));
            }
        }
    }
}
