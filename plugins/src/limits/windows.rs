//! Usage in calendar periods. If a clock is set back, earlier periods still have their usage, so that nothing is reset
//! twice and nothing is lost.

use smallvec::SmallVec;

use super::calendar::Calendar;
use super::period::Span;

/// Number of periods that are stored.
const REMEMBERED: usize = 4;

/// Usage in the latest periods.
#[derive(Debug, Clone)]
pub struct Windows {
    calendar: Calendar,
    used: SmallVec<[(Span, u64); 2]>,
    /// The period of the last access, which the next one most often needs, too.
    latest: Span,
}

impl Windows {
    /// Without usage.
    pub fn new(calendar: Calendar) -> Self {
        Windows { calendar, used: SmallVec::new(), latest: Span { start: 0, end: 0 } }
    }

    /// The periods.
    pub fn calendar(&self) -> Calendar {
        self.calendar
    }

    /// Finds the period that contains `now` in advance: to find it takes a while in a time zone.
    pub fn advance(&mut self, now: i64) {
        self.latest = self.span(now);
    }

    /// Usage in each stored period, by its start.
    pub fn all(&self) -> impl Iterator<Item = (i64, u64)> {
        self.used.iter().map(|(span, used)| (span.start, *used))
    }

    /// The period that contains `now`.
    pub fn span(&self, now: i64) -> Span {
        let Span { start, end } = self.latest;
        if start <= now && now < end { self.latest } else { self.calendar.at(now) }
    }

    /// Usage in the period that contains `now`.
    pub fn used(&self, now: i64) -> u64 {
        let start = self.span(now).start;
        self.used.iter().find(|(span, _)| span.start == start).map_or(0, |(_, used)| *used)
    }

    /// Adds usage in the period that contains `now`. Returns the period's start.
    pub fn add(&mut self, now: i64, amount: u64) -> i64 {
        let span = self.span(now);
        let at = match self.used.iter().position(|(known, _)| *known == span) {
            Some(at) => at,
            None => {
                if self.used.len() == REMEMBERED {
                    // The one farthest from now.
                    let farthest = (0..REMEMBERED).max_by_key(|at| self.used[*at].0.start.abs_diff(now)).unwrap_or(0);
                    self.used.remove(farthest);
                }
                self.used.push((span, 0));
                self.used.len() - 1
            }
        };
        self.latest = span;
        self.used[at].1 = self.used[at].1.saturating_add(amount);
        span.start
    }

    /// Adds usage in the period that began at `start`, which may be long over. For it no period is given up that is nearer to
    /// the current one, as of the last [`Windows::advance`].
    pub fn add_past(&mut self, start: i64, amount: u64) {
        if amount == 0 {
            return;
        }
        let span = self.span(start);
        if self.used.len() == REMEMBERED && !self.used.iter().any(|(known, _)| *known == span) {
            let distance = |span: Span| span.start.abs_diff(self.latest.start);
            let farthest = (0..REMEMBERED).max_by_key(|at| distance(self.used[*at].0)).unwrap_or(0);
            if distance(self.used[farthest].0) < distance(span) {
                return;
            }
            self.used.remove(farthest);
        }
        match self.used.iter_mut().find(|(known, _)| *known == span) {
            Some((_, used)) => *used = used.saturating_add(amount),
            None => self.used.push((span, amount)),
        }
    }

    /// Removes all usage.
    pub fn clear(&mut self) {
        self.used.clear();
    }

    /// Adds usage in the period that began at `start`, if it is stored.
    pub fn add_at(&mut self, start: i64, amount: u64) {
        if let Some((_, used)) = self.used.iter_mut().find(|(span, _)| span.start == start) {
            *used = used.saturating_add(amount);
        }
    }

    /// Subtracts what was added in the period that began at `start`.
    pub fn take_back(&mut self, start: i64, amount: u64) {
        if let Some((_, used)) = self.used.iter_mut().find(|(span, _)| span.start == start) {
            *used = used.saturating_sub(amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::period::Period;
    use super::*;

    const HOUR: i64 = 3600;

    #[test]
    fn a_clock_that_is_stepped_resets_nothing_twice() {
        let mut windows = Windows::new(Calendar::utc(Period::Hour));
        windows.add(10, 5);
        windows.add(HOUR - 1, 5);
        assert_eq!(windows.used(HOUR - 1), 10);
        assert_eq!(windows.add(HOUR, 1), HOUR, "a new hour");
        assert_eq!(windows.used(10), 10, "set back: the old hour is as it was");
        windows.add(20, 3);
        assert_eq!((windows.used(30), windows.used(HOUR + 5)), (13, 1));
        // Far ahead and back again.
        windows.add(1000 * HOUR, 7);
        assert_eq!((windows.used(40), windows.used(HOUR), windows.used(1000 * HOUR)), (13, 1, 7));
        windows.take_back(0, 100);
        assert_eq!(windows.used(40), 0, "never less than nothing");
        for hour in 2..50 {
            windows.add(hour * HOUR, 1);
        }
        assert!(windows.used.len() <= REMEMBERED);
        assert_eq!(windows.used(49 * HOUR), 1);
    }

    #[test]
    fn usage_of_an_old_period_takes_no_newer_ones_place() {
        let mut windows = Windows::new(Calendar::utc(Period::Hour));
        for hour in 10..14 {
            windows.add(hour * HOUR, 1);
        }
        windows.add_past(9 * HOUR, 5);
        windows.add_past(10 * HOUR, 5);
        let all = |windows: &Windows| windows.all().map(|(start, used)| (start / HOUR, used)).collect::<Vec<_>>();
        assert_eq!(all(&windows), [(10, 6), (11, 1), (12, 1), (13, 1)]);
        // Of the next hour nothing is stored yet.
        windows.advance(14 * HOUR);
        windows.add_past(9 * HOUR, 5);
        windows.add_past(14 * HOUR, 2);
        windows.add_past(10 * HOUR, 7);
        assert_eq!(all(&windows), [(11, 1), (12, 1), (13, 1), (14, 2)]);
    }
}
