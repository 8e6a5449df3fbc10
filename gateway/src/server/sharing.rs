//! The tasks that share limits, throttles, the use of provisioned throughput and issued keys with other nodes.

use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::gateway::Gateway;
use crate::limits::Throttle;

/// Starts them, if there are other nodes.
pub(super) fn start(gateway: &Gateway) -> Vec<JoinHandle<()>> {
    let keys = tokio::spawn(Arc::clone(&gateway.keys).keep_shared());
    limits(gateway).into_iter().chain([keys]).collect()
}

fn limits(gateway: &Gateway) -> Vec<JoinHandle<()>> {
    let Some(shared) = gateway.limits.shared.clone() else { return Vec::new() };
    let (throttles, provisioned) = (Arc::clone(&shared), Arc::clone(&shared));
    let (one, other) = (gateway.clone(), gateway.clone());
    let current = move || {
        let runtime = one.runtime.load();
        let quotas = runtime.targets.quotas().iter().cloned().map(Throttle::Quota);
        runtime.targets.iter().cloned().map(Throttle::Target).chain(quotas).collect()
    };
    let targets = move || other.runtime.load().targets.iter().cloned().collect();
    let (clock, ticks) = (gateway.clock.clone(), gateway.clock.clone());
    vec![
        tokio::spawn(shared.keep_agreed(Arc::clone(&gateway.limits))),
        tokio::spawn(async move { throttles.keep_throttles(current, &clock).await }),
        tokio::spawn(async move { provisioned.keep_provisioned(targets, &ticks).await }),
    ]
}
