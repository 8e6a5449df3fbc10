//! Round after round of whatever the grammar makes.

use crate::differential::{Batch, rounds, seed};

/// Rounds that share a gateway.
const BATCH: usize = 50;

#[test]
fn the_ordinary_consumer_never_notices_the_hostile_one() {
    let (seed, rounds) = (seed(), rounds(500));
    for first in (0..rounds).step_by(BATCH) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let found = runtime.block_on(Batch { seed, first, rounds: BATCH.min(rounds - first) }.run());
        assert!(found.is_empty(), "SPILLWAY_ADVERSARY_SEED={seed}, rounds from {first}: {} findings\n{}", found.len(), found.join("\n\n"));
    }
}
