//! What the simulator says of a ledger is what the gateway did that wrote it: a live gateway, with `spill = "ahead"`, waits and
//! batch, in front of the PTU of `spillway mock`; all of it on virtual time, so that minutes pass in seconds.

use std::path::Path;
use std::time::Duration;

use spillway_plugins::auth::digest;
use spillway_testkit::client;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::config::{Config, Secrets};
use crate::ledger::attempts::AttemptRows;
use crate::mock;
use crate::rehearse::idle;
use crate::simulate::outcome::Figures;
use crate::simulate::replay::replay;
use crate::simulate::scenario::Draft;
use crate::simulate::trace::ledger::LedgerTrace;
use crate::simulate::world::Assumptions;

/// Input tokens per second that the PTU takes, and how many of them an output token weighs.
const RATE: f64 = 10_000.0;
const OUTPUT_RATIO: f64 = 4.0;
/// Mean prompt, and tokens of an answer without a cap.
const PROMPT: f64 = 800.0;
const REPLY: u64 = 400;
/// Requests of the run. Their work is above what the PTU takes by a quarter.
const REQUESTS: usize = 1200;
const DEMAND: f64 = 1.25;
/// Dollars per million tokens elsewhere.
const PRICES: (f64, f64) = (1.25, 10.0);

/// Interactive, standard and batch: each second request, three of ten, and two of ten.
const CONSUMERS: [(&str, &str); 3] = [("web", "interactive"), ("crm", "standard"), ("night", "batch")];

fn config(mock: std::net::SocketAddr, folder: &Path) -> String {
    let consumers = CONSUMERS.map(|(name, class)| {
        format!("[[consumers]]\nname = \"{name}\"\nclass = \"{class}\"\nkeys = [{{ sha256 = \"{}\" }}]\n", digest(name.as_bytes()))
    });
    format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\nstate_dir = \"{folder}\"\n[log]\naccess = \"off\"\n\
         [[backends]]\nname = \"ptu\"\nkind = \"openai\"\nurl = \"http://{mock}\"\n\
         ptu = {{ m = {{ tokens_per_minute = {per_minute}, output_ratio = {OUTPUT_RATIO:.1} }} }}\nprices = {{ m = {{ usd_per_hour = 2.0 }} }}\n\
         [[backends]]\nname = \"paid\"\nkind = \"openai\"\nurl = \"http://{mock}\"\ndeployments = {{ m = \"standard\" }}\n\
         prices = {{ standard = {{ input = {input:?}, output = {output:?} }} }}\n\
         [[pools]]\nname = \"pool\"\nmodels = [\"m\"]\nspill = \"ahead\"\npatience = {{ standard = \"2s\", batch = \"20s\" }}\n\
         members = [{{ backend = \"ptu\", priority = 1 }}, {{ backend = \"paid\", priority = 2 }}]\n{consumers}",
        folder = folder.display(),
        per_minute = (RATE * 60.0) as u64,
        input = PRICES.0,
        output = PRICES.1,
        consumers = consumers.concat(),
    )
}

/// What became of the run, as its ledger says.
#[derive(Debug, Default)]
struct Real {
    requests: u64,
    spilled: u64,
    spilled_tokens: u64,
    paid_usd: f64,
    /// In seconds, of those that waited.
    waits: Vec<f64>,
}

impl Real {
    fn of(folder: &Path) -> Self {
        let mut rows = AttemptRows::new(folder, 0, i64::MAX >> 20, true).unwrap();
        let mut real = Real::default();
        while let Some(row) = rows.next_row().unwrap() {
            real.requests += 1;
            if row.kind.backend == "paid" {
                real.spilled += 1;
                real.spilled_tokens += row.usage.tokens();
                real.paid_usd += row.cost.unwrap() as f64 / 1e12;
            }
            real.waits.extend(row.waited_us.filter(|waited| *waited >= 1000).map(|waited| waited as f64 / 1e6));
        }
        real.waits.sort_by(f64::total_cmp);
        real
    }

    /// The wait that 95 % of all requests don't exceed.
    fn p95(&self) -> f64 {
        let none = self.requests as usize - self.waits.len();
        let wanted = (self.requests as f64 * 0.95).ceil() as usize;
        wanted.checked_sub(none + 1).map_or(0.0, |at| self.waits[at])
    }
}

