//! The counters of a scope, or of a part of it.

use smallvec::SmallVec;

use super::calendar::Calendar;
use super::period::Span;
use super::rolling::Rolling;
use super::windows::Windows;
use super::{Demand, LimitKind, Timestamps, Used};

/// Number of limits that are not per calendar period. They have the first places, those per period follow.
pub(super) const RATES: usize = 3;

/// Usage per period: of requests, tokens or money.
#[derive(Debug, Clone)]
pub(super) struct Counted {
    pub(super) kind: LimitKind,
    pub(super) windows: Windows,
}

/// Usage per minute, concurrent requests, and usage per calendar period.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) requests: Option<Rolling>,
    pub(super) tokens: Option<Rolling>,
    pub(super) in_flight: u64,
    /// Once counted, a period stays: requests that began under earlier rules settle there.
    pub(super) windows: SmallVec<[Counted; 2]>,
}

/// The start of each period that a request was booked in.
pub(super) type Starts = SmallVec<[i64; 2]>;

impl Counts {
    /// Starts to count these, in addition.
    pub(super) fn count(&mut self, requests: bool, tokens: bool, windows: impl IntoIterator<Item = (LimitKind, Calendar)>) {
        if requests {
            self.requests.get_or_insert_default();
        }
        if tokens {
            self.tokens.get_or_insert_default();
        }
        for (kind, calendar) in windows {
            if self.place(kind, calendar).is_none() {
                self.windows.push(Counted { kind, windows: Windows::new(calendar) });
            }
        }
    }

    /// Index of a window.
    pub(super) fn place(&self, kind: LimitKind, calendar: Calendar) -> Option<usize> {
        self.windows.iter().position(|counted| counted.kind == kind && counted.windows.calendar() == calendar)
    }

    pub(super) fn advance(&mut self, now: Timestamps) {
        for rolling in [&mut self.requests, &mut self.tokens].into_iter().flatten() {
            rolling.advance(now.second());
        }
        for counted in &mut self.windows {
            counted.windows.advance(now.unix);
        }
    }

    /// Removes the usage at a place.
    pub(super) fn clear(&mut self, place: usize) {
        match place {
            0 => self.requests.iter_mut().for_each(|rolling| *rolling = Rolling::default()),
            1 => self.tokens.iter_mut().for_each(|rolling| *rolling = Rolling::default()),
            2 => self.in_flight = 0,
            _ => self.windows.iter_mut().skip(place - RATES).take(1).for_each(|counted| counted.windows.clear()),
        }
    }

    /// The usage at a place.
    pub(super) fn used(&self, place: usize, unix: i64) -> u64 {
        let rate = |rolling: &Option<Rolling>| rolling.as_ref().map_or(0, Rolling::total);
        match place {
            0 => rate(&self.requests),
            1 => rate(&self.tokens),
            2 => self.in_flight,
            _ => self.windows.get(place - RATES).map_or(0, |counted| counted.windows.used(unix)),
        }
    }

    /// The current period of a place, if it has one.
    pub(super) fn span(&self, place: usize, unix: i64) -> Option<Span> {
        self.windows.get(place.checked_sub(RATES)?).map(|counted| counted.windows.span(unix))
    }

    /// The starts of all current periods.
    pub(super) fn starts(&self, unix: i64) -> Starts {
        self.windows.iter().map(|counted| counted.windows.span(unix).start).collect()
    }

    /// Reserves for a request. Returns the second and the periods that it counts for.
    pub(super) fn book(&mut self, demand: &Demand, now: Timestamps) -> (u64, Starts) {
        self.in_flight += 1;
        if let Some(requests) = &mut self.requests {
            requests.add(1);
        }
        let second = self.tokens.as_mut().map_or(now.second(), |tokens| tokens.add(demand.tokens));
        let starts = self.windows.iter_mut().map(|counted| counted.windows.add(now.unix, need(counted.kind, demand))).collect();
        (second, starts)
    }

    /// Adds `more` and takes back `less`, where a request was booked. Requests were counted then, and stay.
    pub(super) fn change(&mut self, second: Option<u64>, starts: &[i64], less: Used, more: Used) {
        if let (Some(tokens), Some(second)) = (&mut self.tokens, second) {
            tokens.take_back(second, less.tokens);
            tokens.add(more.tokens);
        }
        for (counted, start) in self.windows.iter_mut().zip(starts) {
            counted.windows.take_back(*start, counted.kind.of(less));
            counted.windows.add_at(*start, counted.kind.of(more));
        }
    }

    /// Adds usage where a request was booked, also in periods that have none yet.
    pub(super) fn add(&mut self, second: Option<u64>, starts: &[i64], more: Used) {
        if let (Some(tokens), Some(_)) = (&mut self.tokens, second) {
            tokens.add(more.tokens);
        }
        for (counted, start) in self.windows.iter_mut().zip(starts) {
            counted.windows.add_past(*start, counted.kind.of(more));
        }
    }

    /// Moves a reservation that was taken back into the current second and the current periods, also those that are counted
    /// only since it was booked.
    pub(super) fn renew(&mut self, second: Option<&mut u64>, starts: &mut Starts, demand: &Demand, now: Timestamps) {
        if let (Some(tokens), Some(second)) = (&mut self.tokens, second) {
            *second = tokens.add(demand.tokens);
        }
        starts.clear();
        for counted in &mut self.windows {
            starts.push(counted.windows.add(now.unix, counted.kind.of(demand.most())));
        }
    }

    /// Takes back that a request was counted there.
    pub(super) fn uncount(&mut self, second: u64, starts: &[i64]) {
        self.requests.iter_mut().for_each(|requests| requests.take_back(second, 1));
        for (counted, start) in self.windows.iter_mut().zip(starts).filter(|(counted, _)| counted.kind == LimitKind::RequestQuota) {
            counted.windows.take_back(*start, 1);
        }
    }

    pub(super) fn leave(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }
}

impl LimitKind {
    /// What counts for a limit of this kind, of tokens and their cost.
    pub(super) fn of(self, used: Used) -> u64 {
        match self {
            LimitKind::Tokens | LimitKind::Quota => used.tokens,
            LimitKind::Budget => used.cost.0,
            LimitKind::Requests | LimitKind::Concurrent | LimitKind::RequestQuota => 0,
        }
    }
}

/// How much of a kind a request needs.
pub(super) fn need(kind: LimitKind, demand: &Demand) -> u64 {
    match kind {
        LimitKind::Requests | LimitKind::Concurrent | LimitKind::RequestQuota => 1,
        LimitKind::Tokens | LimitKind::Quota => demand.tokens,
        LimitKind::Budget => demand.cost.0,
    }
}
