//! Runs the gateway and the floor proxy side by side, each pinned to one core, and prints what
//! they cost: ratios, not absolute times.
//!
//! `bench --profile GATEWAY FLOOR` counts instructions and system calls instead.
//! `bench --link-order GATEWAY` prints the functions that are called at a start and while it serves.
//! `bench --soak GATEWAY SECONDS` lets the gateway run for long with backends that fail.
//! `bench GATEWAY FLOOR [SECONDS [ROWS]]` with the paths of the two programs, for the rows whose names contain ROWS. Both are driven by the same
//! callers against the same backends, in slices that alternate, for several turns; what is compared is
//! the processor time that the operating system booked on each.

#![allow(clippy::disallowed_methods)] // measuring is what it does

mod auth;
mod backend;
mod callers;
mod certificates;
mod choice;
mod consumer_key;
mod content;
mod features;
mod frontier;
mod link_order;
mod metering;
mod nodes;
mod others;
mod process;
mod profile;
mod scale;
mod soak;
mod tls;

use std::path::{Path, PathBuf};
use std::time::Duration;

use backend::Backend;
use callers::{Callers, Case};
use process::{Proxy, Variant};
use spillway::balance::policy::Policy;

/// Turns that each proxy gets per case; the median counts.
const TURNS: usize = 10;
/// Pairs of gateways, with ledger and limits and without, whose costs are compared.
const PAIRS: usize = 6;

const CASES: [(&str, Case, f64); 5] = [
    ("1 KiB", Case::Plain { body: 1 << 10, refuse: false }, 0.85),
    ("16 KiB", Case::Plain { body: 16 << 10, refuse: false }, 0.75),
    ("1 MB", Case::Plain { body: 1_000_000, refuse: false }, 0.8),
    ("1 KiB, 429 first", Case::Plain { body: 1 << 10, refuse: true }, 0.65),
    ("SSE, per chunk", Case::Stream, 0.75),
];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, gateway, floor] = arguments.as_slice()
        && first == "--profile"
    {
        process::pin_myself();
        let backend = Backend::start().await;
        let cases = CASES.map(|(name, case, _)| (name, case));
        return profile::tables(Path::new(gateway), Path::new(floor), &backend, &cases).await;
    }
    if let [first, gateway] = arguments.as_slice()
        && first == "--link-order"
    {
        process::pin_myself();
        return link_order::print(Path::new(gateway)).await;
    }
    if let [first, gateway, seconds] = arguments.as_slice()
        && first == "--soak"
    {
        process::pin_myself();
        let seconds = seconds.parse().unwrap_or_else(|_| panic!("'{seconds}' is no number of seconds"));
        let held = soak::run(Path::new(gateway), Duration::from_secs(seconds)).await;
        println!("{}", if held { "all of it holds" } else { "something doesn't hold" });
        std::process::exit(i32::from(!held));
    }
    let [gateway, floor, rest @ ..] = arguments.as_slice() else { panic!("usage: bench GATEWAY FLOOR [SECONDS [ROWS]]") };
    let turn = Duration::from_secs_f64(rest.first().and_then(|text| text.parse().ok()).unwrap_or(1.0));
    process::pin_myself();
    let machine = Machine { program: PathBuf::from(gateway), bare: PathBuf::from(floor), backend: Backend::start().await, turn };
    // The last argument picks the rows whose names contain it.
    let missed = rows(&machine, rest.get(1).map_or("", String::as_str)).await;
    println!("\n{}", if missed == 0 { "every budget is met".to_owned() } else { format!("{missed} budgets are missed") });
}

/// What is measured, and for how long at a time.
struct Machine {
    program: PathBuf,
    bare: PathBuf,
    backend: Backend,
    turn: Duration,
}

