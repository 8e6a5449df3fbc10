//! The vendors' Retry-After and rate-limit headers, read by pure functions of `now`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::HeaderMap;

/// What is left of one quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// Units left in the window, if known.
    pub remaining: Option<u64>,
    /// The window's size, if known and positive.
    pub limit: Option<u64>,
    /// Time until the window is full again.
    pub reset: Option<Duration>,
}

impl Quota {
    /// The share that is left, 0 to 1, if both numbers are known.
    pub fn headroom(&self) -> Option<f64> {
        let (remaining, limit) = (self.remaining?, self.limit?);
        Some((remaining as f64 / limit as f64).clamp(0.0, 1.0))
    }

    /// How long the target has nothing left, if the headers say so.
    pub fn exhausted_for(&self) -> Option<Duration> {
        (self.remaining == Some(0)).then_some(self.reset)?.filter(|reset| !reset.is_zero())
    }
}

/// What an upstream's headers say about its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateSignal {
    /// How long to send nothing (`retry-after-ms`, `x-ms-retry-after-ms`, `retry-after`).
    pub retry_after: Option<Duration>,
    /// Requests left.
    pub requests: Quota,
    /// Tokens left; the tightest of Anthropic's three token windows.
    pub tokens: Quota,
}

impl RateSignal {
    /// The smaller share of requests and tokens that is left.
    pub fn headroom(&self) -> Option<f64> {
        match (self.requests.headroom(), self.tokens.headroom()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// How long to send nothing after a refusal: its Retry-After, or the time until something is left again.
    pub fn refused_for(&self) -> Option<Duration> {
        let resets = || [self.requests.reset, self.tokens.reset].into_iter().flatten().filter(|reset| !reset.is_zero()).min();
        self.retry_after.or_else(|| self.exhausted_for()).or_else(resets)
    }

    /// How long nothing is left according to a successful answer.
    pub fn exhausted_for(&self) -> Option<Duration> {
        self.requests.exhausted_for().max(self.tokens.exhausted_for())
    }
}

/// The wait if a vendor says that there is none.
const AT_ONCE: Duration = Duration::from_millis(100);

/// The number of a quota that a header contains.
#[derive(Clone, Copy)]
enum Part {
    Limit,
    Remaining,
    Reset,
}

/// A quota whose vendor may not know its limit: then it is zero or less.
#[derive(Default)]
struct QuotaHeaders {
    quota: Quota,
    unknown: bool,
}

impl QuotaHeaders {
    fn take(&mut self, part: Part, value: &str, now: impl FnOnce() -> DateTime<Utc>) {
        match part {
            Part::Reset => self.quota.reset = reset(value, now),
            Part::Remaining => self.quota.remaining = value.parse::<i64>().ok().and_then(|left| u64::try_from(left).ok()),
            Part::Limit => {
                let limit = value.parse::<i64>().ok();
                self.unknown = limit.is_some_and(|limit| limit <= 0);
                self.quota.limit = limit.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0);
            }
        }
    }

    /// Takes a number as most vendors write it: only digits. `None` if the value has another form.
    fn take_plain(&mut self, part: Part, value: &[u8]) -> Option<()> {
        // So short that it is exact in every number's type.
        let is_plain = (1..=15).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
        let number = is_plain.then(|| value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))?;
        match part {
            Part::Reset => self.quota.reset = Some(Duration::from_secs(number)),
            Part::Remaining => self.quota.remaining = Some(number),
            Part::Limit => {
                self.unknown = number == 0;
                self.quota.limit = Some(number).filter(|limit| *limit > 0);
            }
        }
        Some(())
    }

    fn finish(self) -> Quota {
        Quota { remaining: self.quota.remaining.filter(|_| !self.unknown), ..self.quota }
    }
}

/// Reads the limits out of a response head.
///
/// Azure and OpenAI: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`; Anthropic:
/// `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}`.
/// A limit of zero or less means that the vendor doesn't know it (Azure's Responses API sends -1).
pub fn read_signal(headers: &HeaderMap, now: impl FnOnce() -> DateTime<Utc>) -> RateSignal {
    read_signal_of(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())), now)
}

