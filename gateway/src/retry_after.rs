//! How long a refused caller is told to wait: one rounding for headers and messages.

use std::time::Duration;

/// At least a moment, at most a minute: SDKs don't wait longer.
pub fn clamped(wait: Option<Duration>) -> Duration {
    wait.unwrap_or(Duration::from_secs(1)).clamp(Duration::from_millis(1), Duration::from_secs(60))
}

/// Whole seconds for `retry-after`: rounded up, at least 1, at most 60.
pub fn retry_seconds(wait: Option<Duration>) -> u64 {
    seconds_to_wait(Some(clamped(wait)))
}

/// Whole seconds for messages about targets: rounded up, at least 1.
pub fn seconds_to_wait(wait: Option<Duration>) -> u64 {
    let wait = wait.unwrap_or_default();
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_rounded_up_and_bounded() {
        let seconds = |millis| retry_seconds(Some(Duration::from_millis(millis)));
        assert_eq!([seconds(0), seconds(1), seconds(1000), seconds(1001), seconds(90_000)], [1, 1, 1, 2, 60]);
        assert_eq!((retry_seconds(None), seconds_to_wait(None)), (1, 1));
        assert_eq!(seconds_to_wait(Some(Duration::from_millis(89_001))), 90, "people may wait longer than SDKs do");
    }
}
