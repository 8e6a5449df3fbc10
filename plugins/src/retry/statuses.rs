//! Sets of HTTP statuses in the config's form: `429`, `"500-599"`.

use std::fmt;
use std::str::FromStr;

use http::StatusCode;

/// A text that is neither a status nor a range of statuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is neither an HTTP status (429) nor a range of statuses (\"500-599\")")]
pub struct ParseStatusError(pub String);

/// An inclusive range of statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange {
    first: u16,
    last: u16,
}

impl StatusRange {
    /// Every status.
    pub const ALL: StatusRange = StatusRange { first: 100, last: 999 };
}

impl FromStr for StatusRange {
    type Err = ParseStatusError;

    fn from_str(text: &str) -> Result<Self, ParseStatusError> {
        let parse = |part: &str| part.trim().parse().ok().filter(|code| (100..=999).contains(code));
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (parse(first), parse(last)) {
            (Some(first), Some(last)) if first <= last => Ok(StatusRange { first, last }),
            _ => Err(ParseStatusError(text.to_owned())),
        }
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// A set of statuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSet(Vec<StatusRange>);

impl StatusSet {
    /// The union of `ranges`.
    pub fn new(ranges: impl IntoIterator<Item = StatusRange>) -> Self {
        StatusSet(ranges.into_iter().collect())
    }

    /// Whether `status` is in the set.
    pub fn contains(&self, status: StatusCode) -> bool {
        let status = status.as_u16();
        self.0.iter().any(|range| (range.first..=range.last).contains(&status))
    }

    /// The statuses after which another target is used by default: 408, 429, 500, 502 to 504, 507 (this server has no room),
    /// 520 to 527 and 530 (a network's front can't reach it, or got no answer), and 529. A 501 or 505 would be the same at
    /// every target, a 424 or 425 may be about the request.
    pub fn retry_default() -> Self {
        let ranges = [(408, 408), (429, 429), (500, 500), (502, 504), (507, 507), (520, 527), (529, 530)];
        StatusSet(ranges.map(|(first, last)| StatusRange { first, last }).to_vec())
    }

    /// The statuses that count as failures for a circuit by default: 408 and 500 to 599.
    pub fn failure_default() -> Self {
        StatusSet(vec![StatusRange { first: 408, last: 408 }, StatusRange { first: 500, last: 599 }])
    }
}
