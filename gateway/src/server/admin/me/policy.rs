//! Which keys owners may make, rotate and revoke. Keys and time are arguments.

use std::time::Duration;

use http::StatusCode;

use crate::config::IssuedKeyRules;
use crate::issued_keys::KeyRecord;

/// The longest time that a key stays valid beside the one that replaces it.
const MAX_GRACE: Duration = Duration::from_secs(7 * 86_400);

/// The least number of keys of a consumer, revoked and replaced ones included, up to which owners may make more.
const STORED: usize = 200;

/// Why an owner's request about a key is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// The same for what doesn't exist and for what belongs to others.
    #[error("there is no consumer of this name among those that you own; GET /api/me lists them")]
    NotYourConsumer,
    /// The same.
    #[error("there is no issued key with this id among those of your consumers; GET /api/me lists them")]
    NotYourKey,
    #[error(
        "'{consumer}' has {valid} valid keys, those that administrators made included; its owners may make one while it has fewer than {max} (consumers.issued_keys.max): revoke {} first",
        valid.saturating_sub(*max).saturating_add(1)
    )]
    TooMany { consumer: String, valid: usize, max: usize },
    #[error(
        "'{consumer}' has {replaced} keys that were replaced and are still valid, and may have {max}: revoke one of them, wait until one has ended, or rotate with \"grace\": \"0s\""
    )]
    TooManyReplaced { consumer: String, replaced: usize, max: usize },
    #[error("a key of '{consumer}' may live for at most {} (consumers.issued_keys.max_lifetime)", Span(*max))]
    TooLong { consumer: String, max: Duration },
    #[error("the old key may stay valid for at most {}", Span(MAX_GRACE))]
    LongGrace,
    #[error("'{consumer}' accepts only tokens, because its config asks for roles or scopes, which keys don't have")]
    TokensOnly { consumer: String },
    #[error(
        "an administrator made this key for a longer time than owners may ({}): make another one and revoke this one, or ask an administrator to rotate it",
        Span(*max)
    )]
    LongLived { max: Duration },
    #[error(
        "'{consumer}' has {stored} stored keys, revoked and replaced ones included; its owners may make one while it has fewer than {max}: keys are forgotten 30 days after the end that they were made with; until then only an administrator can make keys for it"
    )]
    TooManyStored { consumer: String, stored: usize, max: usize },
    #[error("another key has taken the place of this one already: rotate that one")]
    Replaced,
}

/// A time span in the largest unit that divides it.
struct Span(Duration);

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.as_secs();
        let units = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
        let (unit, name) = units.into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit)).unwrap_or((1, "second"));
        let number = seconds / unit;
        write!(f, "{number} {name}{}", if number == 1 { "" } else { "s" })
    }
}

impl Refused {
    /// The status of the answer.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Refused::NotYourConsumer | Refused::NotYourKey => StatusCode::NOT_FOUND,
            Refused::TooMany { .. }
            | Refused::TooManyReplaced { .. }
            | Refused::TooManyStored { .. }
            | Refused::TokensOnly { .. }
            | Refused::LongLived { .. }
            | Refused::Replaced => StatusCode::CONFLICT,
            Refused::TooLong { .. } | Refused::LongGrace => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }

    /// The field of the request that is at fault.
    pub(super) fn field(&self) -> Option<&'static str> {
        match self {
            Refused::NotYourConsumer | Refused::TokensOnly { .. } => Some("consumer"),
            Refused::TooLong { .. } => Some("expires"),
            Refused::LongGrace => Some("grace"),
            Refused::NotYourKey
            | Refused::TooMany { .. }
            | Refused::TooManyReplaced { .. }
            | Refused::TooManyStored { .. }
            | Refused::LongLived { .. }
            | Refused::Replaced => None,
        }
    }
}

/// How many keys of a consumer are valid now or later: those that count, and those that were replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Valid {
    pub(super) counted: usize,
    pub(super) replaced: usize,
}

/// The valid keys among those of one consumer, at `now` in seconds since 1970.
pub(super) fn valid<'k>(keys: impl IntoIterator<Item = &'k KeyRecord>, now: i64) -> Valid {
    let mut valid = Valid::default();
    for key in keys.into_iter().filter(|key| key.revoked.is_none() && key.expires.is_none_or(|end| end > now)) {
        *(if key.replaced { &mut valid.replaced } else { &mut valid.counted }) += 1;
    }
    valid
}

/// Whether one more key may be made.
pub(super) fn may_make(consumer: &str, valid: Valid, rules: &IssuedKeyRules) -> Result<(), Refused> {
    let fits = valid.counted < rules.max;
    fits.then_some(()).ok_or_else(|| Refused::TooMany { consumer: consumer.to_owned(), valid: valid.counted, max: rules.max })
}

/// Whether one more key may be stored for a consumer that has `stored` ones. Keys that were revoked stay for a while, and all
/// consumers share the room: one whose owners make keys again and again must not take it from the others.
pub(super) fn may_store(consumer: &str, stored: usize, rules: &IssuedKeyRules) -> Result<(), Refused> {
    let max = rules.max.saturating_mul(20).max(STORED);
    (stored < max).then_some(()).ok_or_else(|| Refused::TooManyStored { consumer: consumer.to_owned(), stored, max })
}

/// Until when a key is valid that is made at `now` and asked for until `wanted`: if that isn't said, as long as allowed.
pub(super) fn expiry(consumer: &str, wanted: Option<i64>, rules: &IssuedKeyRules, now: i64) -> Result<i64, Refused> {
    let last = now.saturating_add(seconds(rules.max_lifetime));
    match wanted {
        Some(end) if end > last => Err(Refused::TooLong { consumer: consumer.to_owned(), max: rules.max_lifetime }),
        wanted => Ok(wanted.unwrap_or(last)),
    }
}

