//! How the old process asks the new one, which decides what limits admit.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use spillway_plugins::limits::{Demand, Path, Timestamps};
use tokio::sync::{Notify, mpsc, oneshot};

use super::denied::Denied;
use super::question::{Answer, Decision, Question};
use super::silence::Silence;

/// Questions that wait until they can be sent. Whoever asks more of them waits.
const QUEUE: usize = 1024;

type Waiting = HashMap<u64, oneshot::Sender<Result<Grant, Denied>>>;

/// The new process.
#[derive(Debug)]
pub struct Successor {
    next: AtomicU64,
    questions: mpsc::Sender<Question>,
    /// Who waits for an answer, by its number; `None` if there will be no more answers.
    waiting: Mutex<Option<Waiting>>,
    /// The numbers of what was admitted, and counts in this process now if it counts at all.
    counted: Mutex<Vec<u64>>,
    has_counted: Notify,
    pub(super) silence: Mutex<Silence>,
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

/// A question without an answer. If this is dropped before there is one, the new process is told at once that what it may grant is not
/// used: this process may end before the answer comes.
struct Unanswered<'s> {
    number: u64,
    successor: &'s Successor,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        let Unanswered { number, successor } = self;
        let is_unanswered = successor.waiting.lock().as_mut().is_some_and(|waiting| waiting.remove(number).is_some());
        if is_unanswered {
            successor.counted.lock().push(*number);
            successor.has_counted.notify_one();
        }
    }
}

impl Successor {
    pub(super) fn new() -> (Arc<Self>, mpsc::Receiver<Question>) {
        let (questions, receiver) = mpsc::channel(QUEUE);
        let successor = Successor {
            next: AtomicU64::new(0),
            questions,
            waiting: Mutex::new(Some(HashMap::new())),
            counted: Mutex::default(),
            has_counted: Notify::new(),
            silence: Mutex::default(),
        };
        (Arc::new(successor), receiver)
    }

    /// Asks for a request. `None`: there is no answer, and will be none.
    pub(super) async fn ask(&self, path: &Path, demand: &Demand) -> Option<Result<Grant, Denied>> {
        let Ok(place) = self.questions.reserve().await else {
            self.close();
            return None;
        };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().as_mut()?.insert(number, sender);
        let _unanswered = Unanswered { number, successor: self };
        place.send(Question::new(number, path, demand));
        receiver.await.ok()
    }

    /// A question about no scope: all that its answer says is that there are answers.
    pub(super) fn question_of_nothing(&self) -> Question {
        Question::new(self.next.fetch_add(1, Ordering::Relaxed), &Path::new(), &Demand::default())
    }

    /// The new process has answered.
    pub fn answered(self: &Arc<Self>, answer: Answer, now: Timestamps) {
        let Answer { number, decision } = answer;
        self.silence.lock().answered(number, now.monotonic);
        let waiting = self.waiting.lock().as_mut().and_then(|waiting| waiting.remove(&number));
        let answer = match decision {
            Decision::Admitted { unknown } => Ok(Grant { number, unknown, successor: Arc::clone(self), is_counted: false }),
            Decision::Denied(denied) => Err(denied),
        };
        if let Some(waiting) = waiting {
            // If nobody waits any more, what comes back is dropped.
            let _ = waiting.send(answer);
        }
    }

    /// There will be no more answers: nobody waits for one from now on.
    pub fn close(&self) {
        *self.waiting.lock() = None;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.waiting.lock().is_none()
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
