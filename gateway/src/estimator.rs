//! The thread that estimates what answers used: behind a bounded queue, so that callers who leave in droves cost no request
//! its time.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::background_queue;

/// Estimates that may wait.
const QUEUE: usize = 1024;

/// Makes an estimate and books it: by its texts if there is time for that, else by its bound.
type Estimate = Box<dyn FnOnce(bool) + Send>;

enum Job {
    Estimate(Estimate),
    Flush(oneshot::Sender<()>),
}

/// Takes estimates.
pub(crate) struct Estimator(SyncSender<Job>);

impl Estimator {
    /// Starts the thread; it ends with the gateway.
    ///
    /// # Errors
    /// If there is none to be had.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE);
        std::thread::Builder::new().name("estimator".to_owned()).spawn(move || run(&jobs))?;
        Ok(Estimator(queue))
    }

    /// Hands an estimate over. Its argument is whether there is time to read its texts; where too many wait, it is made at
    /// once, without.
    pub(crate) fn hand_over(&self, estimate: impl FnOnce(bool) + Send + 'static) {
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) = self.0.try_send(Job::Estimate(Box::new(estimate)))
            && let Job::Estimate(estimate) = job
        {
            estimate(false);
        }
    }

    /// Waits until everything that was handed over is booked, at most `limit`.
    pub(crate) async fn flush(&self, limit: Duration) {
        background_queue::flush(&self.0, Job::Flush, limit).await;
    }
}

fn run(jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Estimate(estimate) => estimate(true),
            Job::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}
