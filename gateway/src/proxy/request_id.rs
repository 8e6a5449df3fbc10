//! Ids for requests whose callers sent none.

use crate::random::with_rng;

/// 128 random bits in hexadecimal.
pub(super) fn new() -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bits = with_rng(|rng| rng.u128(..)).to_le_bytes();
    let mut digits = [0; 32];
    for (byte, pair) in bits.iter().zip(digits.chunks_exact_mut(2)) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    String::from_utf8(digits.to_vec()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_hexadecimal_and_differ() {
        let (a, b) = (new(), new());
        assert!(a.len() == 32 && a.bytes().all(|byte| byte.is_ascii_hexdigit()) && a != b);
    }
}
