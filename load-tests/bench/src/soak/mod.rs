//! A long run at half load with backends that fail: whether memory and descriptors stay, and what callers see.

mod backends;
mod callers;

use std::path::Path;
use std::time::{Duration, Instant};

use crate::median;
use crate::process::{Proxy, Variant};
use callers::{Crowd, Seen};

/// How long the gateway's capacity is measured.
const MEASURED: Duration = Duration::from_secs(20);
/// Time between two rows.
const ROW: Duration = Duration::from_secs(60);
/// Callers.
const CALLERS: usize = 64;
/// How much more memory the last quarter may have than the second, by their medians, and how many more descriptors at
/// the least: how many connections are open depends on the moment, but each that leaks stays.
const MORE: f64 = 1.05;

/// One row: what the gateway had at its end.
struct Row {
    kib: f64,
    descriptors: f64,
}

/// Runs it, and prints a row a minute. Returns whether all held.
pub async fn run(program: &Path, length: Duration) -> bool {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let backend = backends::start().await;
    let variant = Variant { name: "soak", targets: 3, ..Variant::default() };
    let mut gateway = Proxy::of(program, directory.path(), &backend, variant).await;
    let log = directory.path().join("soak-true/access.jsonl");
    let rest = (gateway.resident_kib(), gateway.descriptors());
    let full = Crowd::start(gateway.address, CALLERS, None);
    tokio::time::sleep(MEASURED).await;
    let capacity = full.stop().await.requests() as f64 / MEASURED.as_secs_f64();
    println!("{capacity:.0} requests a second at full load; half of it from here on");
    println!(
        "{:>8}{:>12}{:>10}{:>10}{:>12}{:>10}{:>10}{:>14}",
        "minute", "requests", "refused", "broken", "cut", "left", "MB", "descriptors"
    );
    let crowd = Crowd::start(gateway.address, CALLERS, Some(capacity / 2.0));
    let began = Instant::now();
    let mut rows = Vec::new();
    while began.elapsed() < length {
        tokio::time::sleep(ROW.min(length)).await;
        let row = Row { kib: gateway.resident_kib() as f64, descriptors: gateway.descriptors() as f64 };
        let Seen { refused, broken, cut, left, .. } = crowd.seen();
        println!(
            "{:>8.0}{:>12}{refused:>10}{broken:>10}{cut:>12}{left:>10}{:>10.1}{:>14}",
            began.elapsed().as_secs_f64() / 60.0,
            crowd.seen().requests(),
            row.kib / 1024.0,
            row.descriptors
        );
        rows.push(row);
        // As a rotation by copying does; else the log would fill the disk.
        let _ = std::fs::OpenOptions::new().write(true).open(&log).and_then(|file| file.set_len(0));
    }
    let seen = crowd.stop().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!(
        "at rest before {:.1} MB and {} descriptors; without callers now {:.1} MB and {}",
        rest.0 as f64 / 1024.0,
        rest.1,
        gateway.resident_kib() as f64 / 1024.0,
        gateway.descriptors()
    );
    let least = |values: &mut [f64]| values.iter().copied().fold(f64::MAX, f64::min);
    let (kib, descriptors) = (growth(&rows, |row| row.kib, median), growth(&rows, |row| row.descriptors, least));
    println!("the last quarter beside the second: memory {kib:.3}, least descriptors {descriptors:.3} (at most {MORE})");
    println!(
        "{} requests: {} refused, {} broken before an answer, {} cut by a backend",
        seen.requests(),
        seen.refused,
        seen.broken,
        seen.cut
    );
    kib <= MORE && descriptors <= MORE && seen.refused == 0 && seen.broken == 0
}

/// The last quarter over the second.
fn growth(rows: &[Row], of: impl Fn(&Row) -> f64, all: impl Fn(&mut [f64]) -> f64) -> f64 {
    let quarter = rows.len() / 4;
    let one = |rows: &[Row]| all(&mut rows.iter().map(&of).collect::<Vec<_>>());
    match quarter {
        0 => 1.0,
        _ => one(&rows[rows.len() - quarter..]) / one(&rows[quarter..2 * quarter]),
    }
}
