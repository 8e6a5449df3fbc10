//! The examples of `docs/capacity.md`: what they print stands there. With `SPILLWAY_WRITE_DOCS` set, it is written there.

use std::path::PathBuf;
use std::time::Duration;

use fastrand::Rng;
use spillway_plugins::limits::Class;
use spillway_plugins::tokens::Usage;

use super::{Made, START};
use crate::simulate::replay::replay;
use crate::simulate::report;
use crate::simulate::request::Request;
use crate::simulate::scenario::{Draft, Scenario};
use crate::simulate::world::Assumptions;

/// Seconds.
const NOON: f64 = 43_200.0;

const CONFIG: &str = "
[server]
listen = [\"127.0.0.1:0\"]
[[backends]]
name = \"ptu-sweden\"
kind = \"openai\"
url = \"http://127.0.0.1:1\"
ptu = { \"gpt-4.1\" = { units = 200 } }
prices = { \"gpt-4.1\" = { usd_per_hour = 60.0 } }
[[backends]]
name = \"paid-sweden\"
kind = \"openai\"
url = \"http://127.0.0.1:2\"
[[pools]]
name = \"chat\"
models = [\"gpt-4.1\"]
members = [{ backend = \"ptu-sweden\", priority = 1 }, { backend = \"paid-sweden\", priority = 2 }]
";

/// An afternoon with a peak at two: chats with short prompts, agents whose long prompts are mostly cached, and some batch
/// work.
fn afternoon() -> Vec<Request> {
    let mut rng = Rng::with_seed(7);
    let mut requests = Vec::new();
    let mut seconds = 0.0;
    loop {
        let rate = 2.5 + 2.5 * (-((seconds - 7_200.0) / 2_400.0_f64).powi(2)).exp();
        seconds += -(1.0 - rng.f64()).ln() / rate;
        if seconds >= 10_800.0 {
            return requests;
        }
        let (input, cached, output, cap, class) = match rng.u32(0..10) {
            0..6 => (rng.u64(300..1_500), 0, rng.u64(50..400), 800, Class::Interactive),
            6..9 => (rng.u64(6_000..20_000), 9, rng.u64(100..600), 1_500, Class::Standard),
            _ => (rng.u64(2_000..6_000), 0, rng.u64(200..800), 1_000, Class::Batch),
        };
        requests.push(Request {
            at: START + Duration::from_secs_f64(NOON + seconds),
            class: Some(class),
            usage: Usage { input, cached_input: input * cached / 12, output, ..Usage::default() },
            cap: Some(cap),
            took: None,
            ..super::request(0.0)
        });
    }
}

fn draft(changes: &[&str]) -> Draft {
    let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
    Draft::new(&PathBuf::from("spillway.toml"), CONFIG.to_owned(), &changes).unwrap()
}

fn documented(command: &str, scenarios: Vec<Scenario>, with_difference: bool) {
    let (traffic, outcomes) =
        replay(&mut Made { requests: afternoon().into_iter(), names: vec!["gpt-4.1"] }, scenarios, &Assumptions::default()).unwrap();
    let said = report::text(&traffic, &outcomes, false, with_difference);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/capacity.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let start = page.find(&format!("$ {command}\n")).unwrap_or_else(|| panic!("{command} is not in {}", path.display()));
    let (before, rest) = page.split_at(start + command.len() + 3);
    let end = rest.find("```").unwrap();
    if std::env::var_os("SPILLWAY_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{said}{}", &rest[end..])).unwrap();
    } else {
        assert_eq!(&rest[..end], said, "write it with SPILLWAY_WRITE_DOCS=1");
    }
}

#[test]
fn the_documented_runs_print_this() {
    let units = [100, 200, 300].map(|units| draft(&[]).with_units(None, units).unwrap().scenario(&format!("{units} PTU")).unwrap());
    documented("spillway simulate -c today.toml --csv afternoon.csv --ptu 100,200,300", units.into(), false);
    let changes = ["pools.chat.spill=ahead", "pools.chat.prefer=savings"];
    let both = vec![draft(&[]).scenario("today.toml").unwrap(), draft(&changes).scenario("savings.toml").unwrap()];
    documented("spillway simulate -c today.toml --csv afternoon.csv --compare savings.toml", both, true);
}
