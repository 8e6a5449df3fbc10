//! The program's own log: `tracing` to standard error, with Pingora's log.

use std::sync::OnceLock;

use tracing_subscriber::filter::{LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};

use crate::config::LogFilter;

static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Starts logging with a level or filter such as `info,spillway=debug`.
///
/// Pingora logs every failed connection as an error. Those are attempts, which the access log and the metrics report,
/// so only those lines of Pingora's are kept that are reported nowhere else.
///
/// Other crates never log more than `info`, whatever the filter says: at `debug` and `trace` they print what they send
/// and receive, and with it our credentials and our callers'.
pub fn init(filter: &LogFilter) {
    let targets = targets(filter);
    let (targets, handle) = reload::Layer::new(targets);
    let _ = LEVEL.set(handle);
    let ours = filter_fn(|metadata| *metadata.level() <= tracing::Level::INFO || metadata.target().starts_with("spillway"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    // Fails only if there is a logger already, as in tests.
    let _ = tracing_subscriber::registry().with(targets).with(ours).with(lines).try_init();
}

/// Sets another level or filter; `false` if there is no log.
pub fn set(filter: &LogFilter) -> bool {
    LEVEL.get().is_some_and(|handle| handle.reload(targets(filter)).is_ok())
}

/// The level or filter that is in use; `None` without a log.
pub fn current() -> Option<String> {
    LEVEL.get()?.with_current(ToString::to_string).ok()
}

fn targets(filter: &LogFilter) -> Targets {
    let pingora =
        ["pingora_core", "pingora_proxy", "pingora_load_balancing", "pingora_pool"].map(|name| (name.to_owned(), LevelFilter::OFF));
    let says_of_pingora = filter.targets.iter().any(|(target, _)| target.starts_with("pingora"));
    let targets = Targets::new().with_default(filter.default.unwrap_or(LevelFilter::OFF)).with_targets(filter.targets.iter().cloned());
    if says_of_pingora { targets } else { targets.with_targets(pingora) }
}
