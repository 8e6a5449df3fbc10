//! Connections that wait for their next request. Each address of a backend has a stack of them, so the one that was used
//! last is used next, and they go when their address goes. All stacks together are bounded.
//!
//! No task and no timer belongs to a connection: a sweep for all of them drops those that the other side has closed, and
//! those that were not used for long.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::IntCounter;

use super::transport::{News, Transport};

/// Time between two sweeps.
const SWEEP: Duration = Duration::from_secs(10);
/// Sweeps that a connection outlasts: 80 to 90 s, as with other clients. Backends close theirs earlier or about then.
const SWEEPS: u32 = 9;
/// Sweeps for which an address that sent an answer too many gets a connection for each request: ten minutes.
const DISTRUSTED: u32 = 60;

/// The idle connections of one address.
#[derive(Debug, Default)]
pub struct Stack {
    /// The one that was used last is at the back.
    connections: Mutex<VecDeque<Idle>>,
    /// Whether the sweep knows it.
    known: AtomicBool,
    /// Whether an answer came that nothing had asked for. The next one could come just before a request is sent, and be taken
    /// for its answer.
    strayed: AtomicBool,
    /// The sweep at which its connections are kept again; 0 if they are, or `strayed` is new.
    distrusted: AtomicU32,
    address: Option<SocketAddr>,
}

#[derive(Debug)]
struct Idle {
    transport: Transport,
    /// The number of the last sweep when it became idle.
    since: u32,
    _place: Place,
}

/// One of all places; free when this is dropped.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Stack {
    /// Of this address.
    pub fn of(address: SocketAddr) -> Self {
        Stack { address: Some(address), ..Stack::default() }
    }

    /// A connection that is still open.
    pub fn take(&self) -> Option<Transport> {
        loop {
            let mut idle = self.connections.lock().pop_back()?;
            match idle.transport.news() {
                News::Nothing => return Some(idle.transport),
                News::Ended => {}
                News::Stray => self.distrust(),
            }
        }
    }

    /// An answer came that nothing had asked for: no connection is used again for a while.
    pub(super) fn distrust(&self) {
        self.strayed.store(true, Ordering::Relaxed);
        self.clear();
    }

    /// Drops the one that is idle for longest.
    fn drop_oldest(&self) -> bool {
        let oldest = self.connections.lock().pop_front();
        oldest.is_some()
    }

    fn len(&self) -> usize {
        self.connections.lock().len()
    }

    /// Drops those that are closed, or idle since this sweep or an earlier one.
    fn sweep(&self, until: Option<u32>) {
        let (mut gone, mut strayed) = (Vec::new(), false);
        {
            let mut connections = self.connections.lock();
            for _ in 0..connections.len() {
                let Some(mut idle) = connections.pop_front() else { break };
                let old = until.is_some_and(|until| idle.since <= until);
                let news = idle.transport.news();
                strayed |= news == News::Stray;
                if old || news != News::Nothing {
                    gone.push(idle);
                } else {
                    connections.push_back(idle);
                }
            }
        }
        // Closed without the lock.
        drop(gone);
        if strayed {
            self.distrust();
        }
    }

    fn clear(&self) {
        let all = std::mem::take(&mut *self.connections.lock());
        drop(all);
    }
}

/// All idle connections.
#[derive(Debug)]
pub struct IdleConnections {
    room: usize,
    count: Arc<AtomicUsize>,
    stacks: Mutex<Vec<Weak<Stack>>>,
    sweeps: AtomicU32,
    closed: AtomicBool,
    /// How often an address sent an answer too many.
    strays: Option<IntCounter>,
}

impl IdleConnections {
    /// At most `room` connections.
    pub fn new(room: usize) -> Self {
        let (stacks, sweeps, closed) = (Mutex::default(), AtomicU32::new(0), AtomicBool::new(false));
        IdleConnections { room, count: Arc::default(), stacks, sweeps, closed, strays: None }
    }

    /// Counts here how often an address sent an answer too many.
    pub fn counting(self, strays: IntCounter) -> Self {
        IdleConnections { strays: Some(strays), ..self }
    }

    /// Keeps a connection in the stack of its address. If there is no room, it takes the place of the address's oldest one;
    /// if that has none, of the oldest one of the address that has most.
    pub(super) fn put(&self, stack: &Arc<Stack>, transport: Transport) {
        if stack.strayed.load(Ordering::Relaxed) && !self.trusts_again(stack) {
            return;
        }
        if !stack.known.load(Ordering::Relaxed) && !stack.known.swap(true, Ordering::Relaxed) {
            self.stacks.lock().push(Arc::downgrade(stack));
        }
        let place = self.place().or_else(|| (stack.drop_oldest() || self.drop_one()).then(|| self.place()).flatten());
        let Some(place) = place else { return };
        let since = self.sweeps.load(Ordering::Relaxed);
        stack.connections.lock().push_back(Idle { transport, since, _place: place });
        // Looked at afterwards, so that closing misses none.
        if self.closed.load(Ordering::SeqCst) {
            stack.clear();
        }
    }

    /// Whether connections of an address that sent an answer too many are kept again. Says so once when it begins.
    #[cold]
    fn trusts_again(&self, stack: &Stack) -> bool {
        let now = self.sweeps.load(Ordering::Relaxed);
        match stack.distrusted.compare_exchange(0, now + DISTRUSTED, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => {
                self.strays.iter().for_each(IntCounter::inc);
                let address = stack.address.map(|address| address.to_string()).unwrap_or_default();
                tracing::warn!(
                    address,
                    "a backend sent an answer that no request had asked for: for ten minutes each request to this address gets a new connection"
                );
                false
            }
            Err(until) if now < until => false,
            Err(_) => {
                stack.strayed.store(false, Ordering::Relaxed);
                stack.distrusted.store(0, Ordering::Relaxed);
                true
            }
        }
    }

    fn place(&self) -> Option<Place> {
        let taken = self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < self.room).then_some(count + 1));
        taken.ok().map(|_| Place(Arc::clone(&self.count)))
    }

    fn drop_one(&self) -> bool {
        let stacks = self.live();
        stacks.iter().max_by_key(|stack| stack.len()).is_some_and(|longest| longest.drop_oldest())
    }

    /// The stacks of addresses that are in use.
    fn live(&self) -> Vec<Arc<Stack>> {
        let mut live = Vec::new();
        self.stacks.lock().retain(|stack| stack.upgrade().inspect(|stack| live.push(Arc::clone(stack))).is_some());
        live
    }

    /// Drops connections that are closed, or that were not used since the ninth sweep before this one.
    fn sweep(&self) {
        let now = self.sweeps.fetch_add(1, Ordering::Relaxed) + 1;
        self.live().iter().for_each(|stack| stack.sweep(now.checked_sub(SWEEPS)));
    }

    /// Sweeps for ever.
    pub async fn keep_swept(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP).await;
            self.sweep();
        }
    }

    /// The gateway stops: drops all, and keeps none from now on.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.live().iter().for_each(|stack| stack.clear());
    }
}

#[cfg(test)]
mod tests;
