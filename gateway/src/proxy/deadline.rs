//! When a caller needs its answer: what its request says, or its consumer's `deadline`.
//!
//! It doesn't end the request. It decides how long cheap capacity is waited for.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{HeaderName, HeaderValue};

use super::refusal::Refusal;
use crate::clock::Tick;
use crate::config::scalar::DurationText;
use crate::request::Facts;

/// `x-spillway-deadline`: a duration from the request's arrival, such as `30s`, or a time in the form of RFC 3339.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-spillway-deadline");
/// A deadline that is further away is no different.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// When the caller needs its answer, if the header says so or its consumer does.
///
/// # Errors
/// The header has another form.
pub(super) fn read(header: Option<&HeaderValue>, facts: &Facts) -> Result<Option<Tick>, Refusal> {
    let left = match header {
        None => facts.consumer().and_then(|consumer| consumer.deadline),
        Some(value) => match value.to_str().ok().and_then(|text| left(text.trim(), facts.arrived_at)) {
            Some(left) => Some(left),
            None => {
                return Err(Refusal::Head {
                    what: "x-spillway-deadline is neither a duration such as '30s' nor a time such as '2026-01-31T08:00:00Z'",
                });
            }
        },
    };
    Ok(left.map(|left| facts.arrived + left.min(LONGEST)))
}

/// The time that is left; zero if the deadline is in the past.
fn left(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    match text.parse::<DurationText>() {
        Ok(span) => Some(span.0),
        Err(_) => DateTime::parse_from_rfc3339(text).ok().map(|at| (at.to_utc() - now).to_std().unwrap_or(Duration::ZERO)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_times() {
        let now = "2026-01-31T08:00:00Z".parse().unwrap();
        for (text, seconds) in
            [("30s", 30), ("5m", 300), ("2026-01-31T08:00:10Z", 10), ("2026-01-31T09:00:10+01:00", 10), ("2020-01-01T00:00:00Z", 0)]
        {
            assert_eq!(left(text, now), Some(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "soon", "10", "-5s", "2026-01-31"] {
            assert_eq!(left(wrong, now), None, "{wrong}");
        }
    }
}
