//! What TLS costs, towards callers and backends: the gateway beside the floor, both with it.

use std::path::Path;
use std::time::Duration;

use crate::backend::Backend;
use crate::callers::Case;
use crate::certificates::Certificates;
use crate::compare;
use crate::process::{Proxy, Variant};

const CASES: [(&str, Case, f64); 3] = [
    ("1 KiB, TLS", Case::Plain { body: 1 << 10, refuse: false }, 1.05),
    ("1 MB, TLS", Case::Plain { body: 1_000_000, refuse: false }, 1.05),
    ("SSE, TLS, per chunk", Case::Stream, 1.05),
];

/// Prints a row for each case whose name contains `wanted`. Returns how many budgets are missed.
pub async fn costs(program: &Path, floor: &Path, directory: &Path, turn: Duration, wanted: &str) -> usize {
    let rows = CASES.into_iter().filter(|(name, _, _)| name.contains(wanted));
    if rows.clone().next().is_none() {
        return 0;
    }
    let certificates = Certificates::new(directory);
    let backend = Backend::start_tls(&certificates).await;
    let variant = Variant { name: "tls", tls: Some(&certificates), ..Variant::default() };
    let mut gateway = Proxy::of(program, directory, &backend, variant).await;
    let mut floor = Proxy::floor_tls(floor, &backend, &certificates).await;
    let mut missed = 0;
    for (name, case, budget) in rows {
        missed += usize::from(compare(name, &mut gateway, &mut floor, case, turn, budget).await);
    }
    missed
}
