//! Where the first byte of some kind is, sixteen bytes at a time.
//!
//! A call of `memchr` costs about as much as reading a hundred bytes here, and most texts between two quotes or
//! backslashes are shorter.

/// Bytes that are looked at together: the width of the vectors that every x86-64 and arm64 processor has.
const BLOCK: usize = 16;

/// The first byte for which `is` holds. It should be made of comparisons without branches (`|` instead of `||`), so that
/// a block needs one comparison and not sixteen.
#[inline]
pub(crate) fn first(bytes: &[u8], is: impl Fn(u8) -> bool) -> Option<usize> {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    for (number, block) in blocks.iter().enumerate() {
        let found = u128::from_le_bytes(block.map(|byte| if is(byte) { 0xff } else { 0 }));
        if found != 0 {
            return Some(BLOCK * number + found.trailing_zeros() as usize / 8);
        }
    }
    let done = bytes.len() - rest.len();
    rest.iter().position(|byte| is(*byte)).map(|at| done + at)
}

/// The first quote or backslash.
pub(crate) fn mark(bytes: &[u8]) -> Option<usize> {
    // Beyond this, `memchr` is faster.
    const NEAR: usize = 8 * BLOCK;
    let (near, far) = bytes.split_at(bytes.len().min(NEAR));
    let found = first(near, |byte| (byte == b'"') | (byte == b'\\'));
    found.or_else(|| memchr::memchr2(b'"', b'\\', far).map(|at| NEAR + at))
}

/// The first byte that can't be in a JSON string as it is: a quote, a backslash or a control character.
pub(crate) fn special(bytes: &[u8]) -> Option<usize> {
    first(bytes, |byte| (byte == b'"') | (byte == b'\\') | (byte < b' '))
}

/// The first digit.
pub(crate) fn digit(bytes: &[u8]) -> Option<usize> {
    first(bytes, |byte| byte.is_ascii_digit())
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
                prop_assert_eq!(digit(bytes), bytes.iter().position(u8::is_ascii_digit));
            }
        }
    }
}
