//! Runs one rehearsal on a thread of its own: all of it (gateway, backends, callers) on one runtime, whose time jumps on
//! when nothing happens.
//!
//! Nothing happens when the runtime is parked: what its tasks send to each other over loopback is there at once, and would
//! have woken it. On a busy machine it is not there at once: the kernel may deliver it later, and the thread may be awake
//! but have no processor. So the thread must be asleep, not only parked, and then a byte that is sent after everything else
//! must have arrived before the time jumps.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::virtual_time::VirtualTime;

/// How often the runtime is looked at.
const LOOK: Duration = Duration::from_micros(500);
/// How often in a row it must be found asleep.
const ASLEEP: u32 = 4;
/// Bytes that must arrive, one after the other, before a jump.
const PROBES: u32 = 2;
/// How often it is looked whether the runtime has woken up after a jump.
const WAKING: u32 = 2000;

/// Runs `work` on virtual time, on this thread, to its end.
///
/// # Errors
/// If there is no runtime, no thread or no port to be had.
pub(crate) fn run<T>(work: impl AsyncFnOnce(Clock) -> T) -> std::io::Result<T> {
    let (clock, time) = Clock::on_virtual_time();
    // Odd while the runtime is parked.
    let parks = Arc::new(AtomicU64::new(0));
    let (parked, unparked) = (Arc::clone(&parks), Arc::clone(&parks));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(move || {
            parked.fetch_add(1, Ordering::AcqRel);
        })
        .on_thread_unpark(move || {
            unparked.fetch_add(1, Ordering::AcqRel);
        })
        .build()?;
    let (over, probe) = (Arc::new(AtomicBool::new(false)), Arc::new(Probe::default()));
    runtime.block_on(Arc::clone(&probe).start())?;
    // Where the system doesn't show its threads, parked must do.
    let thread = std::fs::read_link("/proc/thread-self").ok().map(|thread| PathBuf::from("/proc").join(thread).join("stat"));
    let watch = Watch { time, parks, probe, thread, over: Arc::clone(&over) };
    let watching = std::thread::Builder::new().name("virtual-time".to_owned()).spawn(move || watch.run())?;
    let done = runtime.block_on(work(clock));
    over.store(true, Ordering::Release);
    // It has nothing to say.
    let _ = watching.join();
    runtime.shutdown_background();
    Ok(done)
}

/// Sends a byte over loopback when it is asked to.
#[derive(Default)]
struct Probe {
    asked: Notify,
    arrived: AtomicU64,
}

impl Probe {
    async fn start(self: Arc<Self>) -> std::io::Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut near, mut far) = (near?, far?.0);
        near.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut byte = [0];
            loop {
                self.asked.notified().await;
                // A connection within this thread doesn't break; if it did, time would stand still and not go wrong.
                if near.write_all(&byte).await.is_err() || far.read_exact(&mut byte).await.is_err() {
                    return;
                }
                self.arrived.fetch_add(1, Ordering::AcqRel);
            }
        });
        Ok(())
    }
}

struct Watch {
    time: Arc<VirtualTime>,
    parks: Arc<AtomicU64>,
    probe: Arc<Probe>,
    /// What the system says of the runtime's thread.
    thread: Option<PathBuf>,
    over: Arc<AtomicBool>,
}

impl Watch {
    fn run(self) {
        while !self.over.load(Ordering::Acquire) {
            for _ in 0..PROBES {
                self.wait_for_sleep();
                let before = self.probe.arrived.load(Ordering::Acquire);
                self.probe.asked.notify_one();
                while self.probe.arrived.load(Ordering::Acquire) == before && !self.over.load(Ordering::Acquire) {
                    pause();
                }
            }
            let parks = self.wait_for_sleep();
            if !self.over.load(Ordering::Acquire) && self.time.jump() {
                self.wait_for_waking(parks);
            }
        }
    }

    /// Waits until the runtime is found asleep, in the same sleep, several times in a row; says in which one.
    fn wait_for_sleep(&self) -> u64 {
        let (mut before, mut found) = (0, 0);
        while found < ASLEEP && !self.over.load(Ordering::Acquire) {
            pause();
            let parks = self.parks.load(Ordering::Acquire);
            found = if parks == before && parks % 2 == 1 && self.is_asleep() { found + 1 } else { 0 };
            before = parks;
        }
        before
    }

    /// Whether the thread waits for an event, and is not about to run.
    fn is_asleep(&self) -> bool {
        let Some(stat) = self.thread.as_ref().and_then(|path| std::fs::read_to_string(path).ok()) else { return true };
        // The name before it may have any letters in it.
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('S'))
    }

    /// A busy machine takes its time to run what was woken: a second jump meanwhile would be one too many.
    fn wait_for_waking(&self, parks: u64) {
        for _ in 0..WAKING {
            if self.parks.load(Ordering::Acquire) != parks || self.over.load(Ordering::Acquire) {
                return;
            }
            pause();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this thread is its own, and watches a runtime that stands")]
fn pause() {
    std::thread::sleep(LOOK);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_passes_at_once_and_in_order() {
        let order = run(async |clock: Clock| {
            let began = clock.now();
            let (a, b) = (clock.clone(), clock.clone());
            let hours = |clock: Clock, hours: u64| async move {
                clock.sleep(Duration::from_secs(hours * 3600)).await;
                clock.now().since(began).as_secs() / 3600
            };
            let (one, other) = (tokio::spawn(hours(a, 24)), tokio::spawn(hours(b, 3)));
            (one.await.ok(), other.await.ok(), clock.now().since(began).as_secs() / 3600)
        });
        assert_eq!(order.unwrap(), (Some(24), Some(3), 24));
    }
}
