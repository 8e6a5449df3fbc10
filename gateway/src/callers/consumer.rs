//! A consumer at work: its config, and what belongs to it.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::ops::Deref;

use crate::config::Consumer;
use crate::limits::Account;

/// A consumer, with its limits' state and its counters.
#[derive(Debug)]
pub struct LiveConsumer {
    /// Its config.
    pub config: Consumer,
    /// What it uses.
    pub account: Account,
    /// A number that stands for it where who asks matters, never 0.
    pub number: u64,
}

impl LiveConsumer {
    /// One with this config; `account` is what it uses.
    pub fn new(config: Consumer, account: Account) -> Self {
        let number = BuildHasherDefault::<DefaultHasher>::default().hash_one(&config.name).max(1);
        LiveConsumer { config, account, number }
    }
}

impl Deref for LiveConsumer {
    type Target = Consumer;

    fn deref(&self) -> &Consumer {
        &self.config
    }
}
