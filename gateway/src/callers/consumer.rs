//! A consumer at run time: its config, and what belongs to it.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::ops::Deref;
use std::sync::Arc;

use super::holding::Holding;
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
    /// Its use of its limits.
    pub account: Account,
    /// A number that stands for it wherever consumers are told apart, never 0.
    pub number: u64,
    /// How much it uses of what all consumers share.
    pub holding: Arc<Holding>,
}

impl LiveConsumer {
    /// A consumer with this config; `account` is its use of its limits.
    pub fn new(config: Consumer, account: Account) -> Self {
        let number = number_of(&config.name);
        LiveConsumer { config, account, number, holding: Arc::default() }
    }
}

impl Deref for LiveConsumer {
    type Target = Consumer;

    fn deref(&self) -> &Consumer {
        &self.config
    }
}
