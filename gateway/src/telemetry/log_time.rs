//! A time of the day as logs write it (RFC 3339, in UTC, with milliseconds). The second is written once for all requests
//! that come in it.

use std::cell::Cell;
use std::fmt;

use chrono::{DateTime, SecondsFormat};

/// Length of `2026-11-10T12:00:00.000Z`.
const LENGTH: usize = 24;

/// A time, written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LogTime([u8; LENGTH]);

impl LogTime {
    /// The time so many milliseconds after the beginning of 1970.
    pub fn new(millis: i64) -> Self {
        thread_local!(static LAST: Cell<(i64, [u8; LENGTH])> = const { Cell::new((i64::MIN, [b'0'; LENGTH])) });
        let (second, rest) = (millis.div_euclid(1000), millis.rem_euclid(1000));
        let (last, mut text) = LAST.get();
        if last != second {
            text = whole_second(second);
            LAST.set((second, text));
        }
        for (place, value) in [(20, rest / 100), (21, rest / 10 % 10), (22, rest % 10)] {
            text[place] = b'0' + value as u8;
        }
        LogTime(text)
    }

    /// Its bytes, which are ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The beginning of a second. One that has no such form, outside of the years 0 to 9999, is the beginning of 1970.
fn whole_second(second: i64) -> [u8; LENGTH] {
    let written = |second| DateTime::from_timestamp(second, 0).map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true));
    let text = written(second).filter(|text| text.len() == LENGTH).unwrap_or_else(|| "1970-01-01T00:00:00.000Z".to_owned());
    text.as_bytes().first_chunk().copied().unwrap_or([b'0'; LENGTH])
}

impl fmt::Display for LogTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for LogTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
impl serde::Serialize for LogTime {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_that_has_no_such_form_is_written_all_the_same() {
        for millis in [i64::MIN, i64::MAX, 300_000_000_000_000] {
            assert_eq!(LogTime::new(millis).as_str().len(), LENGTH);
        }
    }

    proptest! {
        #[test]
        fn it_is_what_chrono_writes(start in 0..250_000_000_000_000i64, steps in prop::collection::vec(-1500..1500i64, 0..20)) {
            let mut millis = start;
            for step in steps {
                millis += step;
                let expected = DateTime::from_timestamp_millis(millis).unwrap().to_rfc3339_opts(SecondsFormat::Millis, true);
                let time = LogTime::new(millis);
                prop_assert_eq!(time.as_str(), expected.as_str());
            }
        }
    }
}
