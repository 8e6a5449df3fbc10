//! Whatever an upstream says of its limits is a number that can be worked with, and says the same in every form.
#![no_main]

use std::time::Duration;

use chrono::DateTime;
use http::StatusCode;
use libfuzzer_sys::fuzz_target;
use spillway_fuzz::headers;
use spillway_plugins::retry::{Credentials, StatusSet, Verdict, judge, parse_reset, read_signal};

fuzz_target!(|input: &[u8]| {
    let now = DateTime::from_timestamp(1_772_366_400, 0).unwrap_or_default();
    let given = headers(input);
    let signal = read_signal(&given, || now);
    assert!(signal.headroom().is_none_or(|share| (0.0..=1.0).contains(&share)), "{signal:?}");
    assert!(signal.exhausted_for().is_none_or(|wait| !wait.is_zero()), "{signal:?}");
    assert!(signal.retry_after.is_none_or(|wait| !wait.is_zero()), "{signal:?}");
    assert!(signal.refused_for().is_none_or(|wait| !wait.is_zero()), "{signal:?}");
    for quota in [signal.requests, signal.tokens] {
        assert!(quota.limit.is_none_or(|limit| limit > 0), "{signal:?}");
    }
    // Headers that nobody reads here change nothing.
    let mut more = given.clone();
    more.insert("x-ratelimit-remaining-requests-of-others", http::HeaderValue::from_static("0"));
    assert_eq!(read_signal(&more, || now), signal);
    if let Ok(text) = std::str::from_utf8(input) {
        let reset = parse_reset(text, now);
        // Seconds are read as what they are, and so is what was read, however it is written.
        if let Ok(seconds) = text.parse::<u32>() {
            assert_eq!(reset, Some(Duration::from_secs(seconds.into())));
        }
        if let Some(wait) = reset.filter(|wait| wait.as_secs() < 1 << 40) {
            let whole = Duration::from_secs(wait.as_secs());
            for again in [
                format!("{}", whole.as_secs()),
                format!("{}s", whole.as_secs()),
                format!("{}m{}s", whole.as_secs() / 60, whole.as_secs() % 60),
            ] {
                assert_eq!(parse_reset(&again, now), Some(whole), "{again}");
            }
        }
    }
    // The first two bytes as a status, the rest as what stands in the error.
    let Some((status, body)) = input.split_at_checked(2) else { return };
    let Ok(status) = StatusCode::from_u16(u16::from_be_bytes([status[0], status[1]]) % 500 + 100) else { return };
    for credentials in [Credentials::Gateway, Credentials::Caller] {
        let verdict = judge(status, body, &StatusSet::retry_default(), credentials);
        assert!(!status.is_success() || verdict == Verdict::Deliver, "{status}: {verdict:?}");
        assert!(verdict != Verdict::OutOfQuota || (status.as_u16() == 429 && credentials == Credentials::Gateway), "{status}: {verdict:?}");
    }
});
