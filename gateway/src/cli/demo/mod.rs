//! `spillway demo`: a PTU fills up and its overflow goes to pay-as-you-go, in one process and without an account.

mod picture;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use parking_lot::Mutex;
use picture::{Run, Second};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::clock::Clock;
use crate::config::{Config, Secrets};
use crate::mock::server::{self as mock_server, Mock};
use crate::mock::settings::Settings;
use crate::server;

/// The three mocks: name, settings.
const MOCKS: [(&str, &str); 3] = [
    ("ptu-sweden", "[default]\nptu = 12000\nfirst_token = \"60ms\"\nper_token = \"2ms\"\njitter = 0.2"),
    ("payg-sweden", "[default]\ntpm = 60000\nfirst_token = \"90ms\"\nper_token = \"3ms\"\njitter = 0.3"),
    ("payg-france", "[default]\ntpm = 200000\nfirst_token = \"110ms\"\nper_token = \"3ms\"\njitter = 0.3"),
];

/// Requests per second, for how many seconds, and what it shows.
const ACTS: [(u64, u64, &str); 3] = [
    (3, 4, "a quiet morning: the PTU serves everything"),
    (20, 9, "everybody is at work: the PTU is full, the overflow goes to pay-as-you-go"),
    (3, 6, "quiet again: the PTU drains, and traffic returns to it"),
];

#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    /// Also draw the run into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

#[derive(Default)]
struct Tally {
    by_backend: Mutex<Vec<(String, u64)>>,
    visible_429: AtomicU64,
    other: AtomicU64,
}

