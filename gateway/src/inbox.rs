//! What many threads hand to one that writes it: gathered in parts, and taken all at once.
//!
//! In a ring as long as the most that may wait, every place is cold when its turn comes. Here the same few
//! kilobytes are filled and emptied again and again, and whoever fills them meets nobody: each thread has a part
//! of its own, as far as they go.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use prometheus::IntGauge;
use tokio::sync::oneshot;

/// How many threads meet nobody.
const PARTS: usize = 8;
/// What a part keeps room for when less comes, in bytes.
const CALM: usize = 1 << 20;

/// The thread's part.
fn own_part() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static OWN: Cell<Option<usize>> = const { Cell::new(None) });
    OWN.get().unwrap_or_else(|| {
        let part = NEXT.fetch_add(1, Ordering::Relaxed) % PARTS;
        OWN.set(Some(part));
        part
    })
}

/// On cache lines of its own.
#[repr(align(128))]
struct Part<T>(Mutex<Vec<T>>);

struct Inbox<T> {
    parts: [Part<T>; PARTS],
    waiting: IntGauge,
    most: i64,
    /// Those who want to hear when all that was handed over before them is done.
    flushes: Mutex<Vec<oneshot::Sender<()>>>,
    reader: OnceLock<Thread>,
    asleep: AtomicBool,
    closed: AtomicBool,
}

/// Where things are handed in. Dropped, what waits is still taken, and nothing more.
pub struct Inlet<T>(Arc<Inbox<T>>);

/// Where they are taken, by one thread. Dropped, nothing more is let in.
pub struct Outlet<T>(Arc<Inbox<T>>);

/// What a reader wakes up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// There is something to take.
    Filled,
    /// There is nothing yet.
    Idle,
    /// There is nothing, and nothing will come.
    Closed,
}

/// Both ends of an inbox in which about `most` items may wait, which `waiting` counts.
pub fn inbox<T>(most: usize, waiting: IntGauge) -> (Inlet<T>, Outlet<T>) {
    let inbox = Arc::new(Inbox {
        parts: std::array::from_fn(|_| Part(Mutex::default())),
        waiting,
        most: i64::try_from(most).unwrap_or(i64::MAX),
        flushes: Mutex::default(),
        reader: OnceLock::new(),
        asleep: AtomicBool::new(false),
        closed: AtomicBool::new(false),
    });
    (Inlet(Arc::clone(&inbox)), Outlet(inbox))
}

impl<T> Inbox<T> {
    /// The thread's part, if there is room.
    fn part(&self) -> Option<MutexGuard<'_, Vec<T>>> {
        let open = self.waiting.get() < self.most && !self.closed.load(Ordering::Relaxed);
        open.then(|| self.parts[own_part()].0.lock())
    }

    fn filled(&self, part: MutexGuard<'_, Vec<T>>, added: usize) {
        // Before it is unlocked: whoever takes it must not count it off sooner.
        self.waiting.add(added as i64);
        drop(part);
        self.wake();
    }

    fn wake(&self) {
        // Whoever sleeps has looked into all parts after it said so: it has seen what is there, or is seen here.
        if self.asleep.load(Ordering::Relaxed)
            && self.asleep.swap(false, Ordering::Relaxed)
            && let Some(reader) = self.reader.get()
        {
            reader.unpark();
        }
    }

    fn is_empty(&self) -> bool {
        self.flushes.lock().is_empty() && self.parts.iter().all(|part| part.0.lock().is_empty())
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // Whoever has this lock later knows; whoever had it before is known, if it reads.
        drop(self.flushes.lock());
        if let Some(reader) = self.reader.get() {
            reader.unpark();
        }
    }
}

impl<T> Inlet<T> {
    /// Hands one thing over; `false` if too much waits already, or nobody takes it any more.
    #[inline]
    pub fn push(&self, item: T) -> bool {
        let Some(mut part) = self.0.part() else { return false };
        part.push(item);
        self.0.filled(part, 1);
        true
    }

    /// As [`Inlet::push`] of all that `fill` adds at the end.
    pub fn fill(&self, fill: impl FnOnce(&mut Vec<T>)) -> bool {
        let Some(mut part) = self.0.part() else { return false };
        let before = part.len();
        fill(&mut part);
        let added = part.len() - before;
        self.0.filled(part, added);
        true
    }

    /// Waits until all that was handed over before is done, or nobody does it any more.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        {
            let mut flushes = self.0.flushes.lock();
            if self.0.closed.load(Ordering::Relaxed) {
                return;
            }
            flushes.push(done);
        }
        self.0.wake();
        let _ = flushed.await;
    }
}

