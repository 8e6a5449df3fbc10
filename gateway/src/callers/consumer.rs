//! A consumer at work: its config, and what belongs to it.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::Consumer;
use crate::limits::Account;

/// The number that stands for the consumer of this name; the same in every process, never 0.
pub fn number_of(name: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(name).max(1)
}

/// A consumer, with its limits' state and its counters.
#[derive(Debug)]
pub struct LiveConsumer {
    /// Its config.
    pub config: Consumer,
    /// What it uses.
    pub account: Account,
    /// A number that stands for it where who asks matters, never 0.
    pub number: u64,
    /// How many of its requests are in flight.
    pub in_flight: AtomicUsize,
    /// How many bytes of its bodies are held.
    pub buffered: Arc<AtomicUsize>,
}

impl LiveConsumer {
    /// One with this config; `account` is what it uses.
    pub fn new(config: Consumer, account: Account) -> Self {
        let number = number_of(&config.name);
        LiveConsumer { config, account, number, in_flight: AtomicUsize::new(0), buffered: Arc::default() }
    }
}

/// Counts a request among its consumer's for as long as it lives.
#[derive(Debug)]
pub struct OneOf(Arc<LiveConsumer>);

impl OneOf {
    /// Counts one more, and how many there are with it.
    pub fn of(consumer: &Arc<LiveConsumer>) -> (Self, usize) {
        let before = consumer.in_flight.fetch_add(1, Ordering::Relaxed);
        (OneOf(Arc::clone(consumer)), before + 1)
    }
}

impl Drop for OneOf {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Deref for LiveConsumer {
    type Target = Consumer;

    fn deref(&self) -> &Consumer {
        &self.config
    }
}
