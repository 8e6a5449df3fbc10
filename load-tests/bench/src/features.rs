//! What features cost that are off in the other rows.

use std::path::Path;
use std::time::Duration;

use crate::backend::Backend;
use crate::callers::Case;
use crate::process::{Proxy, Variant};
use crate::{Awake, TURNS, Turns, median};

/// An exact cache.
pub const CACHE: &str = "\n[plugins.cache]\nexact = {}\n";
/// Rules of the guard that nothing in the benchmark breaks.
const GUARD: &str = "\n[plugins.guard]\nwords = [\"project heron\"]\npatterns = { \"case-number\" = '\\bCN-[0-9]{6}\\b' }\n";

/// A prompt log in this folder, redacted.
pub fn prompt_log(directory: &Path) -> String {
    let path = directory.join("prompts.jsonl");
    format!("\n[plugins.prompt_log]\nenabled = true\npath = \"{}\"\nlevel = \"redacted\"\n", path.display())
}

/// Prints what each adds to a 1 KiB request, as a share of what the request costs without it; those whose names contain
/// `wanted`.
pub async fn costs(program: &Path, directory: &Path, backend: &Backend, turn: Duration, wanted: &str) {
    let _awake = Awake::start();
    let log = prompt_log(directory);
    // The collector is the backend: it answers everything.
    let traces = |sample: f64| format!("\n[traces]\notlp = {{ url = \"http://{}\" }}\nsample = {sample:?}\n", backend.second);
    let rows = [
        ("exact cache, a miss", CACHE.to_owned(), 0.10),
        ("prompt log, redacted", log, 0.10),
        ("traces, 1 of 100", traces(0.01), 0.10),
        ("traces, all", traces(1.0), f64::NAN),
        ("guard of prompts", GUARD.to_owned(), f64::NAN),
    ];
    for (number, (name, rest, budget)) in rows.iter().enumerate().filter(|(_, (name, _, _))| name.contains(wanted)) {
        let mut with =
            Proxy::of(program, directory, backend, Variant { name: &format!("feature-{number}"), rest, ..Variant::default() }).await;
        let plain = Variant { name: &format!("plain-{number}"), ..Variant::default() };
        let mut without = Proxy::of(program, directory, backend, plain).await;
        let mut turns = Turns::new(&mut with, &mut without, Case::Unique).await;
        let mut more = Vec::new();
        for _ in 0..TURNS {
            let (with, without) = turns.take(turn).await;
            more.push((with / without - 1.0) * 100.0);
        }
        let of = if budget.is_nan() { String::new() } else { format!(" (budget {:.0})", budget * 100.0) };
        println!("{name:<32}{:>+8.0} % of a 1 KiB request{of}", median(&mut more));
    }
}
