//! When a token is fetched again. Pure: time and random numbers are arguments.

use std::time::Duration;

/// The first pause after a failure, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The longest Retry-After that is used.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Least time until a renewal, however short a token's lifetime is.
const LEAST: Duration = Duration::from_millis(500);

/// How long after the fetch a token is renewed: when its issuer says (`refresh_in`), else after half of its lifetime;
/// up to a tenth earlier at random, so that many machines don't fetch at once.
pub(super) fn renew_after(lifetime: Duration, refresh_in: Option<Duration>, chance: f64) -> Duration {
    let when = refresh_in.filter(|when| *when < lifetime).unwrap_or(lifetime / 2);
    when.mul_f64(1.0 - 0.1 * chance).max(LEAST)
}

/// How long to wait after the `failures`-th failure in a row: a second at first, then doubling, with a random part;
/// longer if the service says so.
pub(super) fn pause(failures: u32, retry_after: Option<Duration>, chance: f64) -> Duration {
    let doubled = PAUSE.0.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(PAUSE.1);
    doubled.mul_f64(1.0 + 0.2 * chance).max(retry_after.unwrap_or_default().min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_at_the_issuers_time_or_half_way() {
        let hour = Duration::from_secs(3600);
        assert_eq!(renew_after(hour, None, 0.0), hour / 2);
        assert_eq!(renew_after(hour, Some(Duration::from_secs(3000)), 0.0), Duration::from_secs(3000));
        assert_eq!(renew_after(hour, Some(hour * 2), 0.0), hour / 2, "later than its end");
        assert_eq!(renew_after(hour, None, 1.0), Duration::from_secs(1620));
        assert_eq!(renew_after(Duration::ZERO, None, 0.0), LEAST);
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        let seconds: Vec<u64> = (1..=8).map(|failures| pause(failures, None, 0.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(u32::MAX, None, 0.0), PAUSE.1);
        assert_eq!(pause(1, Some(Duration::from_secs(20)), 0.0).as_secs(), 20);
        assert_eq!(pause(1, Some(Duration::from_secs(90_000)), 0.0), LONGEST_WAIT);
    }
}