/// As [`read_signal`], of fields whose names are in small letters.
pub fn read_signal_of<'h>(fields: impl Iterator<Item = (&'h str, &'h [u8])>, now: impl FnOnce() -> DateTime<Utc>) -> RateSignal {
    // Few values are dates, so the clock is read only for those.
    let mut now = Some(now);
    let mut clock = None;
    let mut now = || *clock.get_or_insert_with(|| now.take().map_or_else(DateTime::default, |now| now()));
    let mut requests = QuotaHeaders::default();
    let mut tokens: [QuotaHeaders; 3] = Default::default();
    let mut waits = Waits::default();
    for (name, value) in fields {
        let Some(field) = field(name) else { continue };
        let quota = match field {
            Field::Requests(part) => Some((&mut requests, part)),
            Field::Tokens(window, part) => Some((&mut tokens[window], part)),
            Field::Wait => None,
        };
        if let Some((quota, part)) = quota {
            if quota.take_plain(part, value).is_none()
                && let Ok(text) = std::str::from_utf8(value)
            {
                quota.take(part, text.trim(), &mut now);
            }
        } else if let Ok(text) = std::str::from_utf8(value) {
            waits.take(name, text.trim(), &mut now);
        }
    }
    let tokens = tokens
        .map(QuotaHeaders::finish)
        .into_iter()
        .filter(|quota| quota.remaining.is_some() || quota.limit.is_some())
        .min_by(|a, b| a.headroom().unwrap_or(1.0).total_cmp(&b.headroom().unwrap_or(1.0)))
        .unwrap_or_default();
    RateSignal { retry_after: waits.finish(), requests: requests.finish(), tokens }
}

/// The meaning of a header.
enum Field {
    Requests(Part),
    /// One of up to three token windows.
    Tokens(usize, Part),
    Wait,
}

fn field(name: &str) -> Option<Field> {
    let part = |text: &str| match text {
        "limit" => Some(Part::Limit),
        "remaining" => Some(Part::Remaining),
        "reset" => Some(Part::Reset),
        _ => None,
    };
    if let Some(rest) = name.strip_prefix("x-ratelimit-") {
        return match rest.strip_suffix("-requests") {
            Some(first) => part(first).map(Field::Requests),
            None => part(rest.strip_suffix("-tokens")?).map(|part| Field::Tokens(0, part)),
        };
    }
    if let Some(rest) = name.strip_prefix("anthropic-ratelimit-") {
        let (what, last) = rest.rsplit_once('-')?;
        return match what {
            "requests" => part(last).map(Field::Requests),
            "tokens" => part(last).map(|part| Field::Tokens(0, part)),
            "input-tokens" => part(last).map(|part| Field::Tokens(1, part)),
            "output-tokens" => part(last).map(|part| Field::Tokens(2, part)),
            _ => None,
        };
    }
    matches!(name, "retry-after" | "retry-after-ms" | "x-ms-retry-after-ms").then_some(Field::Wait)
}

/// The three headers with a wait; milliseconds have priority over seconds.
#[derive(Default)]
struct Waits {
    millis: Option<Duration>,
    seconds: Option<Duration>,
}

impl Waits {
    fn take(&mut self, name: &str, value: &str, now: impl FnOnce() -> DateTime<Utc>) {
        if name.ends_with("-ms") {
            let wait = value.parse::<f64>().ok().and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok());
            self.millis = self.millis.or(wait);
        } else if let Ok(seconds) = value.parse::<f64>() {
            self.seconds = Duration::try_from_secs_f64(seconds).ok();
        } else if let Ok(date) = httpdate::parse_http_date(value) {
            // A time in the past means no wait.
            self.seconds = Some((DateTime::<Utc>::from(date) - now()).to_std().unwrap_or_default());
        }
    }

    fn finish(self) -> Option<Duration> {
        self.millis.or(self.seconds).map(|wait| if wait.is_zero() { AT_ONCE } else { wait })
    }
}

/// Reads a reset time: plain seconds (Azure), a Go duration such as `1m30.951s` (OpenAI), or an
/// RFC 3339 instant (Anthropic).
pub fn parse_reset(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    reset(value, || now)
}

fn reset(value: &str, now: impl FnOnce() -> DateTime<Utc>) -> Option<Duration> {
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(value) {
        return Some((at.with_timezone(&Utc) - now()).to_std().unwrap_or_default());
    }
    parse_go_duration(value)
}

