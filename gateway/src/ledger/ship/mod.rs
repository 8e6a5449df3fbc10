//! Ships the hourly sums of a node's ledger to a place that all nodes share, so that one report covers all nodes
//! ([`all_nodes`](super::all_nodes)).
//!
//! A thread of its own does it, in rounds. No request waits for it; if the place is gone or full, that is counted and logged once,
//! and tried again until it works. An hour is shipped again whenever it has changed: what counts is the highest version.

mod changed_hours;
mod folder;
mod hour_file;
mod in_redis;
pub mod name;
pub mod place;
pub mod rounds;
mod state;

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::{error, info, warn};

use folder::Folder;
pub(super) use hour_file::{BadFile, HourSums, SumsRow, columns};
use in_redis::InRedis;
use place::{Place, PlaceError};
pub(super) use state::NodeState;

use crate::clock::Clock;
use crate::config::{Redis, ShipTo};
use crate::telemetry::metrics::ShipMetrics;
use name::FileName;
use rounds::Rounds;

/// Longest pause after a round that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Rounds may take this part of the time of one processor: the sums of the current hour are made of its attempts each time.
const SHARE: u32 = 20;
/// Longest pause because of a round that took long.
const LONGEST_REST: Duration = Duration::from_secs(900);

/// Opens a place; doesn't connect yet.
///
/// # Errors
/// [`PlaceError`]
pub fn open_place(to: &ShipTo, redis: Option<&Redis>) -> Result<Box<dyn Place>, PlaceError> {
    match to {
        ShipTo::Folder(path) => Ok(Box::new(Folder::new(path.clone()))),
        ShipTo::Redis => Ok(Box::new(InRedis::new(redis.ok_or(PlaceError::NoRedis)?)?)),
    }
}

/// The sums in a file with this name.
///
/// # Errors
/// [`BadFile`]
pub(super) fn sums_in(name: &FileName, bytes: &[u8]) -> Result<HourSums, BadFile> {
    hour_file::decode(name, bytes)
}

/// The thread that ships.
#[derive(Debug)]
pub struct Shipper {
    rounds: SyncSender<oneshot::Sender<()>>,
}

impl Shipper {
    /// Starts the thread.
    ///
    /// # Errors
    /// If there can be no more threads.
    pub fn start(rounds: Rounds, every: Duration, clock: Clock, metrics: ShipMetrics) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(1);
        let mut thread = Thread { rounds, every, failures: 0, has_conflict: false, clock, metrics };
        std::thread::Builder::new().name("ship".to_owned()).spawn(move || thread.run(&receiver))?;
        Ok(Shipper { rounds: sender })
    }

    /// Ships what has changed; waits for it, but at most this long.
    pub async fn ship_now(&self, limit: Duration) {
        let (done, is_done) = oneshot::channel();
        if self.rounds.try_send(done).is_ok() {
            let _ = tokio::time::timeout(limit, is_done).await;
        }
    }
}

struct Thread {
    rounds: Rounds,
    every: Duration,
    /// Rounds that failed since the last good one.
    failures: u32,
    has_conflict: bool,
    clock: Clock,
    metrics: ShipMetrics,
}

impl Thread {
    fn run(&mut self, requests: &Receiver<oneshot::Sender<()>>) {
        let mut pause = Duration::ZERO;
        loop {
            match requests.recv_timeout(pause) {
                Ok(done) => {
                    pause = self.round();
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => pause = self.round(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// One round; returns how long to wait for the next one.
    fn round(&mut self) -> Duration {
        let began = self.clock.now();
        let now = self.clock.wall();
        match self.rounds.round(now.timestamp_millis()) {
            Ok(round) => {
                self.metrics.files.inc_by(round.files);
                self.metrics.last_success.set(now.timestamp());
                self.conflicts(round.conflicts);
                if self.failures > 0 {
                    info!("hourly sums can be shipped again");
                }
                self.failures = 0;
                let took = self.clock.now().since(began);
                self.every.max((took * SHARE).min(LONGEST_REST))
            }
            Err(error) => {
                self.metrics.failures.inc();
                if self.failures == 0 {
                    error!(%error, "hourly sums can't be shipped: they stay in the ledger, and are shipped when this works again; reports over all nodes lack them until then");
                }
                self.failures = self.failures.saturating_add(1);
                (self.every * 2u32.saturating_pow(self.failures.min(8))).min(LONGEST_PAUSE.max(self.every))
            }
        }
    }

    fn conflicts(&mut self, hours: u64) {
        self.metrics.conflicts.set(i64::try_from(hours).unwrap_or(i64::MAX));
        if hours > 0 && !self.has_conflict {
            warn!(
                hours,
                "another node ships a copy of this node's ledger under this node's name: reports lack what one of them has used; give each node a server.state_dir of its own"
            );
        }
        self.has_conflict = hours > 0;
    }
}
