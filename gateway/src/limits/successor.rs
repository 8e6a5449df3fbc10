//! How the old process asks the new one, which decides what limits admit.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use spillway_plugins::limits::{Demand, Path};
use tokio::sync::{Notify, mpsc, oneshot};

use super::Denied;
use super::decider::{Answer, Decision, Question};

/// The new process.
#[derive(Debug)]
pub struct Successor {
    next: AtomicU64,
    questions: mpsc::UnboundedSender<Question>,
    /// Who waits for an answer, by its number.
    waiting: Mutex<HashMap<u64, oneshot::Sender<Result<Grant, Denied>>>>,
    /// The numbers of what was admitted, and counts in this process now if it counts at all.
    counted: Mutex<Vec<u64>>,
    has_counted: Notify,
}

/// A request that the new process has admitted. If this is dropped, the request uses nothing.
#[derive(Debug)]
pub(super) struct Grant {
    number: u64,
    /// Scopes that the new process doesn't have.
    unknown: Vec<String>,
    successor: Arc<Successor>,
    is_counted: bool,
}

impl Grant {
    /// Counts the request in this process: `reserve` gets the scopes that the new process doesn't have.
    pub(super) fn count<T>(mut self, reserve: impl FnOnce(&[String]) -> T) -> T {
        let mut counted = self.successor.counted.lock();
        let reserved = reserve(&self.unknown);
        counted.push(self.number);
        drop(counted);
        self.is_counted = true;
        self.successor.has_counted.notify_one();
        reserved
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if !self.is_counted {
            self.successor.counted.lock().push(self.number);
            self.successor.has_counted.notify_one();
        }
    }
}

impl Successor {
    pub(super) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Question>) {
        let (questions, receiver) = mpsc::unbounded_channel();
        let successor = Successor {
            next: AtomicU64::new(0),
            questions,
            waiting: Mutex::default(),
            counted: Mutex::default(),
            has_counted: Notify::new(),
        };
        (Arc::new(successor), receiver)
    }

    /// Asks for a request. `None`: there is no answer, and will be none.
    pub(super) async fn ask(&self, path: &Path, demand: &Demand) -> Option<Result<Grant, Denied>> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().insert(number, sender);
        if self.questions.send(Question::new(number, path, demand)).is_err() {
            self.waiting.lock().remove(&number);
            return None;
        }
        receiver.await.ok()
    }

    /// The new process has answered.
    pub fn answered(self: &Arc<Self>, answer: Answer) {
        let Answer { number, decision } = answer;
        let waiting = self.waiting.lock().remove(&number);
        let answer = match decision {
            Decision::Admitted { unknown } => Ok(Grant { number, unknown, successor: Arc::clone(self), is_counted: false }),
            Decision::Denied(denied) => Err(denied),
        };
        if let Some(waiting) = waiting {
            // If nobody waits any more, what comes back is dropped.
            let _ = waiting.send(answer);
        }
    }

    /// There will be no more answers. To be called when no questions are received any more.
    pub fn close(&self) {
        self.waiting.lock().clear();
    }

    /// What `read` finds in the scopes, and the numbers of all admitted requests that count there since the last time.
    pub fn counted<T>(&self, read: impl FnOnce() -> T) -> (T, Vec<u64>) {
        let mut counted = self.counted.lock();
        (read(), std::mem::take(&mut *counted))
    }

    /// Waits until something counts that [`Successor::counted`] hasn't returned yet.
    pub async fn has_counted(&self) {
        self.has_counted.notified().await;
    }
}