/// Prints the rows whose names contain `wanted`. Returns how many ratios to the floor are missed.
async fn rows(machine: &Machine, wanted: &str) -> usize {
    let Machine { program, bare, backend, turn } = machine;
    let turn = *turn;
    let wants = |names: &[&str]| names.iter().any(|name| name.contains(wanted));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let directory = directory.path();
    let mut gateway = Proxy::gateway(program, directory, backend, true).await;
    let mut floor = Proxy::floor(bare, backend).await;
    println!("{:<20}{:>12}{:>12}{:>8}{:>12}{:>9}", "", "gateway µs", "floor µs", "ratio", "spread", "budget");
    let at_rest = gateway.resident_mb();
    let mut missed = 0;
    for (name, case, budget) in CASES.into_iter().filter(|(name, _, _)| wants(&[name])) {
        missed += usize::from(compare(name, &mut gateway, &mut floor, case, turn, budget).await);
    }
    if wants(&["1 KiB, no fast path"]) {
        let slow = Variant { name: "pingora", fast_path: false, ..Variant::default() };
        let mut pingora = Proxy::of(program, directory, backend, slow).await;
        missed += usize::from(compare("1 KiB, no fast path", &mut pingora, &mut floor, CASES[0].1, turn, 1.05).await);
    }
    missed += tls::costs(program, bare, directory, turn, wanted).await;
    if wants(&["limits and ledger, a request"]) {
        let metered = metering_costs(program, backend, turn / 8).await;
        println!("{:<32}{metered:>8.1} µs (budget 4)", "limits and ledger, a request");
    }
    if wants(&["parts"]) {
        parts(&mut gateway, turn).await;
    }
    if wants(&["an answer from the cache"]) {
        let cache = Variant { name: "keeping", rest: features::CACHE, ..Variant::default() };
        let mut keeping = Proxy::of(program, directory, backend, cache).await;
        let hit = hit_costs(&mut keeping, &mut floor, turn).await;
        println!("{:<32}{hit:>8.2} of the floor's (budget 1.0)", "an answer from the cache");
    }
    if wants(&["p50"]) {
        latency(&mut gateway, &mut floor).await;
    }
    features::costs(program, directory, backend, turn, wanted).await;
    scale::costs(program, directory, backend, turn, wanted).await;
    if wants(&["two nodes"]) {
        nodes::costs(program, directory, backend, turn).await;
    }
    if wants(&["frontier"]) {
        frontier::table(&mut [("gateway", &mut gateway), ("floor", &mut floor)], turn).await;
    }
    if wants(&["others"]) {
        others::costs(directory, backend, &mut floor, turn).await;
    }
    if wants(&["memory"]) {
        memory(machine, directory, at_rest).await;
    }
    missed
}

/// Prints what single parts take by themselves.
async fn parts(gateway: &mut Proxy, turn: Duration) {
    println!("{:<32}{:>8.0} ns (budget 2000)", "admitting and settling", metering::admission());
    let [two, four] = [2, 4].map(metering::of_users);
    println!("{:<32}{:>8.0} ns more than the {two:.0} ns in two (budget 1000)", "10,000 users, four nodes deep", four - two);
    let per_chunk = cost(gateway, Case::Stream, turn).await;
    let tap = metering::tap(backend::WORD.as_bytes());
    println!("{:<32}{tap:>8.0} ns, {:.1} % of a chunk (budget 10)", "reading a chunk", tap / per_chunk / 10.0);
    println!("{:<32}{:>8.0} µs (budget 2000)", "100,000 similar questions", content::search());
    println!("{:<32}{:>8.0} a second (budget 10000)", "records of the prompt log", content::records().await);
    for (name, policy) in Policy::NAMES {
        println!("{:<32}{:>8.0} ns (budget 1000)", format!("choice of 100, {name}"), choice::nanos(policy));
    }
    println!("{:<32}{:>8.0} ns more (budget 1000)", "choice of 100, PTU ahead", choice::steered_nanos_more(Policy::Weighted));
    for keys in [10, 10_000] {
        println!("{:<32}{:>8.0} ns (budget 2000)", format!("a caller's key, of {keys}"), auth::key(keys));
    }
    let (unknown, expired) = auth::refused();
    println!("{:<32}{unknown:>8.0} ns, and {expired:.0} ns for one that has expired", "a key that is not known");
    let (known, new) = auth::token();
    println!("{:<32}{known:>8.0} ns (budget 15000; seen for the first time {new:.0})", "a caller's token");
}

