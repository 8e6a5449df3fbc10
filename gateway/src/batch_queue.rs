//! A queue from many threads to the one thread that writes the items: filled in parts, and emptied all at once.
//!
//! In a ring buffer as long as the bound, every place is out of the CPU cache when its turn comes. Here the same few
//! kilobytes are filled and emptied again and again. Up to [`PARTS`] threads fill them without contention: each has a
//! part of its own.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use prometheus::IntGauge;
use tokio::sync::oneshot;

/// How many threads have a part of their own.
const PARTS: usize = 8;
/// The capacity, in bytes, that an emptied part keeps.
const CALM: usize = 1 << 20;
/// The same of a batch.
const CALM_BATCH: usize = 256 * 1024;
/// How long a writer of batches sleeps if nothing comes, before it gives back its room.
const NOTHING: Duration = Duration::from_secs(10);

/// Index of the calling thread's part.
fn own_part() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static OWN: Cell<Option<usize>> = const { Cell::new(None) });
    OWN.get().unwrap_or_else(|| {
        let part = NEXT.fetch_add(1, Ordering::Relaxed) % PARTS;
        OWN.set(Some(part));
        part
    })
}

/// Aligned, so that two parts never share a cache line.
#[repr(align(128))]
struct Part<T>(Mutex<Vec<T>>);

struct Inbox<T> {
    parts: [Part<T>; PARTS],
    waiting: IntGauge,
    most: i64,
    /// To be notified when all that was handed over before them is done.
    flushes: Mutex<Vec<oneshot::Sender<()>>>,
    reader: OnceLock<Thread>,
    asleep: AtomicBool,
    closed: AtomicBool,
}

/// The sending end. When it is dropped, the waiting items are still taken.
pub struct Sender<T>(Arc<Inbox<T>>);

/// The receiving end, for one thread. When it is dropped, the inbox accepts nothing more.
pub struct Receiver<T>(Arc<Inbox<T>>);

/// Why a reader wakes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// There are items to take.
    Filled,
    /// There are no items yet.
    Idle,
    /// There are no items, and none will come.
    Closed,
}

/// Both ends of an inbox for about `most` waiting items, which the gauge `waiting` counts.
pub fn inbox<T>(most: usize, waiting: IntGauge) -> (Sender<T>, Receiver<T>) {
    let inbox = Arc::new(Inbox {
        parts: std::array::from_fn(|_| Part(Mutex::default())),
        waiting,
        most: i64::try_from(most).unwrap_or(i64::MAX),
        flushes: Mutex::default(),
        reader: OnceLock::new(),
        asleep: AtomicBool::new(false),
        closed: AtomicBool::new(false),
    });
    (Sender(Arc::clone(&inbox)), Receiver(inbox))
}

impl<T> Inbox<T> {
    /// The calling thread's part, if there is room.
    fn part(&self) -> Option<MutexGuard<'_, Vec<T>>> {
        let open = self.waiting.get() < self.most && !self.closed.load(Ordering::Relaxed);
        open.then(|| self.parts[own_part()].0.lock())
    }

    fn filled(&self, part: MutexGuard<'_, Vec<T>>, added: usize) {
        // Counted before the unlock, so that the reader can't subtract the items before they are added.
        self.waiting.add(added as i64);
        drop(part);
        self.wake();
    }

    fn wake(&self) {
        // The reader looks into all parts after it sets `asleep`: either it has seen these items, or it is seen asleep
        // here.
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
        // A `flush` that takes this lock later sees `closed`; the reader answers the earlier ones.
        drop(self.flushes.lock());
        if let Some(reader) = self.reader.get() {
            reader.unpark();
        }
    }
}

impl<T> Sender<T> {
    /// Hands one item over; `false` if too many wait already, or the reader is gone.
    #[inline]
    pub fn push(&self, item: T) -> bool {
        let Some(mut part) = self.0.part() else { return false };
        part.push(item);
        self.0.filled(part, 1);
        true
    }

