//! Limits that never apply, because a wider one always refuses first.

use spillway_plugins::limits::{Calendar, LimitId, LimitKind, Period, Rules};
use spillway_plugins::prices::Money;

/// What `outer` allows, if that is always less than this limit.
pub fn always_below(id: LimitId, limit: u64, outer: &Rules) -> Option<String> {
    let Some(calendar) = id.calendar else { return outer.rate(id.kind).filter(|wider| limit > *wider).map(|wider| format!("{wider}")) };
    let (rate, what) = match id.kind {
        LimitKind::RequestQuota => (outer.requests_per_minute, "requests"),
        LimitKind::Quota => (outer.tokens_per_minute, "tokens"),
        _ => (None, ""),
    };
    let by_window = outer.windows_of(id.kind).find(|wider| limit > wider.limit.saturating_mul(times(calendar, wider.calendar)));
    let by_window = by_window.map(|wider| {
        let amount = if id.kind == LimitKind::Budget {
            format!("{} US dollars", Money(wider.limit).usd())
        } else {
            format!("{} {what}", wider.limit)
        };
        format!("{amount} per {}", wider.calendar)
    });
    by_window.or_else(|| {
        let rate = rate.filter(|rate| limit > rate.saturating_mul(calendar.minutes()))?;
        Some(format!("{rate} {what} per minute, which is less in a whole {}", calendar.period.name()))
    })
}

/// How many calendar periods of `wider` can overlap with one of `inner`.
fn times(inner: Calendar, wider: Calendar) -> u64 {
    let minutes = |calendar: Calendar| Calendar::utc(calendar.period).minutes();
    let (shorter, longer) = (minutes(inner), minutes(wider));
    // A week lies across the bounds of months and years, and a period of one time zone across those of another.
    let weeks = inner.period != wider.period && (inner.period == Period::Week || wider.period == Period::Week);
    let across = u64::from(weeks || inner.zone != wider.zone);
    if shorter <= longer { 1 + across } else { shorter.div_ceil(longer) + across }
}

#[cfg(test)]
mod tests {
    use spillway_plugins::limits::{Window, Zone};

    use super::*;

    #[test]
    fn periods_overlap_at_least_as_often_as_they_fit() {
        let times = |inner, wider| super::times(Calendar::utc(inner), Calendar::utc(wider));
        assert_eq!(times(Period::Day, Period::Day), 1);
        assert_eq!(times(Period::Day, Period::Hour), 24);
        assert_eq!(times(Period::Month, Period::Day), 31);
        assert_eq!(times(Period::Hour, Period::Year), 1);
        assert_eq!(times(Period::Week, Period::Month), 2, "a week may begin in one month and end in the next");
        let berlin = Calendar { period: Period::Day, zone: Zone::named("Europe/Berlin").unwrap() };
        assert_eq!(super::times(berlin, Calendar::utc(Period::Day)), 2, "a day there is in two days of UTC");
    }

    #[test]
    fn a_quota_is_bounded_by_a_quota_of_another_period_and_by_a_rate() {
        let quota = |period, tokens| Rules { windows: vec![Window::utc(LimitKind::Quota, period, tokens)], ..Rules::default() };
        let bound = |period, tokens, outer: &Rules| super::always_below(quota(period, tokens).limits().next().unwrap().0, tokens, outer);
        let rate = Rules { tokens_per_minute: Some(100), ..Rules::default() };
        assert!(bound(Period::Month, 1000, &quota(Period::Day, 10)).is_some());
        assert!(bound(Period::Month, 300, &quota(Period::Day, 10)).is_none());
        assert!(bound(Period::Day, 11, &quota(Period::Month, 10)).is_some());
        assert!(bound(Period::Hour, 6001, &rate).is_some());
        assert!(bound(Period::Hour, 6000, &rate).is_none());
    }
}
