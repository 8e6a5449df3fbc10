//! Counts what one request costs: instructions, allocations and clock reads by callgrind, system calls by strace.
//!
//! Counts don't depend on what else the machine does, so they show what a change did when times can't. They are not times:
//! valgrind counts a copy of n bytes as n instructions, and knows no caches.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::backend::{Backend, CHUNKS};
use crate::callers::{self, CONNECTIONS, Case};
use crate::features;
use crate::process::{Proxy, Variant};

/// Requests (or streams) on each connection before the count.
const WARM: usize = 10;

/// Requests (or streams) on each connection in the count: so many that opening the connections, about ten system calls each,
/// hardly counts.
fn counted(case: Case) -> usize {
    match case {
        Case::Stream => 40,
        Case::Plain { body, .. } if body > 100_000 => 200,
        _ => 1000,
    }
}

/// The functions of the allocator that a program calls.
const ALLOCATES: [&str; 5] = ["_rjem_malloc", "_rjem_mallocx", "_rjem_calloc", "_rjem_realloc", "_rjem_rallocx"];

/// What one request, or one chunk, costs.
#[derive(Default)]
struct Counts {
    instructions: f64,
    allocations: f64,
    clock_reads: f64,
    system_calls: f64,
}

/// Prints the table for both programs, and what a request costs with features that are off in it.
pub async fn tables(gateway: &Path, floor: &Path, backend: &Backend, cases: &[(&str, Case)]) {
    table(gateway, floor, backend, cases).await;
    println!("\n{:<24}{:>14}{:>14}{:>14}{:>14}", "gateway", "instructions", "system calls", "allocations", "clock reads");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = features::prompt_log(directory.path());
    for (name, rest) in [("1 KiB, all different", ""), ("exact cache, a miss", features::CACHE), ("prompt log, redacted", &log)] {
        let Counts { instructions, allocations, clock_reads, system_calls } =
            counts(Some((gateway, rest)), floor, backend, Case::Unique).await;
        println!("{name:<24}{instructions:>14.0}{system_calls:>14.2}{allocations:>14.1}{clock_reads:>14.1}");
    }
}

async fn table(gateway: &Path, floor: &Path, backend: &Backend, cases: &[(&str, Case)]) {
    let names = ["instructions", "system calls", "allocations", "clock reads"];
    println!("{:<18}{}", "floor / gateway", names.map(|name| format!("{name:>22}")).concat());
    for (name, case) in cases {
        let theirs = counts(None, floor, backend, *case).await;
        let ours = counts(Some((gateway, "")), floor, backend, *case).await;
        let pair = |theirs: f64, ours: f64, digits: usize| format!("{:>22}", format!("{theirs:.digits$} / {ours:.digits$}"));
        println!(
            "{name:<18}{}{}{}{}",
            pair(theirs.instructions, ours.instructions, 0),
            pair(theirs.system_calls, ours.system_calls, 2),
            pair(theirs.allocations, ours.allocations, 1),
            pair(theirs.clock_reads, ours.clock_reads, 1)
        );
    }
}

/// Counts for the gateway with these tables in its config, or for the floor if there is none.
async fn counts(gateway: Option<(&Path, &str)>, floor: &Path, backend: &Backend, case: Case) -> Counts {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("callgrind");
    let output = format!("--callgrind-out-file={}", file.display());
    let wrapper = ["valgrind", "--tool=callgrind", "--quiet", &output];
    let start = async |wrapper: &[&str]| match gateway {
        Some((program, rest)) => {
            let variant = Variant { rest, ..Variant::default() };
            Proxy::wrapped(wrapper, program, directory.path(), backend, variant).await
        }
        None => Proxy::wrapped_floor(wrapper, floor, backend).await,
    };
    let per = (counted(case) * CONNECTIONS * if matches!(case, Case::Stream) { CHUNKS } else { 1 }) as f64;
    let mut counts = Counts::default();
    let proxy = start(&wrapper).await;
    callers::run_count(&proxy, case, WARM).await;
    callgrind("--zero", proxy.id());
    callers::run_count(&proxy, case, counted(case)).await;
    callgrind("--dump", proxy.id());
    drop(proxy);
    let dump = file.with_extension("1");
    let text = std::fs::read_to_string(&dump).or_else(|_| std::fs::read_to_string(&file)).expect("callgrind's dump");
    read(&text, &mut counts, per);
    let proxy = start(&[]).await;
    callers::run_count(&proxy, case, WARM).await;
    let summary = directory.path().join("strace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-U", "calls,name", "-o"]).arg(&summary).args(["-p", &proxy.id().to_string()]);
    let mut tracing = strace.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("strace is installed");
    tokio::time::sleep(Duration::from_millis(500)).await;
    callers::run_count(&proxy, case, counted(case)).await;
    let _ = Command::new("kill").args(["-INT", &tracing.id().to_string()]).status();
    let _ = tracing.wait();
    let text = std::fs::read_to_string(&summary).unwrap_or_default();
    let calls: f64 =
        text.lines().filter(|line| !line.contains("total")).filter_map(|line| line.split_whitespace().next()?.parse::<f64>().ok()).sum();
    counts.system_calls = calls / per;
    counts
}

/// Tells a process that callgrind runs to do something with its counts.
pub fn callgrind(what: &str, process: u32) {
    let done = Command::new("callgrind_control").args([what, &process.to_string()]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(done.is_ok_and(|status| status.success()), "callgrind_control {what}");
}

/// Reads a file of callgrind's (its manual, "Callgrind Format Specification").
fn read(text: &str, counts: &mut Counts, per: f64) {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut called = "";
    for line in text.lines() {
        if let Some(total) = line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: ")) {
            counts.instructions = total.trim().parse::<f64>().unwrap_or(0.0) / per;
        } else if let Some(name) = line.strip_prefix("fn=").or_else(|| line.strip_prefix("cfn=")) {
            let (id, name) = name.split_once(' ').unwrap_or((name, ""));
            if !name.is_empty() {
                names.insert(id, name);
            }
            called = names.get(id).copied().unwrap_or("");
        } else if let Some(calls) = line.strip_prefix("calls=") {
            let calls = calls.split(' ').next().and_then(|calls| calls.parse::<f64>().ok()).unwrap_or(0.0) / per;
            if ALLOCATES.contains(&called) {
                counts.allocations += calls;
            } else if called.starts_with("clock_gettime") {
                counts.clock_reads += calls;
            }
        }
    }
}
