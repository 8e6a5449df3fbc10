//! How much one consumer uses of resources that all consumers share and that can't be taken back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much one consumer uses of each resource.
#[derive(Debug, Default)]
pub struct Holding {
    /// How many of its requests are in flight.
    in_flight: AtomicUsize,
    /// How many bytes of its requests' bodies are in memory.
    pub buffered: Arc<AtomicUsize>,
    /// How many bytes of its records wait for the prompt log.
    pub logged: Arc<AtomicUsize>,
}

/// Counts a request of its consumer as in flight until it is dropped.
#[derive(Debug)]
pub struct OneOf(Arc<Holding>);

impl OneOf {
    /// Counts one more. Returns the new count, too.
    pub fn of(holding: &Arc<Holding>) -> (Self, usize) {
        let before = holding.in_flight.fetch_add(1, Ordering::Relaxed);
        (OneOf(Arc::clone(holding)), before + 1)
    }
}

impl Drop for OneOf {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
