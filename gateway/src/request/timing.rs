//! Where the time of a request went.

use std::time::Duration;

use crate::clock::Tick;

/// Where the time of a request went.
#[derive(Debug, Default)]
pub struct Timing {
    /// Time spent waiting for the caller or for upstreams. Each stage that waits adds to it.
    pub waited: Duration,
    /// Time from arrival to the first output.
    pub first: Option<Duration>,
    /// The gateway's own time until the first output.
    pub overhead: Option<Duration>,
}

impl Timing {
    /// Notes that the first output of a request that came at `arrived` is sent at `now`. Later calls change nothing.
    pub fn note_first(&mut self, arrived: Tick, now: Tick) {
        let since = now.since(arrived);
        self.first.get_or_insert(since);
        self.overhead.get_or_insert(since.saturating_sub(self.waited));
    }
}
