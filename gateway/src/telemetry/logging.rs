//! The program's own log: `tracing` to standard error, Pingora's included.

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts logging with a level or filter such as `info,spillway=debug`.
///
/// Pingora logs every failed connection as an error of its own; those are attempts, which the
/// access log and the metrics tell about, so its own lines are kept to what nothing else tells.
pub fn init(filter: &str) {
    let targets: Targets = filter.parse().unwrap_or_else(|_| Targets::new().with_default(tracing::Level::INFO));
    let explicit = filter.contains("pingora");
    let targets = if explicit {
        targets
    } else {
        ["pingora_core", "pingora_proxy", "pingora_load_balancing", "pingora_pool"]
            .into_iter()
            .fold(targets, |targets, name| targets.with_target(name, tracing_subscriber::filter::LevelFilter::OFF))
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    // Fails only if a logger runs already, as in tests.
    let _ = tracing_subscriber::registry().with(targets).with(lines).try_init();
}
