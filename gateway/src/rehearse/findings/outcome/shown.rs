//! What a fault showed, beside the run without a fault.

use crate::rehearse::findings::view::{PoolView, View};
use crate::rehearse::outcome::{FaultOutcome, PoolSums, RequestOutcome};

/// What a fault showed.
pub(in crate::rehearse::findings) struct Shown<'o> {
    /// The run without a fault.
    pub(in crate::rehearse::findings) baseline: &'o FaultOutcome,
    /// The run with the fault.
    pub(in crate::rehearse::findings) fault: &'o FaultOutcome,
}

impl<'o> Shown<'o> {
    /// The requests of a pool whose callers didn't get what they asked for.
    pub(super) fn bad<'s>(&'s self, pool: &'s str) -> impl Iterator<Item = &'o RequestOutcome> + use<'s, 'o> {
        self.fault.requests.iter().filter(move |request| request.pool == pool && !request.is_good())
    }

    /// Whether the pool serves everything while nothing is wrong.
    pub(super) fn is_sound(&self, pool: &str) -> bool {
        self.baseline.pools.iter().find(|sums| sums.pool == pool).is_none_or(|sums| sums.good == sums.requests)
    }

    /// The sums of each pool of the config, with its settings.
    pub(super) fn pools<'c>(&self, view: &View<'c>) -> Vec<(PoolView<'c>, &'o PoolSums)> {
        let sums = |pool: &PoolView<'_>| self.fault.pools.iter().find(|sums| *sums.pool == *pool.config.name);
        view.pools().into_iter().filter_map(|pool| sums(&pool).map(|sums| (pool, sums))).collect()
    }

    /// The fault in words: `the fault 'failing ptu-sweden' (500)`.
    pub(super) fn said(&self) -> String {
        let fault = &self.fault.fault;
        format!("the fault '{}' ({})", fault.name(), fault.kind.says())
    }
}
