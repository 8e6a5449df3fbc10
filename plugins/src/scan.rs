//! Where the first byte of some kind is, sixteen bytes at a time.
//!
//! A call of `memchr` costs about as much as reading a hundred bytes here, and most texts between two quotes or backslashes are
//! shorter. Blocks of bytes are compared with the processor's vector instructions by `wide`; texts that are shorter than a block in words of
//! eight bytes, by arithmetic.

use wide::i8x16;

/// Bytes that are compared together.
const BLOCK: usize = 16;
/// Bytes of a word.
const WORD: usize = 8;
/// How far it is read here; beyond this, `memchr` is faster.
const NEAR: usize = 16 * BLOCK;

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

/// The bytes of a block that are equal to one, which is ASCII.
#[inline]
fn equals(block: i8x16, to: u8) -> i8x16 {
    block.simd_eq(i8x16::splat(to as i8))
}

/// The bytes of a block that are in a range from `from` on, which is ASCII and has `count` bytes.
#[inline]
fn within(block: i8x16, from: u8, count: u8) -> i8x16 {
    // Comparisons have signs: the range is moved to the least numbers.
    let moved = block - i8x16::splat((from ^ 0x80) as i8);
    moved.simd_lt(i8x16::splat((count ^ 0x80) as i8))
}

/// A kind of bytes: those of a block, and those of a word.
trait Kind {
    fn in_block(block: i8x16) -> i8x16;
    fn in_word(word: u64) -> u64;
}

/// Two bytes, which are ASCII.
struct Either<const ONE: u8, const OTHER: u8>;
/// Quotes and backslashes.
type Mark = Either<b'"', b'\\'>;
/// `_` and `.`.
type Joint = Either<b'_', b'.'>;
/// What can't be in a JSON string as it is: a quote, a backslash or a control character.
struct Special;
/// Digits.
struct Digit;

impl<const ONE: u8, const OTHER: u8> Kind for Either<ONE, OTHER> {
    #[inline]
    fn in_block(block: i8x16) -> i8x16 {
        equals(block, ONE) | equals(block, OTHER)
    }

    #[inline]
    fn in_word(word: u64) -> u64 {
        equal(word, ONE) | equal(word, OTHER)
    }
}

impl Kind for Special {
    #[inline]
    fn in_block(block: i8x16) -> i8x16 {
        Mark::in_block(block) | within(block, 0, b' ')
    }

    #[inline]
    fn in_word(word: u64) -> u64 {
        // What turns the quote into the byte after the control characters leaves these below it.
        less(word ^ (ONES * u64::from(b'"' ^ b' ')), b' ' + 1) | equal(word, b'\\')
    }
}

impl Kind for Digit {
    #[inline]
    fn in_block(block: i8x16) -> i8x16 {
        within(block, b'0', 10)
    }

    #[inline]
    fn in_word(word: u64) -> u64 {
        less(word ^ (ONES * u64::from(b'0')), 10)
    }
}

#[inline]
fn in_block<K: Kind>(block: &[u8; BLOCK]) -> Option<usize> {
    let found = K::in_block(i8x16::new(block.map(|byte| byte as i8))).to_bitmask();
    (found != 0).then(|| found.trailing_zeros() as usize)
}

/// The first byte of a kind.
#[inline]
fn first<K: Kind>(bytes: &[u8]) -> Option<usize> {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    for (number, block) in blocks.iter().enumerate() {
        if let Some(at) = in_block::<K>(block) {
            return Some(BLOCK * number + at);
        }
    }
    if rest.is_empty() {
        return None;
    }
    match bytes.last_chunk() {
        // Some of them again.
        Some(last) => in_block::<K>(last).map(|at| bytes.len() - BLOCK + at),
        None => in_words::<K>(rest),
    }
}

/// The first byte of a kind in a text that is shorter than a block.
#[inline(never)]
fn in_words<K: Kind>(bytes: &[u8]) -> Option<usize> {
    let at = |word: &[u8; WORD]| {
        let found = K::in_word(u64::from_le_bytes(*word)) & HIGH;
        (found != 0).then(|| found.trailing_zeros() as usize / 8)
    };
    if let (Some(begin), Some(end)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return at(begin).or_else(|| at(end).map(|at| bytes.len() - WORD + at));
    }
    // Not one of the bytes that are looked for.
    let mut last = [0xff; WORD];
    last.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    at(&last)
}

/// The first quote or backslash.
pub(crate) fn mark(bytes: &[u8]) -> Option<usize> {
    let (near, far) = bytes.split_at(bytes.len().min(NEAR));
    first::<Mark>(near).or_else(|| memchr::memchr2(b'"', b'\\', far).map(|at| NEAR + at))
}

/// The first byte that can't be in a JSON string as it is: a quote, a backslash or a control character. It becomes a part of the
/// loops that call it once for each escape.
#[inline]
pub(crate) fn special(bytes: &[u8]) -> Option<usize> {
    let (near, far) = bytes.split_at(bytes.len().min(NEAR));
    first::<Special>(near).or_else(|| if far.is_empty() { None } else { far_special(far).map(|at| NEAR + at) })
}

/// In steps, so that a mark far away isn't looked for again and again.
#[inline(never)]
fn far_special(far: &[u8]) -> Option<usize> {
    let has = |step: &&[u8]| step.iter().fold(false, |hit, byte| hit | (*byte < b' ') | (*byte == b'"') | (*byte == b'\\'));
    let clean = far.chunks(STEP).take_while(|step| !has(step)).map(<[u8]>::len).sum::<usize>();
    first::<Special>(far.get(clean..)?).map(|at| clean + at)
}

/// The first `_` or `.`.
pub(crate) fn joint(bytes: &[u8]) -> Option<usize> {
    first::<Joint>(bytes)
}

/// The first digit.
pub(crate) fn digit(bytes: &[u8]) -> Option<usize> {
    first::<Digit>(bytes)
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
