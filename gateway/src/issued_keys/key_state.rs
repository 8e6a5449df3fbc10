//! Whether a key can be used, in a word: of issued keys, and of those in the config.

use spillway_plugins::auth::Validity;

/// Whether a key can be used at `now`, in a word.
pub fn state(validity: Validity, revoked: bool, has_consumer: bool, now: i64) -> &'static str {
    match validity {
        _ if revoked => "revoked",
        Validity { expires: Some(until), .. } if until <= now => "expired",
        _ if !has_consumer => "no consumer",
        Validity { not_before: Some(from), .. } if now < from => "not yet",
        _ => "valid",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_state() {
        let validity = |not_before, expires| Validity { not_before, expires };
        assert_eq!(state(validity(None, None), false, true, 5), "valid");
        assert_eq!(state(validity(Some(6), None), false, true, 5), "not yet");
        assert_eq!(state(validity(None, Some(5)), false, true, 5), "expired");
        assert_eq!(state(validity(None, Some(5)), true, false, 5), "revoked");
        assert_eq!(state(validity(None, None), false, false, 5), "no consumer");
    }
}