/// Prints what a case costs with both, with the spread of the ratios. Returns whether the budget is missed.
async fn compare(name: &str, gateway: &mut Proxy, floor: &mut Proxy, case: Case, turn: Duration, budget: f64) -> bool {
    let mut turns = Turns::new(gateway, floor, case).await;
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let (a, b) = turns.take(turn).await;
        ours.push(a);
        theirs.push(b);
        ratios.push(a / b);
    }
    let ratio = median(&mut ratios);
    let (least, most) = (ratios.iter().copied().fold(f64::MAX, f64::min), ratios.iter().copied().fold(0.0, f64::max));
    let mark = if ratio > budget { "!" } else { "" };
    let spread = format!("{least:.2}–{most:.2}");
    println!("{name:<20}{:>12.1}{:>12.1}{ratio:>8.2}{spread:>12}{budget:>8.2} {mark}", median(&mut ours), median(&mut theirs));
    ratio > budget
}

/// Two proxies that take turns with one case.
///
/// What the machine does to one it must do to the other: a virtual machine's neighbours come and go within a second.
/// So a turn has many slices, and the proxies alternate in them (ABBA). What a proxy does in the other's slices, such
/// as writing its ledger, counts as its own.
struct Turns<'a> {
    proxies: [&'a mut Proxy; 2],
    callers: [Callers; 2],
}

/// How long one proxy has the machine for itself.
const SLICE: Duration = Duration::from_millis(50);

impl<'a> Turns<'a> {
    /// Warms both up: connections, allocators, branch predictors.
    async fn new(first: &'a mut Proxy, second: &'a mut Proxy, case: Case) -> Self {
        Self::of_cases(first, second, [case; 2]).await
    }

    /// The same, each with a case of its own.
    async fn of_cases(first: &'a mut Proxy, second: &'a mut Proxy, [one, other]: [Case; 2]) -> Self {
        let mut callers = [Callers::new(first, one).await, Callers::new(second, other).await];
        for callers in &mut callers {
            callers.run(Duration::from_millis(300)).await;
        }
        Turns { proxies: [first, second], callers }
    }

    /// One turn of this length for each. Returns the microseconds of processor time per request (or chunk).
    async fn take(&mut self, turn: Duration) -> (f64, f64) {
        let before = self.proxies.each_mut().map(|proxy| proxy.cpu_micros());
        let mut done = [0; 2];
        let pairs = (turn.as_nanos() / (2 * SLICE.as_nanos())).max(1);
        for _ in 0..pairs {
            for of in [0, 1, 1, 0] {
                done[of] += self.callers[of].run(SLICE).await;
            }
        }
        let [ours, theirs] = [0, 1].map(|of| (self.proxies[of].cpu_micros() - before[of]) as f64 / done[of].max(1) as f64);
        (ours, theirs)
    }
}

/// While it lives, callers and backends never sleep. Waking them costs the proxy the more the longer they have slept,
/// which is the longer the slower it is: of what a feature adds, that would be the larger part.
struct Awake(tokio::task::JoinHandle<()>);

impl Awake {
    fn start() -> Self {
        Awake(tokio::spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        }))
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Microseconds of processor time that limits and ledger add to a request.
///
/// It is a small difference of two large numbers. So there are many turns, and several pairs of processes, because
/// where things lie in memory differs from start to start by as much.
async fn metering_costs(program: &Path, backend: &Backend, turn: Duration) -> f64 {
    let case = Case::Plain { body: 1 << 10, refuse: false };
    let _awake = Awake::start();
    let mut more = Vec::new();
    for _ in 0..PAIRS {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut metered = Proxy::gateway(program, directory.path(), backend, true).await;
        let mut unmetered = Proxy::gateway(program, directory.path(), backend, false).await;
        let mut turns = Turns::new(&mut metered, &mut unmetered, case).await;
        for _ in 0..15 {
            let (with, without) = turns.take(turn).await;
            more.push(with - without);
        }
    }
    median(&mut more)
}

/// What an answer from the cache costs, as a share of what the floor takes to ask for it.
async fn hit_costs(keeping: &mut Proxy, floor: &mut Proxy, turn: Duration) -> f64 {
    let case = Case::Plain { body: 1 << 10, refuse: false };
    let mut turns = Turns::new(keeping, floor, case).await;
    let mut ratios = Vec::new();
    for _ in 0..TURNS {
        let (ours, theirs) = turns.take(turn).await;
        ratios.push(ours / theirs);
    }
    median(&mut ratios)
}