pub(super) fn run(arguments: &DemoArguments) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            errln!("spillway demo: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(show(arguments.picture.as_deref())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            errln!("spillway demo: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn show(picture: Option<&Path>) -> Result<bool, String> {
    let mut mocks: Vec<(&str, Arc<Mock>, SocketAddr)> = Vec::new();
    for (name, text) in MOCKS {
        let settings = Settings::parse(&format!("name = \"{name}\"\nlisten = \"127.0.0.1:0\"\n{text}"))?;
        let (mock, address, _task) = mock_server::start(settings, Clock::new()).await.map_err(|error| error.to_string())?;
        mocks.push((name, mock, address));
    }
    let text = config(&mocks);
    let config = Config::parse(&text, Path::new("demo.toml"), &Secrets::default()).map_err(|error| error.to_string())?;
    let running = server::start(&config, Clock::new()).await.map_err(|error| error.to_string())?;
    let address = running.listen.first().copied().ok_or("no listener")?;
    outln!("The gateway listens on http://{address}, metrics on http://{}/metrics.", running.admin);
    outln!("Behind it: a PTU, and two pay-as-you-go deployments for its overflow.\n");
    outln!("{:>4}  {:<18}{:<18}{:<18}{:>12}  {:>11}", "t", MOCKS[0].0, MOCKS[1].0, MOCKS[2].0, "429 absorbed", "429 visible");
    let tally = Arc::new(Tally::default());
    let mut seconds_shown: Vec<Second> = Vec::new();
    for (rate, seconds, title) in ACTS {
        outln!("      -- {title} ({rate} requests a second)");
        for _ in 0..seconds {
            let before = tally.by_backend.lock().clone();
            let refused_before = refused(&mocks);
            one_second(address, rate, &tally).await;
            let now = tally.by_backend.lock().clone();
            let served = MOCKS.map(|(name, _)| count(&now, name) - count(&before, name));
            seconds_shown.push(Second { asked: rate, served, absorbed: refused(&mocks) - refused_before });
            print_line(seconds_shown.len(), served, &tally, refused(&mocks) - refused_before);
        }
    }
    tokio::time::sleep(Duration::from_millis(800)).await;
    let good = summary(&tally, &mocks);
    if let Some(file) = picture {
        let visible = tally.visible_429.load(Ordering::Relaxed);
        let run = Run { backends: MOCKS.map(|(name, _)| name), acts: ACTS, seconds: &seconds_shown, absorbed: refused(&mocks), visible };
        std::fs::write(file, picture::svg(&run)).map_err(|error| format!("{}: {error}", file.display()))?;
        outln!("The picture of this run is {}.", file.display());
    }
    Ok(good)
}

fn config(mocks: &[(&str, Arc<Mock>, SocketAddr)]) -> String {
    let mut text = "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n\n[log]\naccess = \"off\"\n\n".to_owned();
    for (name, _, address) in mocks {
        let _ = writeln!(text, "[[backends]]\nname = \"{name}\"\nkind = \"azure-openai\"\nurl = \"http://{address}\"\n");
    }
    text + "[[pools]]\nname = \"chat\"\nmodels = [\"gpt-4o\"]\nmembers = [\n  { backend = \"ptu-sweden\", priority = 1 },\n  { backend = \"payg-sweden\", priority = 2, weight = 70 },\n  { backend = \"payg-france\", priority = 2, weight = 30 },\n]\n"
}

fn refused(mocks: &[(&str, Arc<Mock>, SocketAddr)]) -> u64 {
    mocks.iter().map(|(_, mock, _)| mock.refused.load(Ordering::Relaxed)).sum()
}

/// Open load: each request starts on time, however long the others take.
async fn one_second(address: SocketAddr, rate: u64, tally: &Arc<Tally>) {
    let mut ticks = tokio::time::interval(Duration::from_nanos(1_000_000_000 / rate));
    for number in 0..rate {
        ticks.tick().await;
        let tally = Arc::clone(tally);
        tokio::spawn(async move {
            match ask(address, number % 3 == 0).await {
                Some((200, Some(backend))) => {
                    let mut all = tally.by_backend.lock();
                    match all.iter_mut().find(|(name, _)| *name == backend) {
                        Some((_, count)) => *count += 1,
                        None => all.push((backend, 1)),
                    }
                }
                Some((429, _)) => drop(tally.visible_429.fetch_add(1, Ordering::Relaxed)),
                _ => drop(tally.other.fetch_add(1, Ordering::Relaxed)),
            }
        });
    }
    ticks.tick().await;
}

/// Sends one chat request. Returns its status and the backend that served it.
async fn ask(address: SocketAddr, stream: bool) -> Option<(u16, Option<String>)> {
    let body = format!(
        r#"{{"model":"gpt-4o","stream":{stream},"max_tokens":100,"messages":[{{"role":"user","content":"What is a spillway?"}}]}}"#
    );
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut tcp = TcpStream::connect(address).await.ok()?;
    tcp.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).await.ok()?;
    let text = String::from_utf8_lossy(&answer);
    let head = text.split("\r\n\r\n").next()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let backend =
        head.lines().find_map(|line| line.strip_prefix("x-spillway-backend: ").or_else(|| line.strip_prefix("X-Spillway-Backend: ")));
    Some((status, backend.map(str::to_owned)))
}

fn count(all: &[(String, u64)], name: &str) -> u64 {
    all.iter().find(|(known, _)| known == name).map_or(0, |(_, count)| *count)
}

fn print_line(second: usize, served: [u64; 3], tally: &Tally, absorbed: u64) {
    let mut line = format!("{second:>3}s  ");
    for served in served {
        let bar = "#".repeat(usize::try_from(served.min(14)).unwrap_or(14));
        let _ = write!(line, "{:<18}", format!("{bar}{}{served}", if bar.is_empty() { "" } else { " " }));
    }
    outln!("{line}{absorbed:>12}  {:>11}", tally.visible_429.load(Ordering::Relaxed));
}

fn summary(tally: &Tally, mocks: &[(&str, Arc<Mock>, SocketAddr)]) -> bool {
    let all = tally.by_backend.lock().clone();
    let served: u64 = all.iter().map(|(_, count)| count).sum();
    let (visible, other) = (tally.visible_429.load(Ordering::Relaxed), tally.other.load(Ordering::Relaxed));
    outln!();
    for (name, _) in MOCKS {
        let share = count(&all, name) as f64 * 100.0 / served.max(1) as f64;
        outln!("{name:<14}{:>5} requests  {share:>5.1} %", count(&all, name));
    }
    outln!("\n{served} requests were answered. {} times a deployment answered 429; callers saw {visible} of them.", refused(mocks));
    if other > 0 {
        outln!("{other} requests failed otherwise.");
    }
    visible == 0 && other == 0
}
