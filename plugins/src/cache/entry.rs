//! A cached answer, in memory and as bytes for a store that nodes share.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// An answer as its backend sent it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Whether `body` is a stream of events.
    pub streamed: bool,
    /// The backend that gave it.
    pub backend: Arc<str>,
    /// When it was cached, in milliseconds since 1970.
    pub kept_at: i64,
    /// When it expires, in milliseconds since 1970.
    pub good_until: i64,
    /// Input tokens that it took.
    pub input: u64,
    /// Output tokens that it took.
    pub output: u64,
    /// Its body.
    #[serde(skip)]
    pub body: Bytes,
}

/// The bytes are not an entry of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an entry of this version")]
pub struct EntryError;

/// The prefix of an entry's bytes; other versions have another one.
const VERSION: &[u8] = b"spillway-answer-2\n";

impl Entry {
    /// Whether it is valid at `now`, in milliseconds since 1970. An entry from the future is the result of a wrong
    /// clock.
    pub fn is_good(&self, now: i64) -> bool {
        now < self.good_until && now >= self.kept_at - 60_000
    }

    /// When an answer that is cached at `now` expires, in milliseconds since 1970.
    pub fn until(now: i64, ttl: Duration) -> i64 {
        now.saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX))
    }

    /// Seconds since it was cached.
    pub fn age(&self, now: i64) -> u64 {
        u64::try_from((now - self.kept_at) / 1000).unwrap_or(0)
    }

    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.body.len() + self.backend.len() + size_of::<Entry>()
    }

    /// As bytes: the version, the answer's facts as a line of JSON, and the answer.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_vec();
        // A struct of numbers and texts can always be serialised.
        let _ = serde_json::to_writer(&mut bytes, self);
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// From [`Entry::to_bytes`].
    ///
    /// # Errors
    /// [`EntryError`]
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, EntryError> {
        let rest = bytes.strip_prefix(VERSION).ok_or(EntryError)?;
        let end = memchr::memchr(b'\n', rest).ok_or(EntryError)?;
        let mut entry: Entry = serde_json::from_slice(&rest[..end]).map_err(|_| EntryError)?;
        entry.body = bytes.slice(VERSION.len() + end + 1..);
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            streamed: true,
            backend: "b".into(),
            kept_at: 1_000_000,
            good_until: 1_060_000,
            input: 3,
            output: 4,
            body: Bytes::from_static(b"data: {}\n\ndata: [DONE]\n\n"),
        }
    }

    #[test]
    fn an_entry_survives_as_bytes() {
        let bytes = Bytes::from(entry().to_bytes());
        assert_eq!(Entry::from_bytes(&bytes), Ok(entry()));
        for cut in [0, 5, VERSION.len(), VERSION.len() + 10] {
            assert_eq!(Entry::from_bytes(&bytes.slice(..cut)), Err(EntryError), "{cut}");
        }
        assert_eq!(Entry::from_bytes(&Bytes::from_static(b"spillway-answer-0\n{}\n")), Err(EntryError));
    }

    #[test]
    fn it_is_good_for_its_time() {
        let entry = entry();
        assert!(entry.is_good(1_000_000) && entry.is_good(1_059_999) && entry.is_good(999_000));
        assert!(!entry.is_good(1_060_000) && !entry.is_good(900_000));
        assert_eq!((entry.age(1_012_900), entry.age(999_000)), (12, 0));
    }
}
