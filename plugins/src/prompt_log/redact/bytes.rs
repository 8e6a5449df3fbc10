//! Access to the bytes around a position, with bounds checks.

use std::ops::Range;

use crate::scan;

/// The byte before `at`.
pub fn before(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at.checked_sub(1)?).copied()
}

/// Whether a letter or digit at `at` is the first of its word. Letters beyond ASCII don't count: many languages write
/// no spaces.
pub fn starts_word(bytes: &[u8], at: usize) -> bool {
    match before(bytes, at) {
        // The `n` of an escaped line end.
        Some(b'n' | b'r' | b't') if before(bytes, at - 1) == Some(b'\\') => true,
        Some(byte) => !byte.is_ascii_alphanumeric(),
        None => true,
    }
}

/// Whether a word that ends before `at` doesn't continue.
pub fn ends_word(bytes: &[u8], at: usize) -> bool {
    bytes.get(at).is_none_or(|byte| !byte.is_ascii_alphanumeric())
}

/// The byte at `at` satisfies `is`.
pub fn at_is(bytes: &[u8], at: usize, is: impl Fn(u8) -> bool) -> bool {
    bytes.get(at).is_some_and(|byte| is(*byte))
}

/// Whether there is a digit at `at`.
pub fn digit_at(bytes: &[u8], at: usize) -> bool {
    at_is(bytes, at, |byte| byte.is_ascii_digit())
}

/// The first digit from `at` on.
fn next_digit(bytes: &[u8], at: usize) -> Option<usize> {
    scan::digit(bytes.get(at..)?).map(|found| at + found)
}

/// Where digits in a row begin, from `at` on; then where they end.
pub fn next_number(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let start = next_digit(bytes, at)?;
    Some(start..run(bytes, start, |byte| byte.is_ascii_digit()))
}

/// The position after `at` from which the bytes no longer satisfy `is`.
pub fn run(bytes: &[u8], at: usize, is: impl Fn(u8) -> bool) -> usize {
    bytes.get(at..).and_then(|rest| rest.iter().position(|byte| !is(*byte))).map_or(bytes.len(), |len| at + len)
}

/// The length of the blank at `at` if it can be within a number: a space, also a non-breaking one.
pub fn blank(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at..).unwrap_or_default() {
        [b' ', ..] => 1,
        [0xc2, 0xa0, ..] => 2,
        [0xe2, 0x80, 0xaf, ..] => 3,
        _ => 0,
    }
}

/// Whether `start` to `end` is part of a UUID.
pub fn in_uuid(bytes: &[u8], start: usize, end: usize) -> bool {
    const LEN: usize = 36;
    let part = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b'-';
    let left = bytes[..start].iter().rev().take(LEN).take_while(|byte| part(byte)).count();
    let right = bytes[end..].iter().take(LEN).take_while(|byte| part(byte)).count();
    let word = &bytes[start - left..end + right];
    word.len() == LEN && word.iter().enumerate().all(|(at, byte)| (*byte == b'-') == matches!(at, 8 | 13 | 18 | 23))
}