/// Whether a key may be rotated and stay valid for another `grace`.
pub(super) fn may_rotate(key: &KeyRecord, grace: Duration, valid: Valid, rules: &IssuedKeyRules) -> Result<(), Refused> {
    if grace > MAX_GRACE {
        return Err(Refused::LongGrace);
    }
    if key.replaced {
        return Err(Refused::Replaced);
    }
    // The new key lives as long as this one was meant to.
    let lifetime = key.expires.map(|end| end.saturating_sub(key.created));
    if lifetime.is_none_or(|lifetime| lifetime > seconds(rules.max_lifetime)) {
        return Err(Refused::LongLived { max: rules.max_lifetime });
    }
    if !grace.is_zero() && valid.replaced >= rules.max {
        return Err(Refused::TooManyReplaced { consumer: key.consumer.to_string(), replaced: valid.replaced, max: rules.max });
    }
    Ok(())
}

fn seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;
    const DAY: i64 = 86_400;
    const RULES: IssuedKeyRules = IssuedKeyRules { max: 2, max_lifetime: Duration::from_secs(90 * 86_400) };

    fn key(change: impl FnOnce(&mut KeyRecord)) -> KeyRecord {
        let mut key = KeyRecord {
            id: "key-1".into(),
            consumer: "crm".into(),
            has_consumer: true,
            label: None,
            owner: None,
            models: None,
            hint: "spw_…".to_owned(),
            created: NOW - DAY,
            by: "kim".to_owned(),
            not_before: None,
            expires: Some(NOW + DAY),
            replaced: false,
            revoked: None,
            revoked_by: None,
            last_use: None,
        };
        change(&mut key);
        key
    }

    #[test]
    fn only_keys_that_can_still_be_used_count() {
        let keys = [
            key(|_| {}),
            key(|key| key.expires = None),
            key(|key| key.not_before = Some(NOW + 10)),
            key(|key| key.expires = Some(NOW)),
            key(|key| key.revoked = Some(NOW - 1)),
            key(|key| key.replaced = true),
        ];
        let valid = valid(&keys, NOW);
        assert_eq!(valid, Valid { counted: 3, replaced: 1 });
        assert!(may_make("crm", Valid { counted: 1, replaced: 9 }, &RULES).is_ok());
        let refused = may_make("crm", Valid { counted: 2, replaced: 0 }, &RULES).unwrap_err();
        assert_eq!(refused.status(), StatusCode::CONFLICT);
        assert!(refused.to_string().contains("has 2 valid keys") && refused.to_string().contains("revoke 1 first"), "{refused}");
        // Administrators are not bound, so there can be more than owners may make.
        let refused = may_make("crm", Valid { counted: 5, replaced: 0 }, &RULES).unwrap_err().to_string();
        assert!(
            refused.contains("has 5 valid keys, those that administrators made included") && refused.contains("fewer than 2"),
            "{refused}"
        );
        assert!(refused.contains("revoke 4 first"), "{refused}");
    }

    #[test]
    fn a_key_lives_as_long_as_asked_for_but_not_longer_than_allowed() {
        let until = |wanted: Option<i64>| expiry("crm", wanted, &RULES, NOW);
        assert_eq!(until(None), Ok(NOW + 90 * DAY));
        assert_eq!(until(Some(NOW + 90 * DAY)), Ok(NOW + 90 * DAY));
        assert_eq!(until(Some(NOW + 1)), Ok(NOW + 1));
        for wanted in [NOW + 90 * DAY + 1, i64::MAX] {
            let refused = until(Some(wanted)).unwrap_err();
            assert_eq!((refused.field(), refused.status()), (Some("expires"), StatusCode::UNPROCESSABLE_ENTITY));
            assert!(refused.to_string().contains("at most 90 days"), "{refused}");
        }
    }

    #[test]
    fn keys_that_are_made_and_revoked_again_and_again_fill_a_bounded_room() {
        assert!(may_store("crm", 199, &RULES).is_ok());
        let refused = may_store("crm", 200, &RULES).unwrap_err();
        assert_eq!(refused.status(), StatusCode::CONFLICT);
        assert!(refused.to_string().contains("has 200 stored keys"), "{refused}");
        assert!(may_store("crm", 1999, &IssuedKeyRules { max: 100, ..RULES }).is_ok());
    }

    #[test]
    fn a_rotation_makes_no_key_that_owners_could_not_make() {
        let day = Duration::from_secs(86_400);
        let ask = |key: &KeyRecord, grace: Duration, replaced: usize| may_rotate(key, grace, Valid { counted: 2, replaced }, &RULES);
        assert_eq!(ask(&key(|_| {}), day, 1), Ok(()));
        assert!(matches!(ask(&key(|_| {}), day, 2), Err(Refused::TooManyReplaced { .. })));
        assert_eq!(ask(&key(|_| {}), Duration::ZERO, 2), Ok(()));
        assert_eq!((ask(&key(|_| {}), 7 * day, 0), ask(&key(|_| {}), 8 * day, 0)), (Ok(()), Err(Refused::LongGrace)));
        assert_eq!(ask(&key(|key| key.replaced = true), day, 0), Err(Refused::Replaced));
        for expires in [None, Some(NOW + 90 * DAY)] {
            assert!(matches!(ask(&key(|key| key.expires = expires), day, 0), Err(Refused::LongLived { .. })), "{expires:?}");
        }
    }
}
