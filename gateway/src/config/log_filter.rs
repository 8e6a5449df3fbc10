//! What the program's own log shows: a level, and other levels for some crates. The config and the admin listener read it alike.

use tracing::level_filters::LevelFilter;

use super::error::did_you_mean;

/// The levels, as they are written.
const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// The crates that log here: a filter for another one would be a misspelt name, and have no effect.
const CRATES: [&str; 17] = [
    "spillway",
    "azure_core",
    "azure_identity",
    "h2",
    "hyper_util",
    "pingora_cache",
    "pingora_core",
    "pingora_load_balancing",
    "pingora_lru",
    "pingora_pool",
    "pingora_proxy",
    "pingora_runtime",
    "pingora_rustls",
    "reqwest",
    "rustls",
    "rustls_platform_verifier",
    "typespec_client_core",
];

/// Log nothing here, but stand in many filters: no reason to refuse a config.
const SILENT: [&str; 2] = ["hyper", "tokio"];

/// A filter can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogFilterError {
    /// A word is no level.
    #[error("unknown level '{0}'{hint}; use off, error, warn, info, debug, trace, or a filter such as 'info,spillway=debug'", hint = did_you_mean(.0, LEVELS.map(|(name, _)| name)))]
    Level(String),
    /// A part is for a crate that doesn't log.
    #[error("'{0}' is no crate that logs here{hint}; they are {known}", hint = did_you_mean(crate_of(.0), CRATES), known = CRATES.join(", "))]
    Target(String),
}

/// A level or filter, such as `info` or `info,spillway=debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter {
    /// The level of what has none of its own; without one, nothing else is shown.
    pub default: Option<LevelFilter>,
    /// Crates or modules, such as `spillway::proxy`, with their levels.
    pub targets: Vec<(String, LevelFilter)>,
}

impl LogFilter {
    /// Reads one.
    ///
    /// # Errors
    /// [`LogFilterError`], for the first part that is wrong.
    pub fn parse(text: &str) -> Result<Self, LogFilterError> {
        let mut filter = LogFilter { default: None, targets: Vec::new() };
        for part in text.split(',') {
            match part.split_once('=') {
                None => filter.default = Some(level(part)?),
                Some((target, word)) => {
                    let target = target.trim();
                    if !CRATES.iter().chain(&SILENT).any(|known| *known == crate_of(target)) {
                        return Err(LogFilterError::Target(shortened(target)));
                    }
                    filter.targets.push((target.to_owned(), level(word)?));
                }
            }
        }
        Ok(filter)
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        LogFilter { default: Some(LevelFilter::INFO), targets: Vec::new() }
    }
}

fn level(word: &str) -> Result<LevelFilter, LogFilterError> {
    let word = word.trim();
    let found = LEVELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    found.map(|(_, level)| *level).ok_or_else(|| LogFilterError::Level(shortened(word)))
}

/// A word for a message, which is stored in the audit log, too.
fn shortened(word: &str) -> String {
    word.chars().take(64).collect()
}

/// The crate of a module's path.
fn crate_of(target: &str) -> &str {
    target.split("::").next().unwrap_or(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters_are_read() {
        let of = |text: &str| LogFilter::parse(text).unwrap();
        assert_eq!(of("info"), LogFilter::default());
        assert_eq!(of("OFF").default, Some(LevelFilter::OFF));
        let filter = of("warn, spillway::proxy = debug,pingora_core=trace");
        assert_eq!(filter.default, Some(LevelFilter::WARN));
        let expected = [("spillway::proxy", LevelFilter::DEBUG), ("pingora_core", LevelFilter::TRACE)];
        assert_eq!(filter.targets, expected.map(|(target, level)| (target.to_owned(), level)));
        assert_eq!(of("spillway=debug").default, None);
    }

    #[test]
    fn what_would_silence_the_log_or_have_no_effect_is_refused_with_what_was_meant() {
        for (text, expected) in [
            ("wran", "unknown level 'wran'; did you mean 'warn'?"),
            ("inof", "unknown level 'inof'; did you mean 'info'?"),
            ("", "unknown level ''; use off"),
            ("info,", "unknown level ''; use off"),
            ("spillway", "unknown level 'spillway'; use off"),
            ("info,spillway=dbug", "unknown level 'dbug'; did you mean 'debug'?"),
            ("info,spilway=debug", "'spilway' is no crate that logs here; did you mean 'spillway'?"),
            ("warn,spilway::proxy=debug", "'spilway::proxy' is no crate that logs here; did you mean 'spillway'?"),
            ("spill=debug", "'spill' is no crate that logs here"),
            ("=debug", "'' is no crate that logs here"),
        ] {
            let error = LogFilter::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn each_crate_in_the_list_is_built_in_and_logs() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
        for name in CRATES {
            let logs = lock.split("[[package]]").any(|package| {
                let is_it = package
                    .lines()
                    .any(|line| line.strip_prefix("name = ").is_some_and(|it| it.trim_matches('"').replace('-', "_") == name));
                is_it && [" \"log\",", " \"tracing\","].iter().any(|logger| package.contains(logger))
            });
            assert!(logs, "{name}");
        }
    }
}
