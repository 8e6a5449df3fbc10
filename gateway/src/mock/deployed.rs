//! The state of the mock's deployments, and what a request holds of one until it ends.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::buckets::Buckets;
use super::prompt_cache::PromptCache;
use super::settings::Deployment;
use crate::clock::Clock;

/// The state of one deployment.
pub(super) struct Deployed {
    pub(super) buckets: Buckets,
    pub(super) prompts: PromptCache,
}

/// What a request has reserved of a PTU. However the request ends, its real usage counts then.
pub(super) struct Reserved<'m> {
    pub(super) deployed: &'m Mutex<HashMap<String, Deployed>>,
    pub(super) clock: &'m Clock,
    pub(super) deployment: &'m Deployment,
    /// The name of its counters.
    pub(super) counters: String,
    pub(super) reserved: f64,
    pub(super) used: f64,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let now = self.clock.now();
        if let Some(deployed) = self.deployed.lock().get_mut(&self.counters) {
            deployed.buckets.settle(&self.deployment.limits(), self.reserved, self.used, now);
        }
    }
}