/// Runs the gateway; its ledger is in `folder` then. Returns its config.
async fn live(clock: Clock, folder: &Path, seed: u64) -> String {
    let settings = format!(
        "listen = \"127.0.0.1:0\"\nseed = {seed}\nreply = \"{reply}\"\n[[deployments]]\nname = \"m\"\nfirst_token = \"500ms\"\nper_token = \"10ms\"\njitter = 0.3\n\
         ptu = {{ tokens_per_minute = {per_minute}, output_ratio = {OUTPUT_RATIO:.1} }}\n\
         [[deployments]]\nname = \"standard\"\nfirst_token = \"500ms\"\nper_token = \"10ms\"\njitter = 0.3\n",
        reply = "word".repeat(REPLY as usize),
        per_minute = (RATE * 60.0) as u64,
    );
    let settings = mock::settings::Settings::parse(&settings).unwrap();
    let (_mock, address, serving) = mock::server::start(settings, clock.clone()).await.unwrap();
    let text = config(address, folder);
    let parsed = Config::parse(&text, Path::new("c.toml"), &Secrets::default()).unwrap_or_else(|error| panic!("{error}"));
    let running = crate::server::start(&parsed, clock.clone()).await.unwrap();
    let mut rng = fastrand::Rng::with_seed(seed);
    let spread = |mean: f64, rng: &mut fastrand::Rng| -(1.0 - rng.f64()).ln() * mean;
    // With caps from 50 to 600, answers have 264 tokens in the mean.
    let per_second = DEMAND * RATE / (PROMPT + OUTPUT_RATIO * 264.0);
    let (began, mut at, mut asked) = (clock.now(), 0.0, JoinSet::new());
    for number in 0..REQUESTS {
        at += spread(1.0 / per_second, &mut rng);
        let prompt = spread(PROMPT, &mut rng).clamp(10.0, 8_000.0) as usize;
        let (cap, who) = (rng.u64(50..600), CONSUMERS[[0, 0, 0, 0, 0, 1, 1, 1, 2, 2][rng.usize(0..10)]].0);
        // Prompts that begin alike would be cached.
        let prompt = format!("{number:08}{}", "word".repeat(prompt));
        let body = serde_json::json!({ "model": "m", "max_tokens": cap, "messages": [{ "role": "user", "content": prompt }] }).to_string();
        let request = client::post("/v1/chat/completions", &[("api-key", who)], body.as_bytes());
        let (clock, to) = (clock.clone(), running.listen[0]);
        asked.spawn(async move {
            clock.sleep((began + Duration::from_secs_f64(at)).since(clock.now())).await;
            client::ask(to, request).await.unwrap().status
        });
    }
    for status in asked.join_all().await {
        assert_eq!(status, 200);
    }
    running.gateway.ledger.as_ref().unwrap().flush(Duration::from_secs(60)).await;
    serving.abort();
    text
}

/// Within 3 %.
fn assert_close(what: &str, simulated: f64, real: f64) {
    assert!((simulated - real).abs() <= 0.03 * real, "{what}: {simulated} simulated, {real} really");
}

fn compared(seed: u64) -> (Figures, Real) {
    let folder = tempfile::tempdir().unwrap();
    let text = idle::run(async |clock| live(clock, folder.path(), seed).await).unwrap();
    let scenario = Draft::new(Path::new("c.toml"), text, &[]).unwrap().scenario("c.toml").unwrap();
    let mut trace = LedgerTrace::new(folder.path(), 0, i64::MAX >> 20).unwrap();
    let (_, mut outcomes) = replay(&mut trace, vec![scenario], &Assumptions::default()).unwrap();
    (outcomes.remove(0).total, Real::of(folder.path()))
}

#[test]
fn a_live_run_that_spills_ahead_is_simulated_within_three_percent() {
    let (said, real) = compared(1);
    assert_eq!((real.requests, said.requests, said.refused), (REQUESTS as u64, REQUESTS as u64, 0));
    assert!(real.spilled > 200 && real.waits.len() > 100, "{real:?}");
    assert_close("spilled requests", said.spilled_requests as f64, real.spilled as f64);
    assert_close("spilled tokens", said.spilled_tokens as f64, real.spilled_tokens as f64);
    assert_close("cost", said.by_use_usd, real.paid_usd);
    assert_close("requests that waited", said.waited as f64, real.waits.len() as f64);
    assert_close("p95 of the waits", said.wait_p95_seconds, real.p95());
}
