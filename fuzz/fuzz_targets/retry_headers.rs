//! Whatever an upstream says of its limits is a number that can be worked with.
#![no_main]

use chrono::DateTime;
use http::StatusCode;
use libfuzzer_sys::fuzz_target;
use spillway_fuzz::headers;
use spillway_plugins::retry::{Credentials, StatusSet, Verdict, judge, parse_reset, read_signal};

fuzz_target!(|input: &[u8]| {
    let now = DateTime::from_timestamp(1_772_366_400, 0).unwrap_or_default();
    let signal = read_signal(&headers(input), || now);
    assert!(signal.headroom().is_none_or(|share| (0.0..=1.0).contains(&share)), "{signal:?}");
    assert!(signal.exhausted_for().is_none_or(|wait| !wait.is_zero()), "{signal:?}");
    for quota in [signal.requests, signal.tokens] {
        assert!(quota.limit.is_none_or(|limit| limit > 0), "{signal:?}");
    }
    if let Ok(text) = std::str::from_utf8(input) {
        // Seconds are read as what they are.
        if let (Ok(seconds), Some(reset)) = (text.parse::<u32>(), parse_reset(text, now)) {
            assert_eq!(reset.as_secs(), u64::from(seconds));
        }
        let _ = parse_reset(text, now);
    }
    // The first two bytes as a status, the rest as what stands in the error.
    let Some((status, body)) = input.split_at_checked(2) else { return };
    let Ok(status) = StatusCode::from_u16(u16::from_be_bytes([status[0], status[1]]) % 500 + 100) else { return };
    let verdict = judge(status, body, &StatusSet::retry_default(), Credentials::Gateway);
    assert!(!status.is_success() || verdict == Verdict::Deliver, "{status}: {verdict:?}");
});
