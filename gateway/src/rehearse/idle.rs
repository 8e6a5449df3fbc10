//! Runs one rehearsal on a thread of its own: all of it (gateway, backends, callers) on one runtime, whose time jumps on
//! when nothing happens.
//!
//! Nothing happens when the runtime is parked: what its tasks send to each other over loopback is there at once, and would
//! have woken it. Only threads beside it (the ledger's, the kernel's for loopback on a busy machine) could still come, so it
//! must stay parked for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Clock;
use crate::virtual_time::VirtualTime;

/// How often the runtime is looked at.
const LOOK: Duration = Duration::from_micros(500);
/// How often in a row it must be found parked.
const PARKED: u32 = 20;
/// How long the runtime may take to wake up after a jump.
const WAKING: u32 = 1000;

/// Runs `work` on virtual time, on this thread, to its end.
///
/// # Errors
/// If there is no runtime or no thread to be had.
pub(super) fn run<T>(work: impl AsyncFnOnce(Clock) -> T) -> std::io::Result<T> {
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
    let over = Arc::new(AtomicBool::new(false));
    let watch = Watch { time, parks, over: Arc::clone(&over) };
    let watching = std::thread::Builder::new().name("virtual-time".to_owned()).spawn(move || watch.run())?;
    let done = runtime.block_on(work(clock));
    over.store(true, Ordering::Release);
    // It has nothing to say.
    let _ = watching.join();
    runtime.shutdown_background();
    Ok(done)
}

struct Watch {
    time: Arc<VirtualTime>,
    parks: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Watch {
    fn run(self) {
        let (mut before, mut found) = (0, 0);
        while !self.over.load(Ordering::Acquire) {
            pause();
            let parks = self.parks.load(Ordering::Acquire);
            found = if parks == before && parks % 2 == 1 { found + 1 } else { 0 };
            before = parks;
            if found >= PARKED {
                found = 0;
                if self.time.jump() {
                    self.wait_for_waking(parks);
                }
            }
        }
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