fn parse_go_duration(value: &str) -> Option<Duration> {
    let mut rest = value;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|len| *len > 0)?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        seconds += number
            * match &rest[..unit_len] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" | "μs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[unit_len..];
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::parse_from_rfc3339("2026-03-01T12:00:00Z").unwrap().with_timezone(&Utc)
    }

    fn signal(pairs: &[(&'static str, &str)]) -> RateSignal {
        let headers = pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect();
        read_signal(&headers, now)
    }

    #[test]
    fn retry_after_in_every_form() {
        let after = |pairs: &[(&'static str, &str)]| signal(pairs).retry_after;
        assert_eq!(after(&[("retry-after-ms", "1500"), ("retry-after", "2")]), Some(Duration::from_millis(1500)));
        assert_eq!(after(&[("x-ms-retry-after-ms", "20")]), Some(Duration::from_millis(20)));
        assert_eq!(after(&[("retry-after", "17")]), Some(Duration::from_secs(17)));
        assert_eq!(after(&[("retry-after", "1.5")]), Some(Duration::from_millis(1500)));
        assert_eq!(after(&[("retry-after", "Sun, 01 Mar 2026 12:00:30 GMT")]), Some(Duration::from_secs(30)));
        for nonsense in ["-5", "soon", "NaN", "inf", "1e400"] {
            assert_eq!(after(&[("retry-after", nonsense)]), None, "{nonsense}");
        }
        for at_once in
            [("retry-after", "0"), ("retry-after-ms", "0"), ("retry-after", "1e-300"), ("retry-after", "Sun, 01 Mar 2020 12:00:30 GMT")]
        {
            assert_eq!(after(&[at_once]), Some(AT_ONCE), "{at_once:?}");
        }
    }

    #[test]
    fn the_clock_is_read_once_and_only_for_a_date() {
        let reads = |pairs: &[(&'static str, &str)]| {
            let headers = pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect();
            let mut reads = 0;
            read_signal(&headers, || {
                reads += 1;
                now()
            });
            reads
        };
        let usual = [("x-ratelimit-remaining-requests", "5"), ("x-ratelimit-reset-requests", "1s"), ("x-ratelimit-reset-tokens", "7")];
        assert_eq!(reads(&usual), 0);
        assert_eq!(reads(&[("retry-after", "3"), ("retry-after-ms", "20")]), 0);
        assert_eq!(reads(&[("retry-after", "Sun, 01 Mar 2026 12:00:30 GMT")]), 1);
        let dates = ["anthropic-ratelimit-requests-reset", "anthropic-ratelimit-tokens-reset"].map(|name| (name, "2026-03-01T12:00:05Z"));
        assert_eq!(reads(&dates), 1);
    }

    #[test]
    fn a_refusal_without_retry_after_is_until_the_reset() {
        let refused = |pairs: &[(&'static str, &str)]| signal(pairs).refused_for();
        let tokens = [
            ("x-ratelimit-reset-requests", "1s"),
            ("x-ratelimit-reset-tokens", "6m0s"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-limit-tokens", "9"),
        ];
        assert_eq!(refused(&tokens), Some(Duration::from_secs(360)), "what is used up");
        assert_eq!(refused(&tokens[..2]), Some(Duration::from_secs(1)), "nobody says which");
        assert_eq!(refused(&[("anthropic-ratelimit-requests-reset", "2026-03-01T12:00:05Z")]), Some(Duration::from_secs(5)));
        assert_eq!(refused(&[("retry-after", "3"), ("x-ratelimit-reset-requests", "20ms")]), Some(Duration::from_secs(3)));
        assert_eq!(refused(&[("x-ratelimit-reset-requests", "0")]), None);
        assert_eq!(refused(&[]), None);
    }

    #[test]
    fn resets_in_every_form() {
        for (text, millis) in [
            ("12ms", 12),
            ("1s", 1000),
            ("6m0s", 360_000),
            ("1m30.951s", 90_951),
            ("1h2m3s", 3_723_000),
            ("7", 7000),
            ("0", 0),
            ("2026-03-01T12:00:05Z", 5000),
            ("2026-03-01T11:00:00Z", 0),
        ] {
            assert_eq!(parse_reset(text, now()), Some(Duration::from_millis(millis)), "{text}");
        }
        for nonsense in ["", "x", "5 apples", "m", "1q"] {
            assert!(parse_reset(nonsense, now()).is_none_or(|d| d.is_zero()), "{nonsense}");
        }
    }

    #[test]
    fn each_vendors_quota() {
        let azure = signal(&[
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-limit-requests", "10"),
            ("x-ratelimit-reset-requests", "4"),
            ("x-ratelimit-remaining-tokens", "500"),
            ("x-ratelimit-limit-tokens", "1000"),
        ]);
        assert_eq!(azure.exhausted_for(), Some(Duration::from_secs(4)));
        assert_eq!(azure.headroom(), Some(0.0));
        let anthropic = signal(&[
            ("anthropic-ratelimit-requests-remaining", "50"),
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-input-tokens-remaining", "100"),
            ("anthropic-ratelimit-input-tokens-limit", "400"),
            ("anthropic-ratelimit-input-tokens-reset", "2026-03-01T12:00:05Z"),
            ("anthropic-ratelimit-output-tokens-remaining", "90"),
            ("anthropic-ratelimit-output-tokens-limit", "100"),
        ]);
        assert_eq!(anthropic.headroom(), Some(0.25));
        assert_eq!(anthropic.tokens.reset, Some(Duration::from_secs(5)));
    }

    #[test]
    fn unknown_limits_are_not_exhausted_ones() {
        let responses = signal(&[
            ("x-ratelimit-remaining-requests", "-1"),
            ("x-ratelimit-limit-requests", "-1"),
            ("x-ratelimit-reset-requests", "0"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-limit-tokens", "0"),
        ]);
        assert_eq!(responses.exhausted_for(), None);
        assert_eq!(responses.headroom(), None);
    }
}
