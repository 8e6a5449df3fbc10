//! The thread that estimates what answers used: behind a bounded queue, so that callers who leave in droves cost no request
//! its time.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::background_queue;
use crate::tokenizers::Tokenizers;

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
    /// Starts the thread; it ends with the gateway. It gives the tokenizers back when they are not needed.
    ///
    /// # Errors
    /// If there is none to be had.
    pub(crate) fn start(tokenizers: Arc<Tokenizers>) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE);
        std::thread::Builder::new().name("estimator".to_owned()).spawn(move || run(&jobs, &tokenizers))?;
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

/// How often the thread looks at the tokenizers while there is nothing to estimate.
const LOOK: Duration = Duration::from_secs(60);

fn run(jobs: &Receiver<Job>, tokenizers: &Tokenizers) {
    loop {
        match jobs.recv_timeout(LOOK) {
            Ok(Job::Estimate(estimate)) => estimate(true),
            Ok(Job::Flush(done)) => {
                let _ = done.send(());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        tokenizers.give_back();
    }
}
