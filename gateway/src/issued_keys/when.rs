//! Times as people write them for keys.

use chrono::{DateTime, Utc};

use crate::config::scalar::{DurationText, TimeText};

/// A time as the config writes it, such as `2027-01-31`, or a duration from `now` on, such as `90d`; `None` if it is
/// neither.
pub fn when(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let later = || now.checked_add_signed(chrono::TimeDelta::from_std(text.parse::<DurationText>().ok()?.0).ok()?);
    text.parse::<TimeText>().map(|at| at.0).ok().or_else(later)
}
