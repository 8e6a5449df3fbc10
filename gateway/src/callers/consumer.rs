//! A consumer at run time: its config, and what belongs to it.

use std::ops::Deref;
use std::sync::Arc;

use super::holding::Holding;
use crate::config::{Consumer, number_of};
use crate::limits::Account;

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