impl<T> Drop for Inlet<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<T> Outlet<T> {
    /// Sleeps until there is something, at most for `pause`.
    pub fn wait(&self, pause: Duration) -> Woken {
        let inbox = &*self.0;
        inbox.reader.get_or_init(std::thread::current);
        inbox.asleep.store(true, Ordering::Relaxed);
        if inbox.is_empty() && !inbox.closed.load(Ordering::Acquire) && !pause.is_zero() {
            std::thread::park_timeout(pause);
        }
        inbox.asleep.store(false, Ordering::Relaxed);
        // Asked in this order: what was handed in right before the end is seen.
        let closed = inbox.closed.load(Ordering::Acquire);
        match inbox.is_empty() {
            false => Woken::Filled,
            true if closed => Woken::Closed,
            true => Woken::Idle,
        }
    }

    /// Moves all that waits to the end of `to`, where it counts as waiting until it is [`Outlet::done`]; those who want
    /// to hear when it is.
    pub fn take(&self, to: &mut Vec<T>) -> Vec<oneshot::Sender<()>> {
        // First: what they wait for was handed over before.
        let flushes = std::mem::take(&mut *self.0.flushes.lock());
        for part in &self.0.parts {
            let mut part = part.0.lock();
            let taken = part.len();
            to.append(&mut part);
            let calm = CALM / size_of::<T>().max(1);
            if part.capacity() > calm && taken < calm / 2 {
                part.shrink_to(calm);
            }
        }
        flushes
    }

    /// So many of those that were taken are dealt with.
    pub fn done(&self, items: usize) {
        self.0.waiting.sub(items as i64);
    }
}

impl<T> Drop for Outlet<T> {
    fn drop(&mut self) {
        self.0.close();
        self.0.flushes.lock().clear();
    }
}

impl<T> std::fmt::Debug for Inlet<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inlet({} waiting)", self.0.waiting.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauge() -> IntGauge {
        IntGauge::new("waiting", "For a test.").unwrap()
    }

    /// Whether it has ended by now.
    async fn ended(flush: impl Future<Output = ()>) -> Result<(), tokio::time::error::Elapsed> {
        tokio::time::timeout(Duration::ZERO, flush).await
    }

    #[test]
    fn what_many_threads_hand_over_arrives_once_and_each_threads_in_its_order() {
        const THREADS: u64 = 20;
        const EACH: u64 = 5_000;
        let gauge = gauge();
        let (inlet, outlet) = inbox(1_000_000, gauge.clone());
        let reader = std::thread::spawn(move || {
            let mut taken = Vec::new();
            while outlet.wait(Duration::from_secs(60)) != Woken::Closed {
                let before = taken.len();
                drop(outlet.take(&mut taken));
                outlet.done(taken.len() - before);
            }
            taken
        });
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let inlet = &inlet;
                scope.spawn(move || {
                    for item in 0..EACH {
                        assert!(inlet.push((thread, item)));
                    }
                });
            }
        });
        drop(inlet);
        let taken = reader.join().unwrap();
        assert_eq!(gauge.get(), 0);
        for thread in 0..THREADS {
            let items: Vec<u64> = taken.iter().filter(|(of, _)| *of == thread).map(|(_, item)| *item).collect();
            assert_eq!(items, (0..EACH).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn a_flush_ends_after_all_that_was_handed_over_before_it() {
        let (inlet, outlet) = inbox(10, gauge());
        assert!(inlet.push(1));
        let mut flush = Box::pin(inlet.flush());
        assert!(ended(&mut flush).await.is_err());
        let mut taken = Vec::new();
        let flushes = outlet.take(&mut taken);
        assert_eq!((taken, flushes.len()), (vec![1], 1));
        assert!(ended(&mut flush).await.is_err(), "taken isn't done");
        flushes.into_iter().for_each(|done| done.send(()).unwrap());
        assert!(ended(&mut flush).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_too_much_or_for_nobody_stays_outside() {
        let (inlet, outlet) = inbox(2, gauge());
        assert!(inlet.push('a') && inlet.fill(|part| part.extend(['b', 'c'])), "one too many in one go is no harm");
        assert!(!inlet.push('d'));
        let mut taken = Vec::new();
        drop(outlet.take(&mut taken));
        assert_eq!(taken, ['a', 'b', 'c']);
        assert!(!inlet.push('d'), "what is taken still counts");
        outlet.done(taken.len());
        assert!(inlet.push('e'));
        let mut flush = Box::pin(inlet.flush());
        assert!(ended(&mut flush).await.is_err());
        drop(outlet);
        assert!(ended(&mut flush).await.is_ok(), "nobody waits for ever");
        assert!(!inlet.push('f'));
    }
}
