//! Issued keys as text: in the file, a line for each change, and in Redis.
//!
//! ```text
//! spillway issued keys, format 1
//! 0a1b2c3d [{"id":"key-0123456789abcdef","consumer":"crm","hint":"spw_Ab3d…x9Qz","sha256":"…",…}]
//! ```
//!
//! A line has the CRC-32 of the rest in hexadecimal, and the keys that one change is about, as they are after it. A line
//! counts as a whole or not at all. Later lines about a key add to earlier ones ([`StoredKey::merge`]).

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use spillway_plugins::auth::Stored;

use super::record::{Made, Revoked, StoredKey};

/// The first line of the file, without the number of the format.
const TITLE: &str = "spillway issued keys, format ";
/// The first line of the file.
pub(super) const HEADER: &str = "spillway issued keys, format 1\n";

/// A key, as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    id: Arc<str>,
    consumer: Arc<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<Arc<[String]>>,
    hint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hmac_sha256: Option<String>,
    created: i64,
    by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ends: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_by: Option<String>,
}

impl From<&StoredKey> for Written {
    fn from(key: &StoredKey) -> Self {
        let Made { created, id, consumer, label, owner, models, hint, stored, by, not_before, expires } = &*key.made;
        let (sha256, hmac_sha256) = match stored {
            Stored::Sha256(digest) => (Some(digest.to_string()), None),
            Stored::Hmac(digest) => (None, Some(digest.to_string())),
        };
        Written {
            id: Arc::clone(id),
            consumer: Arc::clone(consumer),
            label: label.clone(),
            owner: owner.clone(),
            models: models.clone(),
            hint: hint.clone(),
            sha256,
            hmac_sha256,
            created: *created,
            by: by.clone(),
            not_before: *not_before,
            expires: *expires,
            ends: key.ends,
            revoked: key.revoked.as_ref().map(|revoked| revoked.at),
            revoked_by: key.revoked.as_ref().map(|revoked| revoked.by.clone()),
        }
    }
}

impl Written {
    /// `None` if it has no digest, or two.
    fn read(self) -> Option<StoredKey> {
        let stored = match (self.sha256, self.hmac_sha256) {
            (Some(digest), None) => Stored::Sha256(digest.parse().ok()?),
            (None, Some(digest)) => Stored::Hmac(digest.parse().ok()?),
            _ => return None,
        };
        let made = Made {
            created: self.created,
            id: self.id,
            consumer: self.consumer,
            label: self.label,
            owner: self.owner,
            models: self.models,
            hint: self.hint,
            stored,
            by: self.by,
            not_before: self.not_before,
            expires: self.expires,
        };
        let revoked = self.revoked.map(|at| Revoked { at, by: self.revoked_by.unwrap_or_default() });
        Some(StoredKey { made: Arc::new(made), ends: self.ends, revoked })
    }
}

/// A key as one JSON object.
pub(super) fn object(key: &StoredKey) -> String {
    // Texts and numbers can always be written.
    serde_json::to_string(&Written::from(key)).unwrap_or_default()
}

/// The key of such an object; `None` if it isn't one.
pub(super) fn parse_object(text: &str) -> Option<StoredKey> {
    serde_json::from_str::<Written>(text).ok()?.read()
}

/// The line of a change.
pub(super) fn line<'k>(keys: impl IntoIterator<Item = &'k StoredKey>) -> String {
    let written: Vec<Written> = keys.into_iter().map(Written::from).collect();
    // Texts and numbers can always be written.
    let json = serde_json::to_string(&written).unwrap_or_default();
    format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()))
}

/// What a file has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// The keys of all good lines, in their order.
    pub(super) keys: Vec<StoredKey>,
    /// Number of good lines.
    pub(super) lines: usize,
    /// All other bytes, and how many pieces they are.
    pub(super) damaged: (Vec<u8>, usize),
}

/// Why a file is not one of this program's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Foreign {
    /// A newer version wrote it.
    #[error("it was written by a newer version of spillway")]
    Newer,
    /// Something else.
    #[error("it is no file of issued keys")]
    Unknown,
}