    /// As [`Sender::push`], for all items that `fill` appends.
    pub fn fill(&self, fill: impl FnOnce(&mut Vec<T>)) -> bool {
        let Some(mut part) = self.0.part() else { return false };
        let before = part.len();
        fill(&mut part);
        let added = part.len() - before;
        self.0.filled(part, added);
        true
    }

    /// Waits until all that was handed over before is done, or the reader is gone.
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

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<T> Receiver<T> {
    /// Sleeps until there are items, at most for `pause`.
    pub fn wait(&self, pause: Duration) -> Woken {
        let inbox = &*self.0;
        inbox.reader.get_or_init(std::thread::current);
        inbox.asleep.store(true, Ordering::Relaxed);
        if inbox.is_empty() && !inbox.closed.load(Ordering::Acquire) && !pause.is_zero() {
            std::thread::park_timeout(pause);
        }
        inbox.asleep.store(false, Ordering::Relaxed);
        // `closed` is read before the parts, so that an item handed in right before the end is seen.
        let closed = inbox.closed.load(Ordering::Acquire);
        match inbox.is_empty() {
            false => Woken::Filled,
            true if closed => Woken::Closed,
            true => Woken::Idle,
        }
    }

    /// Moves all waiting items to the end of `to`, where they count as waiting until [`Receiver::done`]. Returns the
    /// flushes to notify then.
    pub fn take(&self, to: &mut Vec<T>) -> Vec<oneshot::Sender<()>> {
        // Flushes first: the items that they wait for were handed over before.
        let flushes = std::mem::take(&mut *self.0.flushes.lock());
        for part in &self.0.parts {
            let mut part = part.0.lock();
            let taken = part.len();
            if to.is_empty() {
                // Mostly one thread fills its part: then nothing is moved.
                std::mem::swap(to, &mut part);
            } else {
                to.append(&mut part);
            }
            let calm = CALM / size_of::<T>().max(1);
            if part.capacity() > calm && taken < calm / 2 {
                part.shrink_to(calm);
            }
        }
        flushes
    }

    /// Gives back the room of an empty `batch`, and that of parts without items: for a reader that had nothing to take.
    pub fn give_back(&self, batch: &mut Vec<T>) {
        batch.shrink_to_fit();
        for part in &self.0.parts {
            part.0.lock().shrink_to_fit();
        }
    }

    /// So many of the taken items are done.
    pub fn done(&self, items: usize) {
        self.0.waiting.sub(items as i64);
    }
}

impl<T> Receiver<T> {
    /// Writes what comes in batches, until all senders are gone. A batch is collected for `gather`: while this thread sleeps, handing
    /// over an item doesn't wake it, which would cost more than the item.
    #[expect(clippy::disallowed_methods, reason = "the thread is the writer's own and has nothing else to do")]
    pub fn write_batches(&self, gather: Duration, mut write: impl FnMut(&[T])) {
        let mut batch = Vec::new();
        loop {
            match self.wait(NOTHING) {
                Woken::Closed => return,
                Woken::Idle => {
                    self.give_back(&mut batch);
                    continue;
                }
                Woken::Filled => {}
            }
            std::thread::sleep(gather);
            batch.shrink_to(CALM_BATCH / size_of::<T>().max(1));
            let flushed = self.take(&mut batch);
            write(&batch);
            self.done(batch.len());
            batch.clear();
            for done in flushed {
                let _ = done.send(());
            }
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.close();
        self.0.flushes.lock().clear();
    }
}

impl<T> std::fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sender({} waiting)", self.0.waiting.get())
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

    #[test]
    fn room_is_given_back_when_nothing_comes() {
        let (inlet, outlet) = inbox(100_000, gauge());
        let mut batch = Vec::new();
        for _ in 0..2 {
            assert!(inlet.fill(|part| part.extend(0..1000)));
            drop(outlet.take(&mut batch));
            batch.clear();
        }
        assert!(inlet.push(1));
        outlet.give_back(&mut batch);
        assert_eq!(batch.capacity(), 0);
        let room: usize = outlet.0.parts.iter().map(|part| part.0.lock().capacity()).sum();
        assert!(room < 1000, "{room}");
        drop(outlet.take(&mut batch));
        assert_eq!(batch, [1], "nothing is lost");
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
