//! Faults: at random from the settings, or on request by the header `x-mock-fault` in test mode.

use std::str::FromStr;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MockFault {
    /// Another status, with an error body (`status=503`).
    Status(u16),
    /// A 429 with this Retry-After in milliseconds (`throttle=1500`).
    Throttle(u64),
    /// A 429 without a Retry-After (`throttle-silently`).
    ThrottleSilently,
    /// The prompt is refused by the content filter (`content-filter`).
    ContentFilter,
    /// The prompt is too long for the model (`too-long`).
    TooLong,
    /// The first token comes so many milliseconds later (`slow=30000`).
    Slow(u64),
    /// An answer that is so many bytes longer (`oversized=4194304`).
    Oversized(usize),
    /// No answer at all (`stall`), or none after so many events (`stall=3`).
    Stall(usize),
    /// The connection closes after so many events (`cut=3`), or in the middle of a plain answer.
    Cut(usize),
    /// A rate-limit error inside HTTP 200, as Azure streams it (`error-event`).
    ErrorEvent,
    /// An event that is not JSON, among the others (`malformed`).
    Malformed,
    /// No `[DONE]` at the end (`no-done`).
    NoDone,
}

/// An unknown fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a known fault; known: status=N, throttle=MS, throttle-silently, content-filter, too-long, slow=MS, oversized=BYTES, stall[=N], cut[=N], error-event, malformed, no-done"
)]
pub struct ParseFaultError(pub String);

/// The longest oversized text, in bytes.
const LONGEST: usize = 64 << 20;

impl FromStr for MockFault {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, ParseFaultError> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let error = || ParseFaultError(text.to_owned());
        let number = |default: Option<usize>| match value {
            Some(value) => value.parse().map_err(|_| error()),
            None => default.ok_or_else(error),
        };
        match name {
            "status" => u16::try_from(number(None)?).ok().filter(|code| (400..600).contains(code)).map(MockFault::Status).ok_or_else(error),
            "throttle" => Ok(MockFault::Throttle(number(None)? as u64)),
            "throttle-silently" if value.is_none() => Ok(MockFault::ThrottleSilently),
            "content-filter" if value.is_none() => Ok(MockFault::ContentFilter),
            "too-long" if value.is_none() => Ok(MockFault::TooLong),
            "slow" => Ok(MockFault::Slow(number(None)? as u64)),
            "oversized" => number(None).ok().filter(|bytes| *bytes <= LONGEST).map(MockFault::Oversized).ok_or_else(error),
            "stall" => Ok(MockFault::Stall(number(Some(0))?)),
            "cut" => Ok(MockFault::Cut(number(Some(1))?)),
            "error-event" if value.is_none() => Ok(MockFault::ErrorEvent),
            "malformed" if value.is_none() => Ok(MockFault::Malformed),
            "no-done" if value.is_none() => Ok(MockFault::NoDone),
            _ => Err(error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        for (text, fault) in [
            ("status=503", MockFault::Status(503)),
            ("throttle=20", MockFault::Throttle(20)),
            ("stall", MockFault::Stall(0)),
            ("cut", MockFault::Cut(1)),
            ("cut=3", MockFault::Cut(3)),
            ("no-done", MockFault::NoDone),
            ("throttle-silently", MockFault::ThrottleSilently),
            ("slow=40000", MockFault::Slow(40_000)),
            ("oversized=4096", MockFault::Oversized(4096)),
            ("content-filter", MockFault::ContentFilter),
            ("too-long", MockFault::TooLong),
        ] {
            assert_eq!(text.parse(), Ok(fault));
        }
        for bad in ["", "status", "status=200", "cut=x", "malformed=1", "explode", "slow", "oversized=99999999999", "too-long=3"] {
            assert!(bad.parse::<MockFault>().is_err(), "{bad}");
        }
    }
}
