//! Several nodes that don't share their limits.

use super::view::{View, refuses};
use crate::rehearse::finding::{Finding, Severity};

/// A load balancer in front, limits, and no Redis.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    let config = view.config;
    if config.server.lb_delay.is_zero() {
        return Vec::new();
    }
    let callers = view.callers();
    let own = callers.iter().flat_map(|caller| caller.limits.models.values().chain([&caller.limits.rules]));
    let shared = config.groups.iter().map(|group| &group.rules).chain(config.pools.iter().map(|pool| &pool.limits));
    let limited = own.chain(shared).any(refuses);
    match &config.redis {
        None if limited => {
            let text = "'lb_delay' says that a load balancer is in front, so that there may be several nodes, and there is no [redis]: each node \
                        allows the whole of every limit, quota and budget by itself, so that N nodes allow N times as much.";
            let remedy = "Set [redis] for all nodes, or divide the limits by their number; with one node, leave 'lb_delay' out.";
            vec![view.finding("limits-not-shared", Severity::Warning, "server.lb_delay", text, remedy)]
        }
        Some(redis) if limited && redis.nodes == 1 => {
            let text = "'redis.nodes' is 1: a node that starts while Redis can't be reached, or before it has heard of the others, allows the \
                        whole of every limit by itself.";
            let remedy = "Set 'redis.nodes' to the number of nodes that always run.";
            vec![view.finding("limits-not-shared", Severity::Note, "redis.nodes", text, remedy)]
        }
        _ => Vec::new(),
    }
}
