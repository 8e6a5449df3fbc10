//! A consumer at work: its config, and what belongs to it.

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
}

impl Deref for LiveConsumer {
    type Target = Consumer;

    fn deref(&self) -> &Consumer {
        &self.config
    }
}
