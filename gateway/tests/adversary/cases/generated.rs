//! Round after round of whatever the grammar makes.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::differential::{Finding, play};
use crate::history::History;

/// Rounds that share two gateways.
const BATCH: usize = 50;
/// Batches that are played at once: most of a batch is waiting for upstreams that say nothing.
const AT_ONCE: usize = 5;
/// Times that a batch is played in which the machine stood still.
const PLAYS: usize = 3;
/// Plays to find the shortest history.
const SHORTER: usize = 40;

/// A number from the environment.
pub fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{variable}: {text} is no number")))
}

fn run(history: &History) -> (Vec<Finding>, bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let outcome = runtime.block_on(play(history));
    let still = outcome.busy;
    let findings = if outcome.findings.is_empty() { outcome.stood_still.into_iter().collect() } else { outcome.findings };
    (findings, still)
}

/// What is wrong with a history. What was seen while the machine stood still has to be seen again, in the same rounds.
pub fn wrong(history: &History) -> Vec<Finding> {
    let (mut findings, mut still) = run(history);
    for _ in 1..PLAYS {
        if findings.is_empty() || !still {
            break;
        }
        let before: Vec<usize> = findings.iter().map(|finding| finding.round).collect();
        (findings, still) = run(history);
        if still {
            findings.retain(|finding| before.contains(&finding.round));
        }
    }
    findings
}

fn report(seed: u64, first: usize, history: History, findings: &[Finding]) -> String {
    let round = findings.iter().map(|finding| finding.round).min().unwrap_or(first);
    let all: Vec<String> = findings.iter().map(|finding| format!("round {}: {}", finding.round, finding.what)).collect();
    let again = |history: &History| wrong(history).iter().any(|finding| finding.round == round);
    let shortest = history.shortest(round, SHORTER, again);
    format!(
        "SPILLWAY_ADVERSARY_SEED={seed} SPILLWAY_ADVERSARY_FROM={first}: round {round}, {} findings\n{}\nthe shortest history, and what is found in it:\n{}{:?}",
        findings.len(),
        all.join("\n\n"),
        shortest.told(),
        wrong(&shortest)
    )
}

/// Whatever one consumer sends, and whatever upstreams answer it, the other one gets what it would get alone.
#[test]
fn the_ordinary_consumer_never_notices_the_hostile_one() {
    let seed = number("SPILLWAY_ADVERSARY_SEED", 16) as u64;
    let from = number("SPILLWAY_ADVERSARY_FROM", 0) / BATCH * BATCH;
    let rounds = number("SPILLWAY_ADVERSARY_ROUNDS", 500);
    let next = AtomicUsize::new(from);
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let first = next.fetch_add(BATCH, Ordering::Relaxed);
                    if first >= from + rounds || failed.lock().is_some() {
                        return;
                    }
                    let history = History::new(seed, first, BATCH);
                    let findings = wrong(&history);
                    if !findings.is_empty() {
                        failed.lock().get_or_insert((first, history, findings));
                        return;
                    }
                }
            });
        }
    });
    if let Some((first, history, findings)) = failed.into_inner() {
        panic!("{}", report(seed, first, history, &findings));
    }
}
