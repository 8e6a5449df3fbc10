//! Calendar periods: the start and end of the period that contains a time.

use std::time::Duration;

use chrono::{DateTime, Datelike as _, Months, NaiveDate, NaiveTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// A calendar period. Weeks begin on Monday (ISO 8601).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// One period: from `start` on, before `end`, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Its first second.
    pub start: i64,
    /// The first second after it.
    pub end: i64,
}

impl Span {
    /// Time from `unix` until it ends.
    pub fn until_end(self, unix: i64) -> Duration {
        Duration::from_secs(u64::try_from(self.end.saturating_sub(unix)).unwrap_or(0))
    }
}

impl Period {
    /// All of them.
    pub const ALL: [Period; 6] = [Period::Minute, Period::Hour, Period::Day, Period::Week, Period::Month, Period::Year];

    /// Its name in messages: `quota of this month`.
    pub fn name(self) -> &'static str {
        match self {
            Period::Minute => "minute",
            Period::Hour => "hour",
            Period::Day => "day",
            Period::Week => "week",
            Period::Month => "month",
            Period::Year => "year",
        }
    }

    /// The period in UTC that contains `now`, in seconds since 1970; `None` for years outside of chrono's range.
    pub(super) fn find(self, now: i64) -> Option<Span> {
        let fixed = |length: i64| {
            let start = now.div_euclid(length) * length;
            Some(Span { start, end: start.checked_add(length)? })
        };
        match self {
            Period::Minute => fixed(60),
            Period::Hour => fixed(3600),
            Period::Day | Period::Week | Period::Month | Period::Year => {
                let (from, to) = self.dates(DateTime::<Utc>::from_timestamp(now, 0)?.date_naive())?;
                Some(Span { start: midnight(from), end: midnight(to) })
            }
        }
    }

    /// The first date of the period that contains a date, and the first one after it. Of a minute and an hour: that date.
    pub(super) fn dates(self, day: NaiveDate) -> Option<(NaiveDate, NaiveDate)> {
        match self {
            Period::Minute | Period::Hour | Period::Day => Some((day, day.succ_opt()?)),
            Period::Week => {
                let monday = day.checked_sub_signed(TimeDelta::days(i64::from(day.weekday().num_days_from_monday())))?;
                Some((monday, monday.checked_add_signed(TimeDelta::days(7))?))
            }
            Period::Month => {
                let first = day.with_day(1)?;
                Some((first, first.checked_add_months(Months::new(1))?))
            }
            Period::Year => {
                let first = NaiveDate::from_ymd_opt(day.year(), 1, 1)?;
                Some((first, first.checked_add_months(Months::new(12))?))
            }
        }
    }
}

fn midnight(day: NaiveDate) -> i64 {
    day.and_time(NaiveTime::MIN).and_utc().timestamp()
}

#[cfg(test)]
mod tests {
    use super::super::calendar::Calendar;
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<DateTime<Utc>>().unwrap().timestamp()
    }

    fn span(period: Period, now: &str) -> (String, String) {
        let span = Calendar::utc(period).at(at(now));
        let text = |seconds| DateTime::<Utc>::from_timestamp(seconds, 0).unwrap().format("%F %T").to_string();
        (text(span.start), text(span.end))
    }

    #[test]
    fn edges_are_where_the_calendar_has_them() {
        let pair = |start: &str, end: &str| (start.to_owned(), end.to_owned());
        assert_eq!(span(Period::Hour, "2026-03-29T01:59:59Z"), pair("2026-03-29 01:00:00", "2026-03-29 02:00:00"));
        assert_eq!(span(Period::Day, "2024-02-29T23:59:59Z"), pair("2024-02-29 00:00:00", "2024-03-01 00:00:00"));
        assert_eq!(span(Period::Month, "2024-02-29T12:00:00Z"), pair("2024-02-01 00:00:00", "2024-03-01 00:00:00"));
        assert_eq!(span(Period::Month, "2023-02-28T12:00:00Z"), pair("2023-02-01 00:00:00", "2023-03-01 00:00:00"));
        assert_eq!(span(Period::Month, "2026-12-31T23:59:59Z"), pair("2026-12-01 00:00:00", "2027-01-01 00:00:00"));
        assert_eq!(span(Period::Week, "2026-12-31T23:59:59Z"), pair("2026-12-28 00:00:00", "2027-01-04 00:00:00"), "over the year's edge");
        assert_eq!(span(Period::Week, "2027-01-04T00:00:00Z"), pair("2027-01-04 00:00:00", "2027-01-11 00:00:00"), "Monday");
        assert_eq!(span(Period::Year, "2024-12-31T23:59:59Z"), pair("2024-01-01 00:00:00", "2025-01-01 00:00:00"));
        assert_eq!(span(Period::Year, "1969-12-31T23:59:59Z"), pair("1969-01-01 00:00:00", "1970-01-01 00:00:00"));
    }
}
