//! `cost = "by-share"`: who pays which part of the price per hour of provisioned throughput.

use crate::config::checker::Checker;
use crate::config::raw::{RawBackend, RawConsumer, RawPtu, RawPtuCost, RawShare};
use crate::config::{BackendConfig, DeploymentPrice, Payer, PriceByShare};

/// The deployments whose price per hour is divided by shares. `backends`: `raw` validated, in the same order.
pub(super) fn read(
    raw: &[RawBackend],
    backends: &[BackendConfig],
    consumers: &[RawConsumer],
    has_ledger: bool,
    check: &mut Checker<'_>,
) -> Vec<PriceByShare> {
    let mut all = Vec::new();
    for (at, (raw, backend)) in raw.iter().zip(backends).enumerate() {
        for (deployment, ptu) in raw.ptu.iter().filter(|(_, ptu)| ptu.cost == Some(RawPtuCost::ByShare)) {
            let key = format!("backends[{at}].ptu.{deployment}");
            let cost = format!("{key}.cost");
            let payers = payers(ptu, consumers, &format!("{key}.shares"), check);
            if ptu.shares.is_empty() {
                check.problem(&cost, "needs 'shares', which say who pays how much of it");
            }
            if !has_ledger {
                check.warn(&cost, "has no effect without server.state_dir: it is for reports, and there is no ledger to make them from");
            }
            match backend.prices.get(deployment) {
                Some(DeploymentPrice::Hourly(Some(per_hour))) => {
                    let (backend, deployment) = (backend.name.clone(), deployment.clone());
                    all.push(PriceByShare { backend, deployment, per_hour: *per_hour, payers });
                }
                _ => check.problem(&cost, format!("there is no price per hour to divide: set backends.prices.{deployment}.usd_per_hour")),
            }
        }
    }
    all
}

fn payers(ptu: &RawPtu, consumers: &[RawConsumer], key: &str, check: &mut Checker<'_>) -> Vec<Payer> {
    let has_own = |name: &str| ptu.shares.iter().any(|share| share.consumer.as_deref() == Some(name));
    let mut all = Vec::new();
    for (at, share) in ptu.shares.iter().enumerate() {
        let names = match share {
            RawShare { consumer: Some(name), .. } => vec![name.clone()],
            RawShare { group: Some(group), .. } => {
                // A consumer's own share goes before that of its group.
                let is_in = |consumer: &&RawConsumer| consumer.group.as_ref() == Some(group) && !has_own(&consumer.name);
                let names: Vec<String> = consumers.iter().filter(is_in).map(|consumer| consumer.name.clone()).collect();
                if names.is_empty() {
                    check.problem(
                        &format!("{key}[{at}].group"),
                        format!(
                            "'{group}' has no consumer that could pay for its share (cost = \"by-share\"): list one, or remove the share"
                        ),
                    );
                }
                names
            }
            RawShare { class: Some(_), .. } => {
                check.problem(
                    &format!("{key}[{at}].class"),
                    "a class can't pay for its share (cost = \"by-share\"): give the share to consumers or groups",
                );
                continue;
            }
            // Reported where shares are read.
            RawShare { .. } => continue,
        };
        all.push(Payer { percent: share.percent, consumers: names });
    }
    all
}
