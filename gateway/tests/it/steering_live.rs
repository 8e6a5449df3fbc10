//! Two gateways, a real Redis, and the PTU of `spillway mock`, in real time: `make steering-live`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use spillway_testkit::client;

use crate::support::*;

/// How much faster everything is than in the tables of docs/steering.md: rates and depth are scaled, Redis is not.
const FASTER: f64 = 3.0;
/// What the config says of 300 units of gpt-5.1, in input tokens per second.
const RATE: f64 = 23_750.0 * FASTER;
/// What the PTU really takes of that.
const OFF: f64 = 0.9;
/// Demand, as a share of what the PTU really takes.
const DEMAND: f64 = 1.3;
/// The share of attempts that may be refused, beside what differs by chance.
const REFUSALS: f64 = 0.005;
/// How long the gateways learn, and how long it is counted.
const LEARN: Duration = Duration::from_secs(100);
const COUNT: Duration = Duration::from_secs(200);
/// Tokens of an answer, and how many input tokens each weighs.
const OUTPUT: f64 = 400.0;
const OUTPUT_RATIO: f64 = 8.0;

/// Words of about four letters, as many tokens.
fn text(tokens: u64) -> String {
    "word".repeat(usize::try_from(tokens).unwrap())
}

/// What went to the PTU and was answered: calls, and input tokens of work.
#[derive(Default)]
struct Served {
    calls: AtomicU64,
    work: AtomicU64,
    elsewhere: AtomicU64,
}

async fn call(address: std::net::SocketAddr, prompt: u64, unique: u64, served: Arc<Served>) {
    // Prompts that begin alike would be cached.
    let prompt = format!("{unique:016x}{}", text(prompt));
    let body = json!({ "model": "gpt-5.1", "max_tokens": 1000, "messages": [{ "role": "user", "content": prompt }] }).to_string();
    let request = client::post("/v1/chat/completions", &[], body.as_bytes());
    let Ok(answer) = client::ask(address, request).await else { panic!("a call failed") };
    assert_eq!(answer.status, 200, "{}", answer.text());
    if answer.header("x-spillway-backend") != Some("ptu") {
        served.elsewhere.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let usage = &answer.json()["usage"];
    let count = |value: &Value| value.as_u64().unwrap();
    let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0);
    let work = count(&usage["prompt_tokens"]) - cached + OUTPUT_RATIO as u64 * count(&usage["completion_tokens"]);
    served.calls.fetch_add(1, Ordering::Relaxed);
    served.work.fetch_add(work, Ordering::Relaxed);
}

/// Sends calls at random times to both nodes for so long.
async fn demand(nodes: [std::net::SocketAddr; 2], time: Duration, served: &Arc<Served>, rng: &mut fastrand::Rng) {
    let mean = 2_000.0;
    let per_second = DEMAND * RATE * OFF / (mean + OUTPUT_RATIO * OUTPUT);
    let mut at = tokio::time::Instant::now();
    let end = at + time;
    while at < end {
        at += Duration::from_secs_f64(-(1.0 - rng.f64()).ln() / per_second);
        tokio::time::sleep_until(at).await;
        let prompt = (-(1.0 - rng.f64()).ln() * mean).clamp(20.0, 20_000.0) as u64;
        tokio::spawn(call(nodes[rng.usize(0..2)], prompt, rng.u64(..), Arc::clone(served)));
    }
}

/// Attempts at the PTU and those that it refused, by both gateways.
async fn attempts(gateways: [&Gateway; 2]) -> (f64, f64) {
    let (mut sent, mut refused) = (0.0, 0.0);
    for gateway in gateways {
        for decision in ["fits", "probe"] {
            let labels = format!("{{backend=\"ptu\",class=\"standard\",decision=\"{decision}\",deployment=\"gpt-5.1\"}}");
            sent += gateway.metric(&format!("spillway_ptu_decisions_total{labels}")).await;
        }
        for provoked in ["true", "false"] {
            let labels = format!("{{backend=\"ptu\",deployment=\"gpt-5.1\",provoked=\"{provoked}\"}}");
            refused += gateway.metric(&format!("spillway_ptu_refusals_total{labels}")).await;
        }
    }
    (sent, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "what it measured is wanted even if it passes")]
