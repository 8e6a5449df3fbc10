//! Sorts traffic that is out of order by up to an hour.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::{Trace, TraceError, Unused};
use crate::clock::Tick;
use crate::simulate::request::{Names, Request};

/// How much of it is kept to be sorted.
const WINDOW: Duration = Duration::from_secs(3600);

/// Requests of another trace, in order of time.
#[derive(Debug)]
pub struct Ordered<T> {
    from: T,
    /// Sorted by time, then as they came.
    kept: BinaryHeap<Reverse<Kept>>,
    read: u64,
    newest: Tick,
    given: Tick,
    is_over: bool,
    sorted: u64,
    late: u64,
}

#[derive(Debug)]
struct Kept {
    order: (Tick, u64),
    request: Request,
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Kept {}

impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Kept {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

impl<T> Ordered<T> {
    /// Sorts this.
    pub fn new(from: T) -> Self {
        Ordered { from, kept: BinaryHeap::new(), read: 0, newest: Tick(0), given: Tick(0), is_over: false, sorted: 0, late: 0 }
    }

    /// Whether the oldest request can't be preceded by one that is still to be read.
    fn is_due(&self) -> bool {
        self.is_over || self.kept.peek().is_some_and(|Reverse(oldest)| self.newest.since(oldest.order.0) > WINDOW)
    }
}

impl<T: Trace> Trace for Ordered<T> {
    fn next(&mut self, names: &mut Names) -> Result<Option<Request>, TraceError> {
        while !self.is_due() {
            let Some(request) = self.from.next(names)? else {
                self.is_over = true;
                break;
            };
            if request.at < self.given {
                self.late += 1;
                continue;
            }
            self.sorted += u64::from(request.at < self.newest);
            self.newest = self.newest.max(request.at);
            self.read += 1;
            self.kept.push(Reverse(Kept { order: (request.at, self.read), request }));
        }
        let next = self.kept.pop().map(|Reverse(kept)| kept.request);
        self.given = next.as_ref().map_or(self.given, |request| request.at);
        Ok(next)
    }

    fn unused(&self) -> Unused {
        Unused { sorted: self.sorted, late: self.late, ..self.from.unused() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::trace::csv::CsvTrace;

    #[test]
    fn an_hour_of_disorder_is_sorted_and_more_is_counted() {
        let text = "time,model,input,output\n0,m,1,0\n100,m,1,0\n50,m,2,0\n50,m,3,0\n9000,m,1,0\n9001,m,4,0\n100,m,1,0\n6000,m,5,0\n";
        let (mut trace, mut names) = (Ordered::new(CsvTrace::new(text.as_bytes()).unwrap()), Names::default());
        let mut times = Vec::new();
        while let Some(request) = trace.next(&mut names).unwrap() {
            times.push((request.at.0 / 1_000_000_000, request.usage.input));
        }
        assert_eq!(times, [(0, 1), (50, 2), (50, 3), (100, 1), (100, 1), (6000, 5), (9000, 1), (9001, 4)]);
        assert_eq!((trace.unused().sorted, trace.unused().late), (4, 0));
        let text = "time,model,input,output\n0,m,1,0\n9000,m,1,0\n20000,m,1,0\n5,m,1,0\n";
        let (mut trace, mut names) = (Ordered::new(CsvTrace::new(text.as_bytes()).unwrap()), Names::default());
        let mut times = Vec::new();
        while let Some(request) = trace.next(&mut names).unwrap() {
            times.push(request.at.0 / 1_000_000_000);
        }
        assert_eq!((times, trace.unused().late), (vec![0, 9000, 20000], 1));
    }
}
