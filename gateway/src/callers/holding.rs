//! What one consumer holds of what all consumers share and nobody can take back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much one consumer holds, of each kind.
#[derive(Debug, Default)]
pub struct Holding {
    /// How many of its requests are in flight.
    in_flight: AtomicUsize,
    /// How many bytes of its bodies are held.
    pub buffered: Arc<AtomicUsize>,
    /// How many bytes of its records wait for the prompt log.
    pub logged: Arc<AtomicUsize>,
}

/// Counts a request among its consumer's for as long as it lives.
#[derive(Debug)]
pub struct OneOf(Arc<Holding>);

impl OneOf {
    /// Counts one more, and how many there are with it.
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
