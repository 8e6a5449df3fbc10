//! Simulates ways to steer a PTU, in virtual time, and writes what each of them costs into `docs/steering.md`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod call;
mod controller;
mod figures;
mod report;
mod scenario;
mod truth;
mod world;

use std::process::ExitCode;

/// Runs of each row if nothing is said.
const SEEDS: u64 = 40;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "that is what it is for")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| arguments.get(at).map_or(Ok(default), |text| text.parse());
    let (Ok(seeds), Ok(first)) = (number(0, SEEDS), number(1, 0)) else {
        eprintln!("usage: steering [RUNS [FIRST-SEED [PAGE]]]; docs/steering.md has 40 runs from seed 0 on");
        return ExitCode::from(2);
    };
    let text = report::report(&(first..first.saturating_add(seeds)));
    println!("{text}");
    let Some(page) = arguments.get(2) else { return ExitCode::SUCCESS };
    match report::write(page, &text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("steering: {page}: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests;
