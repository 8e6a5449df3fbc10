//! Bounded queues to threads that work in the background.

use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use tokio::sync::oneshot;

/// Waits until everything that was handed over before is done, at most `limit`. `job` makes the item that sends the
/// notification. If the queue is full, it waits for room, too.
pub async fn flush<J>(queue: &SyncSender<J>, job: impl FnOnce(oneshot::Sender<()>) -> J, limit: Duration) {
    let flush = async {
        let (done, flushed) = oneshot::channel();
        let mut job = job(done);
        while let Err(TrySendError::Full(back)) = queue.try_send(job) {
            job = back;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let _ = flushed.await;
    };
    let _ = tokio::time::timeout(limit, flush).await;
}