#[ignore = "takes five minutes of real time: make steering-live"]
async fn two_gateways_keep_the_imitated_ptu_full_with_few_refusals() {
    let (per_minute, depth) = ((RATE * 60.0) as u64, 10.0 / FASTER);
    let (first, each) = (500.0 / FASTER, 10.0 / FASTER);
    let settings = format!(
        "listen = \"127.0.0.1:0\"\nseed = 1\nreply = \"{reply}\"\n[[deployments]]\nname = \"gpt-5.1\"\nfirst_token = \"{first:.0}ms\"\nper_token = \"{each:.0}ms\"\njitter = 0.3\n\
         ptu = {{ tokens_per_minute = {per_minute}, output_ratio = {OUTPUT_RATIO}, depth = \"{depth_ms:.0}ms\", reserve = 0.5, off = {OFF} }}\n[[deployments]]\nname = \"standard\"\n",
        reply = text(OUTPUT as u64),
        depth_ms = depth * 1000.0,
    );
    let settings = spillway::mock::settings::Settings::parse(&settings).unwrap();
    let (_mock, mock, _task) = spillway::mock::server::start(settings, spillway::clock::Clock::new()).await.unwrap();
    let redis = RedisServer::start(None);
    let config = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\nallow_literal_secrets = true\n\
         [log]\naccess = \"off\"\n[redis]\nurl = \"redis://:CANARY-redis@127.0.0.1:{port}\"\n\
         [[backends]]\nname = \"ptu\"\nkind = \"openai\"\nurl = \"http://{mock}\"\n\
         ptu = {{ \"gpt-5.1\" = {{ tokens_per_minute = {per_minute}, output_ratio = {OUTPUT_RATIO}, depth = \"{depth_ms:.0}ms\" }} }}\n\
         [[backends]]\nname = \"paid\"\nkind = \"openai\"\nurl = \"http://{mock}\"\ndeployments = {{ \"gpt-5.1\" = \"standard\" }}\n\
         [[pools]]\nname = \"pool\"\nmodels = [\"gpt-5.1\"]\nspill = \"ahead\"\npatience = {{ standard = \"0s\" }}\n\
         members = [{{ backend = \"ptu\", priority = 1 }}, {{ backend = \"paid\", priority = 2 }}]\n\
         [plugins.auth]\nrequired = false\n",
        port = redis.port,
        depth_ms = depth * 1000.0,
    );
    let (one, two) = (Gateway::start(&config).await, Gateway::start(&config).await);
    let (nodes, mut rng) = ([one.address, two.address], fastrand::Rng::with_seed(1));
    demand(nodes, LEARN, &Arc::default(), &mut rng).await;
    let (sent, refused) = attempts([&one, &two]).await;
    let served = Arc::new(Served::default());
    demand(nodes, COUNT, &served, &mut rng).await;
    let (sent_later, refused_later) = attempts([&one, &two]).await;
    let refusals = (refused_later - refused) / (sent_later - sent);
    // Calls that began before are still answered, and those that are under way at the end are not: both are alike many.
    let busy = served.work.load(Ordering::Relaxed) as f64 / (RATE * OFF * COUNT.as_secs_f64());
    let (at_ptu, elsewhere) = (served.calls.load(Ordering::Relaxed), served.elsewhere.load(Ordering::Relaxed));
    println!("busy {:.1} %, refused {:.2} %; {at_ptu} calls at the PTU, {elsewhere} elsewhere", 100.0 * busy, 100.0 * refusals);
    assert!(busy >= 0.97, "{busy} busy");
    // Some twelve refusals are expected: as many as that differ by chance are no fault.
    let chance = 2.0 * (REFUSALS / (sent_later - sent)).sqrt();
    assert!(refusals <= REFUSALS + chance, "{refusals} refused");
}
