//! The periods of a time zone's calendar.

use std::fmt;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};

use super::period::{Period, Span};
use super::zone::Zone;

/// Periods by the calendar of a time zone. They tile the time: each second is in exactly one.
///
/// - A day begins at the first second of its date, which is later than midnight if the clock skips that.
/// - Hours are counted from the beginning of their day. So a day of 23 hours has 23 of them, and one in which the clock
///   changes by half an hour has a short one at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Calendar {
    /// The length of each.
    pub period: Period,
    /// Whose midnight, Monday and first of the month it is.
    pub zone: Zone,
}

const HOUR: i64 = 3600;
/// More than any zone is ahead of or behind UTC.
const FARTHEST: i64 = 26 * HOUR;

impl Calendar {
    /// In UTC.
    pub fn utc(period: Period) -> Self {
        Calendar { period, zone: Zone::UTC }
    }

    /// The most minutes that a period has.
    pub fn minutes(self) -> u64 {
        let in_utc = match self.period {
            Period::Minute => 1,
            Period::Hour => 60,
            Period::Day => 1_440,
            Period::Week => 10_080,
            Period::Month => 44_640,
            Period::Year => 527_040,
        };
        let is_longer = !self.zone.is_utc() && self.period >= Period::Day;
        in_utc + if is_longer { 60 } else { 0 }
    }

    /// The period that contains `now`, in seconds since 1970. Years outside of chrono's range (262,000) have none: then
    /// the period is that one second.
    pub fn at(self, now: i64) -> Span {
        let found = if self.zone.is_utc() { self.period.find(now) } else { self.find(now) };
        found.unwrap_or(Span { start: now, end: now.saturating_add(1) })
    }

    fn find(self, now: i64) -> Option<Span> {
        if self.period == Period::Minute {
            // Zones differ by whole minutes.
            return self.period.find(now);
        }
        let local = DateTime::<Utc>::from_timestamp(now.checked_add(self.zone.ahead(now))?, 0)?.date_naive();
        if self.period == Period::Hour {
            let day = self.of_dates(now, local, Period::Day)?;
            let start = day.start + (now - day.start).div_euclid(HOUR) * HOUR;
            return Some(Span { start, end: (start + HOUR).min(day.end) });
        }
        self.of_dates(now, local, self.period)
    }

    /// The period of whole days that contains `now`, whose local date is `local`.
    fn of_dates(self, now: i64, local: NaiveDate, period: Period) -> Option<Span> {
        let (mut from, mut to) = period.dates(local)?;
        loop {
            let span = Span { start: self.begin(from)?, end: self.begin(to)? };
            // Where the clock goes back over midnight, a date comes twice; the first one counts.
            match () {
                () if now < span.start => (from, to) = period.dates(from.checked_sub_signed(TimeDelta::days(1))?)?,
                () if now >= span.end => (from, to) = period.dates(to)?,
                () => return Some(span),
            }
        }
    }

    /// The first second of a date.
    fn begin(self, date: NaiveDate) -> Option<i64> {
        let local = date.and_time(NaiveTime::MIN).and_utc().timestamp();
        let (mut before, mut after) = (local.checked_sub(FARTHEST)?, local.checked_add(FARTHEST)?);
        let exact = [after, before].map(|around| local - self.zone.ahead(around));
        if let Some(start) = exact.into_iter().filter(|start| start + self.zone.ahead(*start) == local).min() {
            return Some(start);
        }
        // The clock skips midnight: the date begins when it does.
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            if middle + self.zone.ahead(middle) < local { before = middle } else { after = middle }
        }
        Some(after)
    }
}

impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.period.name())?;
        if self.zone.is_utc() { Ok(()) } else { write!(f, " ({})", self.zone.name()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<DateTime<Utc>>().unwrap().timestamp()
    }

    fn text(seconds: i64) -> String {
        DateTime::<Utc>::from_timestamp(seconds, 0).unwrap().format("%FT%TZ").to_string()
    }

    fn span(zone: &str, period: Period, now: &str) -> (String, String, i64) {
        let span = Calendar { period, zone: Zone::named(zone).unwrap() }.at(at(now));
        (text(span.start), text(span.end), (span.end - span.start) / HOUR)
    }

    fn is(start: &str, end: &str, hours: i64) -> (String, String, i64) {
        (start.to_owned(), end.to_owned(), hours)
    }

    #[test]
    fn a_day_lasts_23_or_25_hours_when_the_clock_changes() {
        let berlin = |period, now| span("Europe/Berlin", period, now);
        assert_eq!(berlin(Period::Day, "2026-03-29T12:00:00Z"), is("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", 23));
        assert_eq!(berlin(Period::Day, "2026-10-25T12:00:00Z"), is("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", 25));
        assert_eq!(berlin(Period::Day, "2026-07-01T21:59:59Z"), is("2026-06-30T22:00:00Z", "2026-07-01T22:00:00Z", 24));
        assert_eq!(berlin(Period::Day, "2026-07-01T22:00:00Z"), is("2026-07-01T22:00:00Z", "2026-07-02T22:00:00Z", 24));
        assert_eq!(berlin(Period::Week, "2026-03-29T12:00:00Z"), is("2026-03-22T23:00:00Z", "2026-03-29T22:00:00Z", 167));
        assert_eq!(berlin(Period::Month, "2026-03-31T23:00:00Z"), is("2026-03-31T22:00:00Z", "2026-04-30T22:00:00Z", 720));
        assert_eq!(berlin(Period::Month, "2026-03-15T00:00:00Z"), is("2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z", 743));
        assert_eq!(berlin(Period::Year, "2026-12-31T23:00:00Z"), is("2026-12-31T23:00:00Z", "2027-12-31T23:00:00Z", 8760));
        // The hour that comes twice is two hours, and the one that is skipped is none.
        assert_eq!(berlin(Period::Hour, "2026-10-25T00:30:00Z"), is("2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", 1));
        assert_eq!(berlin(Period::Hour, "2026-10-25T01:30:00Z"), is("2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z", 1));
        assert_eq!(berlin(Period::Hour, "2026-03-29T01:00:00Z"), is("2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z", 1));
    }

    #[test]
    fn a_day_whose_midnight_is_skipped_begins_when_the_clock_does() {
        // In Cairo, 24 April 2026 begins at 01:00.
        let cairo = |now| span("Africa/Cairo", Period::Day, now);
        assert_eq!(cairo("2026-04-24T10:00:00Z"), is("2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z", 23));
        assert_eq!(cairo("2026-04-23T21:59:59Z"), is("2026-04-22T22:00:00Z", "2026-04-23T22:00:00Z", 24));
        // On 30 October 2026 its clock goes back from midnight to 23:00, so the day before has 25 hours.
        assert_eq!(cairo("2026-10-29T21:30:00Z"), is("2026-10-28T21:00:00Z", "2026-10-29T22:00:00Z", 25));
        // Samoa had no 30 December 2011; its 29th is followed by the 31st.
        let apia = |now| span("Pacific/Apia", Period::Day, now);
        assert_eq!(apia("2011-12-30T10:00:00Z"), is("2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z", 24));
        assert_eq!(apia("2011-12-30T09:59:59Z").1, "2011-12-30T10:00:00Z");
        // St. John's went from 00:01 back to 23:01: its date came twice.
        let st_johns = |now| span("America/St_Johns", Period::Day, now);
        assert_eq!(st_johns("2010-11-07T03:00:00Z").0, st_johns("2010-11-07T12:00:00Z").0, "what comes between belongs to the new day");
    }

    #[test]
    fn hours_of_zones_that_are_half_an_hour_off_begin_with_their_own_clock() {
        assert_eq!(span("Asia/Kolkata", Period::Hour, "2026-05-05T10:45:00Z"), is("2026-05-05T10:30:00Z", "2026-05-05T11:30:00Z", 1));
        let lord_howe = span("Australia/Lord_Howe", Period::Day, "2026-04-05T10:00:00Z");
        assert_eq!(lord_howe, is("2026-04-04T13:00:00Z", "2026-04-05T13:30:00Z", 24));
        let last = Calendar { period: Period::Hour, zone: Zone::named("Australia/Lord_Howe").unwrap() }.at(at("2026-04-05T13:15:00Z"));
        assert_eq!((text(last.start), text(last.end)), ("2026-04-05T13:00:00Z".into(), "2026-04-05T13:30:00Z".into()));
    }

    #[test]
    fn utc_is_utc_by_any_name() {
        for period in Period::ALL {
            let (utc, other) = (Calendar::utc(period), Calendar { period, zone: Zone::named("Etc/UTC").unwrap() });
            for now in [0, -1, 1_782_907_200, 4_102_444_799] {
                assert_eq!(utc.at(now), other.at(now), "{period:?}");
            }
        }
        assert_eq!(Calendar::utc(Period::Year).at(i64::MAX), Span { start: i64::MAX, end: i64::MAX });
    }

    proptest::proptest! {
        #[test]
        fn periods_tile_the_time_in_every_zone(now in -5_000_000_000i64..8_000_000_000, zone in 0usize..600, which in 0usize..6) {
            let names: Vec<&str> = Zone::names().collect();
            let calendar = Calendar { period: Period::ALL[which], zone: Zone::named(names[zone % names.len()]).unwrap() };
            let span = calendar.at(now);
            proptest::prop_assert!(span.start <= now && now < span.end, "{calendar:?}");
            proptest::prop_assert_eq!(calendar.at(span.start), span);
            proptest::prop_assert_eq!(calendar.at(span.end - 1), span);
            proptest::prop_assert_eq!(calendar.at(span.end).start, span.end);
        }
    }
}
