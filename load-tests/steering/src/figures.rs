//! What a run comes to.

use std::time::Duration;

use spillway::clock::Tick;
use spillway::mock::buckets::Done;
use spillway_plugins::limits::Class;

use crate::call::Call;

/// The first minutes, in which controllers learn, aren't counted.
pub const LEARNING: usize = 300;
/// A second is one of overload if demand is above this share of capacity.
const OVERLOAD: f64 = 1.05;

/// One second of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Second {
    /// Work that the PTU takes in a second.
    pub takes: f64,
    /// Demand as a share of that.
    pub demand: f64,
    /// Work that it did.
    pub work: f64,
    /// Attempts, and those that were refused.
    pub attempts: u32,
    /// Refused attempts.
    pub refusals: u32,
    /// How far the shown utilisation is off.
    pub off: Option<f64>,
}

/// Counts while a run goes on.
#[derive(Debug, Default)]
pub struct Tally {
    seconds: Vec<Second>,
    before: Done,
    /// Share of the capacity that was used in the last minute.
    utilisation: f64,
    foreign_refused: f64,
    counts: bool,
    at: usize,
    spilled: f64,
    bill: f64,
    waits: Vec<f64>,
    firsts: Vec<f64>,
    batch: Batch,
    missed: u32,
    calls: u32,
    spilled_calls: u32,
}

/// Batch calls: their price at a standard deployment, and the part of it that was paid.
#[derive(Debug, Clone, Copy, Default)]
pub struct Batch {
    /// Price of all.
    pub price: f64,
    /// What was paid.
    pub paid: f64,
}

/// What a run came to, after the first minutes.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// All seconds.
    pub seconds: Vec<Second>,
    /// Share of the capacity that was used in seconds of overload.
    pub busy: f64,
    /// Share of attempts that were refused.
    pub refusals: f64,
    /// Work that went elsewhere: ours, and that of other callers that were refused.
    pub spilled: f64,
    /// Ours alone.
    pub spilled_ours: f64,
    /// Dollars paid by the token.
    pub bill: f64,
    /// 95th percentile of the time that is added to a call before its last attempt, in seconds.
    pub wait: f64,
    /// 95th percentile of the time to the first token of interactive calls, in seconds.
    pub first: f64,
    /// How far the shown utilisation is off, mean and 95th percentile, in points.
    pub off: (f64, f64),
    /// Batch calls.
    pub batch: Batch,
    /// Deadlines that were missed.
    pub missed: u32,
    /// Share of interactive calls that went elsewhere.
    pub spilled_share: f64,
}

impl Tally {
    /// Time goes on.
    pub fn now(&mut self, passed: Duration) {
        self.at = passed.as_secs() as usize;
        self.counts = self.at >= LEARNING;
        if self.seconds.len() <= self.at + 1 {
            self.seconds.resize(self.at + 2, Second::default());
        }
    }

    /// An attempt at the PTU.
    pub fn attempt(&mut self, refused: bool) {
        self.seconds[self.at].attempts += 1;
        self.seconds[self.at].refusals += u32::from(refused);
    }

    /// A call goes elsewhere.
    pub fn spilled(&mut self, call: &Call, work: f64) {
        if call.class == Class::Batch {
            self.batch.paid += call.price();
        } else if self.counts {
            self.spilled += work;
            self.bill += call.price();
            self.spilled_calls += 1;
        }
    }

    /// A call gets an answer.
    pub fn served(&mut self, call: &Call, first: Tick, sent: Tick) {
        if call.class == Class::Batch {
            self.batch.price += call.price();
            self.missed += u32::from(call.deadline.is_some_and(|deadline| first + call.rest() > deadline));
        } else if self.counts {
            self.calls += 1;
            self.waits.push(sent.since(call.at).as_secs_f64());
            self.firsts.push(first.since(call.at).as_secs_f64());
        }
    }

    /// A second is over.
    pub fn second(&mut self, second: usize, takes: f64, demand: f64, done: Done, shown: &[f64]) {
        if second == 0 {
            return;
        }
        let one = &mut self.seconds[second - 1];
        (one.takes, one.demand, one.work) = (takes, demand, done.work - self.before.work);
        let busy = if takes > 0.0 { one.work / takes } else { 0.0 };
        self.utilisation += (busy - self.utilisation) / 30.0;
        let off = shown.iter().map(|shown| (shown - self.utilisation).abs()).sum::<f64>() / shown.len().max(1) as f64;
        one.off = (!shown.is_empty()).then_some(off);
        if second > LEARNING {
            self.foreign_refused += done.foreign_refused - self.before.foreign_refused;
        }
        self.before = done;
    }

    /// What it came to.
    pub fn figures(mut self) -> Figures {
        let end = self.seconds.iter().rposition(|second| second.takes > 0.0).map_or(0, |last| last + 1);
        self.seconds.truncate(end);
        let counted = &self.seconds[LEARNING.min(end)..];
        let (work, takes) = counted
            .iter()
            .filter(|second| second.demand > OVERLOAD)
            .fold((0.0, 0.0), |(work, takes), second| (work + second.work, takes + second.takes));
        let attempts: u32 = counted.iter().map(|second| second.attempts).sum();
        let refusals: u32 = counted.iter().map(|second| second.refusals).sum();
        let mut offs: Vec<f64> = counted.iter().filter_map(|second| second.off).collect();
        let mean = offs.iter().sum::<f64>() / offs.len().max(1) as f64;
        Figures {
            busy: if takes > 0.0 { work / takes } else { 0.0 },
            refusals: f64::from(refusals) / f64::from(attempts.max(1)),
            spilled: self.spilled + self.foreign_refused,
            spilled_ours: self.spilled,
            bill: self.bill,
            wait: p95(&mut self.waits),
            first: p95(&mut self.firsts),
            off: (100.0 * mean, 100.0 * p95(&mut offs)),
            batch: self.batch,
            missed: self.missed,
            spilled_share: f64::from(self.spilled_calls) / f64::from(self.calls.max(1)),
            seconds: self.seconds,
        }
    }
}

fn p95(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() * 95 / 100).copied().unwrap_or(0.0)
}
