//! The shadow of live traffic: what this gateway would have decided for requests that another gateway mirrors to it. Nothing is
//! called, and nothing of the running gateway's own state is used or changed.
//!
//! | file | idea |
//! |---|---|
//! | [`mirrored`] | reads a mirrored request, or a report of what came of one |
//! | [`worker`] | the thread that decides, on virtual time that follows the clock |
//! | [`thread`] | how a thread of the shadow is started: live requests go first |

pub mod mirrored;
pub mod thread;
mod worker;

use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;

use crate::gateway::Gateway;
use crate::telemetry::metrics::{Mirrored as Counted, ShadowMetrics};
use mirrored::Mirrored;
use worker::{Job, Worker};

/// Longest wait for the figures.
const PATIENCE: Duration = Duration::from_secs(5);

/// Takes mirrored requests.
#[derive(Debug)]
pub struct Shadow {
    queue: SyncSender<Job>,
    metrics: ShadowMetrics,
}

impl Shadow {
    /// Starts the thread that decides, for the config that is active. `queue`: requests that may wait for it.
    ///
    /// # Errors
    /// If the thread can't be started.
    pub fn start(gateway: Gateway, queue: usize) -> std::io::Result<Self> {
        let metrics = gateway.metrics.shadow.clone();
        let (sender, jobs) = sync_channel(queue);
        thread::start("shadow", move || Worker::new(gateway).run(&jobs))?;
        Ok(Shadow { queue: sender, metrics })
    }

    /// Hands a request over, or counts it as dropped. Never waits. The thread counts what becomes of it.
    pub fn take(&self, mirrored: Mirrored) {
        self.metrics.waiting.inc();
        match self.queue.try_send(Job::Request(Box::new(mirrored))) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.metrics.waiting.dec();
                self.metrics.count(Counted::Dropped);
            }
        }
    }

    /// The figures so far, after all requests that were handed over before; `None` if the thread is too busy.
    pub async fn figures(&self) -> Option<Value> {
        let (reply, figures) = oneshot::channel();
        let job = async {
            let mut job = Job::Figures(reply);
            while let Err(TrySendError::Full(back)) = self.queue.try_send(job) {
                job = back;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            figures.await.ok()
        };
        tokio::time::timeout(PATIENCE, job).await.ok().flatten()
    }
}