/// Microseconds of processor time per request (or chunk).
async fn cost(proxy: &mut Proxy, case: Case, time: Duration) -> f64 {
    let before = proxy.cpu_micros();
    let done = Callers::new(proxy, case).await.run(time).await;
    (proxy.cpu_micros() - before) as f64 / done.max(1) as f64
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What a request waits longer through the gateway than through the floor, one at a time.
async fn latency(gateway: &mut Proxy, floor: &mut Proxy) {
    let mut added = Vec::new();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let a = callers::median_micros(gateway.address, 3000).await;
        let b = callers::median_micros(floor.address, 3000).await;
        added.push(a - b);
        ours.push(a);
        theirs.push(b);
    }
    println!(
        "{:<18}{:>12.1}{:>12.1}{:>+8.1}{:>8.0} µs more",
        "p50, 1 KiB",
        median(&mut ours),
        median(&mut theirs),
        median(&mut added),
        15.0
    );
    let first = callers::first_chunk_micros(gateway.address, 200).await - callers::first_chunk_micros(floor.address, 200).await;
    println!("{:<18}{:>32}{:>8.0} µs more", "first chunk", format!("{first:+.1}"), 1000.0);
}

/// Prints what memory is taken for what. Each row has processes of its own: what one has given back, another would use again.
async fn memory(machine: &Machine, directory: &Path, at_rest: f64) {
    let Machine { program, bare, backend, .. } = machine;
    let of = |name| Proxy::of(program, directory, backend, Variant { name, ..Variant::default() });
    let ours = per_idle(&mut of("idle").await).await;
    let theirs = per_idle(&mut Proxy::floor(bare, backend).await).await;
    println!("\n{:<32}{ours:>8.1} KB (budget 12; floor {theirs:.1})", "memory per idle connection");
    let ours = per_stream(&mut of("streams").await).await;
    let theirs = per_stream(&mut Proxy::floor(bare, backend).await).await;
    println!("{:<32}{ours:>8.1} KB (budget 25; floor {theirs:.1})", "memory per open stream");
    let mut gateway = of("burst").await;
    let started = gateway.resident_mb();
    // Code that the first requests bring in stays.
    Callers::new(&gateway, Case::Plain { body: 1 << 10, refuse: false }).await.run(Duration::from_secs(1)).await;
    tokio::time::sleep(GIVEN_BACK).await;
    let before = gateway.resident_mb();
    Callers::new(&gateway, Case::Plain { body: 120_000, refuse: false }).await.run(Duration::from_secs(1)).await;
    drop(callers::hold_streams(gateway.address, 1000).await);
    let after = gateway.resident_mb();
    tokio::time::sleep(Duration::from_secs(120)).await;
    let later = gateway.resident_mb();
    println!("{:<32}{at_rest:>8.1} MB (budget 16)", "memory at rest");
    println!(
        "{:<32}{later:>8.1} MB (budget {:.1}): {started:.1} after the start, {before:.1} after 1 KiB requests, {after:.1} after bodies of 120 KB and 1,000 streams",
        "two minutes after a burst",
        before * 1.1
    );
}

/// How long it takes until the allocator has given back what isn't used.
const GIVEN_BACK: Duration = Duration::from_secs(20);

/// KB that a connection takes which had a request and waits for the next one.
async fn per_idle(proxy: &mut Proxy) -> f64 {
    const CONNECTIONS: usize = 2000;
    // The first ones bring memory into use that is given back and used again.
    drop(callers::hold_idle(proxy.address, CONNECTIONS / 4).await);
    tokio::time::sleep(GIVEN_BACK).await;
    let before = proxy.resident_kib();
    let held = callers::hold_idle(proxy.address, CONNECTIONS).await;
    tokio::time::sleep(GIVEN_BACK).await;
    let during = proxy.resident_kib();
    drop(held);
    during.saturating_sub(before) as f64 / CONNECTIONS as f64
}

/// KB that an open stream takes.
async fn per_stream(proxy: &mut Proxy) -> f64 {
    const STREAMS: usize = 1000;
    drop(callers::hold_streams(proxy.address, STREAMS / 4).await);
    tokio::time::sleep(GIVEN_BACK).await;
    let before = proxy.resident_kib();
    let held = callers::hold_streams(proxy.address, STREAMS).await;
    tokio::time::sleep(GIVEN_BACK).await;
    let during = proxy.resident_kib();
    drop(held);
    during.saturating_sub(before) as f64 / STREAMS as f64
}
