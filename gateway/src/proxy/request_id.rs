//! Ids for requests whose callers sent none.

use crate::random::with_rng;

/// 128 random bits in hexadecimal.
pub(super) fn new() -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bits = with_rng(|rng| rng.u128(..));
    (0..32).map(|digit| char::from(DIGITS[(bits >> (digit * 4)) as usize & 15])).collect()
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