/// Reads a whole file.
pub(super) fn file(bytes: &[u8]) -> Result<Contents, Foreign> {
    if let Some(rest) = bytes.strip_prefix(HEADER.as_bytes()) {
        return Ok(lines(rest));
    }
    match bytes {
        // The process was killed while it wrote the first line.
        torn if HEADER.as_bytes().starts_with(torn) => Ok(Contents::default()),
        other if other.starts_with(TITLE.as_bytes()) && other[TITLE.len()..].first().is_some_and(u8::is_ascii_digit) => Err(Foreign::Newer),
        _ => Err(Foreign::Unknown),
    }
}

/// Reads lines behind the first one. Good lines count wherever they are: what follows a damaged one may be a revocation.
pub(super) fn lines(bytes: &[u8]) -> Contents {
    let mut contents = Contents::default();
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        match change(piece) {
            Some(keys) => {
                contents.keys.extend(keys);
                contents.lines += 1;
            }
            None => {
                contents.damaged.0.extend_from_slice(piece);
                contents.damaged.1 += 1;
            }
        }
    }
    contents
}

/// The keys of a good line.
fn change(line: &[u8]) -> Option<Vec<StoredKey>> {
    let text = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (sum, json) = text.split_once(' ')?;
    if sum != format!("{:08x}", crc32fast::hash(json.as_bytes())) {
        return None;
    }
    serde_json::from_str::<Vec<Written>>(json).ok()?.into_iter().map(Written::read).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::issued_keys::record::tests::any_key;

    fn text_of(changes: &[Vec<StoredKey>]) -> Vec<u8> {
        changes.iter().fold(HEADER.to_owned(), |text, keys| text + &line(keys)).into_bytes()
    }

    fn any_changes() -> impl Strategy<Value = Vec<Vec<StoredKey>>> {
        prop::collection::vec(prop::collection::vec(any_key(), 1..3), 0..6)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(changes in any_changes()) {
            let read = file(&text_of(&changes)).unwrap();
            prop_assert_eq!((&read.keys, read.lines), (&changes.concat(), changes.len()));
            prop_assert_eq!(read.damaged, (Vec::new(), 0));
            for key in changes.concat() {
                prop_assert_eq!(parse_object(&object(&key)), Some(key));
            }
        }

        #[test]
        fn a_file_that_is_cut_at_any_byte_has_every_whole_line_and_nothing_else(changes in any_changes()) {
            let text = text_of(&changes);
            for end in 0..text.len() {
                let torn = &text[..end];
                let whole = torn.iter().filter(|byte| **byte == b'\n').count().saturating_sub(1);
                let read = file(torn).unwrap();
                prop_assert_eq!((&read.keys, read.lines), (&changes[..whole].concat(), whole));
                let rest = if end < HEADER.len() { &[][..] } else { torn.rsplit(|byte| *byte == b'\n').next().unwrap() };
                prop_assert_eq!(&read.damaged.0, rest, "the rest is set aside, to the byte");
            }
        }

        #[test]
        fn a_damaged_byte_costs_its_line_and_no_other(changes in any_changes(), at: prop::sample::Index, bits in 1..=255u8) {
            prop_assume!(!changes.is_empty());
            let mut text = text_of(&changes);
            let at = HEADER.len() + at.index(text.len() - HEADER.len());
            // A new end of a line, or one less, concerns two lines.
            prop_assume!(text[at] != b'\n' && text[at] ^ bits != b'\n');
            let hit = text[HEADER.len()..at].iter().filter(|byte| **byte == b'\n').count();
            text[at] ^= bits;
            let read = file(&text).unwrap();
            let others: Vec<StoredKey> = changes.iter().enumerate().filter(|(at, _)| *at != hit).flat_map(|(_, keys)| keys.clone()).collect();
            prop_assert_eq!((read.keys, read.damaged.1), (others, 1));
        }

        #[test]
        fn other_bytes_are_never_keys(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(file(&[HEADER.as_bytes(), &bytes].concat()).unwrap().keys.is_empty());
            if !HEADER.as_bytes().starts_with(&bytes) {
                prop_assert_eq!(file(&bytes), Err(Foreign::Unknown));
            }
        }
    }

    #[test]
    fn files_of_others_and_of_newer_versions_are_told_apart() {
        assert_eq!(file(b"spillway issued keys, format 2\n"), Err(Foreign::Newer));
        assert_eq!(file(b"spillway issued keys, format 12\n"), Err(Foreign::Newer));
        for foreign in [&b"{}"[..], b"SQLite format 3\0", b"spillway issued keys, format x", b"\n"] {
            assert_eq!(file(foreign), Err(Foreign::Unknown));
        }
    }
}
