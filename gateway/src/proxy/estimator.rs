//! The thread that estimates: behind a bounded queue, so that callers who leave in droves cost no request
//! its time.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Gateway;
use super::metering::Estimate;
use crate::queue;

/// Estimates that may wait.
const QUEUE: usize = 1024;

enum Job {
    Estimate(Gateway, Box<Estimate>),
    Flush(oneshot::Sender<()>),
}

/// Takes estimates.
pub(super) struct Estimator(SyncSender<Job>);

impl Estimator {
    /// Starts the thread; it ends with the gateway.
    ///
    /// # Errors
    /// If there is none to be had.
    pub(super) fn start() -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE);
        std::thread::Builder::new().name("estimator".to_owned()).spawn(move || run(&jobs))?;
        Ok(Estimator(queue))
    }

    /// Hands an estimate over; where too many wait, a hasty one is made at once.
    pub(super) fn hand_over(&self, gateway: &Gateway, estimate: Estimate) {
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) =
            self.0.try_send(Job::Estimate(gateway.clone(), Box::new(estimate)))
            && let Job::Estimate(gateway, estimate) = job
        {
            estimate.book_hastily(&gateway);
        }
    }

    /// Waits until everything that was handed over is booked, at most `limit`.
    pub(super) async fn flush(&self, limit: Duration) {
        queue::flush(&self.0, Job::Flush, limit).await;
    }
}

fn run(jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Estimate(gateway, estimate) => estimate.book(&gateway),
            Job::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}
