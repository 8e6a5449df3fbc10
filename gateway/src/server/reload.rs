//! A new config while the gateway runs: read, checked, made live and swapped at once, or refused as a whole. Requests
//! in flight finish on what they began with.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::upkeep::{Upkeep, wait_for_backends};
use crate::config::error::ConfigError;
use crate::config::{AccessLog, Config, Secrets};
use crate::gateway::Gateway;
use crate::limits::Past;
use crate::runtime::{Runtime, RuntimeError, Surroundings};
use crate::telemetry::logging;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What made the gateway read its config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// It started.
    Start,
    /// SIGHUP.
    Signal,
    /// The admin API.
    Api,
    /// The file changed.
    File,
    /// It took over from another process.
    Upgrade,
}

impl By {
    /// A word for it.
    pub fn label(self) -> &'static str {
        match self {
            By::Start => "start",
            By::Signal => "signal",
            By::Api => "api",
            By::File => "file",
            By::Upgrade => "upgrade",
        }
    }
}

/// A config, and the file that it came from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file; `None` for a config that was made in the program.
    pub path: Option<PathBuf>,
    /// SHA-256 of its text, in hexadecimal.
    pub hash: String,
    /// Tells whether the file is another now.
    seen: Option<Fingerprint>,
}

/// Inode, length and time of a file.
type Fingerprint = (u64, u64, std::time::SystemTime);

impl Source {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn read(path: &Path) -> Result<(Config, Source), ConfigError> {
        // Before the text: what is written meanwhile is noticed.
        let seen = fingerprint(path);
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let config = Config::parse(&text, path, &Secrets::default())?;
        Ok((config, Source { path: Some(path.to_owned()), hash: hash(&text), seen }))
    }

    /// Of a config that was made in the program.
    pub fn none() -> Self {
        Source { path: None, hash: hash(""), seen: None }
    }
}

fn hash(text: &str) -> String {
    spillway_plugins::auth::digest(text.as_bytes()).to_string()
}

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The config was made in the program.
    #[error("this gateway runs without a config file: there is nothing to read anew")]
    NoFile,
    /// The file is no good.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// It is good, but can't be made live.
    #[error("{0}")]
    Runtime(#[from] RuntimeError),
    /// It is good, but not for a gateway that runs already.
    #[error("the gateway stops: it reads no config any more")]
    Stopping,
}

/// What came of a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// Whether anything is different now.
    pub changed: bool,
    /// The active config's hash.
    pub hash: String,
    /// Keys that are other than before, and take a restart.
    pub needs_restart: Vec<&'static str>,
}

/// A config that was refused.
#[derive(Debug, Clone)]
pub struct Rejected {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// By what it was read.
    pub by: By,
    /// Why it is no good.
    pub reason: String,
}

/// What is known of the config.
#[derive(Debug, Clone)]
pub struct Status {
    /// The file, and its hash as it was read last.
    pub source: Source,
    /// When the active config was loaded, in milliseconds since 1970.
    pub loaded_at: i64,
    /// By what.
    pub loaded_by: By,
    /// Keys of the file that take a restart to be used.
    pub needs_restart: Vec<&'static str>,
    /// The last one that was refused since then.
    pub rejected: Option<Rejected>,
}

/// Reads configs anew, one at a time.
pub struct Reloader {
    gateway: Gateway,
    /// The config that the process began with: what takes a restart is as it says.
    began_with: Config,
    status: Mutex<Status>,
    upkeep: tokio::sync::Mutex<Upkeep>,
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reloader({:?})", self.status.lock().source.path)
    }
}

impl Reloader {
    /// For a gateway whose config was just loaded.
    pub(super) fn new(gateway: Gateway, upkeep: Upkeep, source: Source, by: By) -> Self {
        let now = gateway.clock.wall();
        gateway.metrics.config.loaded_at.set(now.timestamp());
        gateway.metrics.config.successful.set(1);
        let status = Status { source, loaded_at: now.timestamp_millis(), loaded_by: by, needs_restart: Vec::new(), rejected: None };
        let began_with = gateway.runtime.load().config.clone();
        Reloader { gateway, began_with, status: Mutex::new(status), upkeep: tokio::sync::Mutex::new(upkeep) }
    }

    /// What is known of the config.
    pub fn status(&self) -> Status {
        self.status.lock().clone()
    }

    /// Reads the file anew and uses it, or keeps what there is.
    ///
    /// # Errors
    /// [`ReloadError`]; nothing has changed then.
    pub async fn reload(&self, by: By) -> Result<Reloaded, ReloadError> {
        let path = self.status.lock().source.path.clone().ok_or(ReloadError::NoFile)?;
        // One at a time; whoever waits reads what is there then.
        let mut upkeep = self.upkeep.lock().await;
        if self.gateway.is_closing() {
            return Err(ReloadError::Stopping);
        }
        let outcome = match Source::read(&path) {
            Ok((config, source)) => self.switch(config, source, by, &mut upkeep).await,
            Err(error) => Err(error.into()),
        };
        let metrics = &self.gateway.metrics.config;
        metrics.successful.set(i64::from(outcome.is_ok()));
        match &outcome {
            Ok(Reloaded { changed: false, .. }) => {
                metrics.unchanged.inc();
                info!(by = by.label(), "config read anew: nothing has changed");
            }
            Ok(Reloaded { hash, needs_restart, .. }) => {
                metrics.applied.inc();
                info!(by = by.label(), hash, "config read anew and used from now on");
                if !needs_restart.is_empty() {
                    warn!(keys = ?needs_restart, "these have changed, too, but take a restart or an upgrade to be used");
                }
            }
            Err(reason) => {
                metrics.rejected.inc();
                error!(by = by.label(), "the config is refused, the one before goes on:\n{reason}");
                let at = self.gateway.clock.wall().timestamp_millis();
                self.status.lock().rejected = Some(Rejected { at, by, reason: reason.to_string() });
            }
        }
        outcome
    }

    async fn switch(&self, config: Config, source: Source, by: By, upkeep: &mut Upkeep) -> Result<Reloaded, ReloadError> {
        let gateway = &self.gateway;
        let before = gateway.runtime.load_full();
        let needs_restart = fixed_keys(&self.began_with, &config);
        let config = with_fixed(&self.began_with, config);
        let reloaded = Reloaded { changed: before.config != config, hash: source.hash.clone(), needs_restart };
        // A log file may have been moved away: it is opened anew.
        if reloaded.changed || matches!(config.log.access, AccessLog::File(_)) {
            for warning in &config.warnings {
                warn!("{warning}");
            }
            let past = self.past(&config).await;
            let past_before = past.map(|past| gateway.limits.begin(past));
            let around = Surroundings { limits: &gateway.limits, metrics: &gateway.metrics, clock: &gateway.clock };
            let level = config.log.level.clone();
            let runtime = Runtime::new(config, around, Some(&before)).inspect_err(|_| {
                // Whoever comes by itself still comes to the old config.
                past_before.into_iter().for_each(|past| drop(gateway.limits.begin(past)));
            })?;
            upkeep.start(&runtime, &gateway.clock);
            wait_for_backends(&runtime).await;
            gateway.switch(runtime);
            gateway.runtime.load().targets.settle();
            upkeep.retain(&gateway.runtime.load());
            gateway.limits.sweep();
            if level != before.config.log.level {
                logging::set(&level);
            }
        }
        let now = gateway.clock.wall();
        gateway.metrics.config.loaded_at.set(now.timestamp());
        *self.status.lock() = Status {
            source,
            loaded_at: now.timestamp_millis(),
            loaded_by: by,
            needs_restart: reloaded.needs_restart.clone(),
            rejected: None,
        };
        Ok(reloaded)
    }

    /// What was used in the periods that a new limit may look back on.
    async fn past(&self, config: &Config) -> Option<Past> {
        let Some(ledger) = self.gateway.ledger.clone() else { return Some(Past::default()) };
        ledger.flush(Duration::from_secs(2)).await;
        let (config, now) = (config.clone(), self.gateway.clock.wall().timestamp());
        let read = tokio::task::spawn_blocking(move || Past::read(&ledger, &config, now)).await;
        match read {
            Ok(Ok(past)) => Some(past),
            _ => {
                warn!("the ledger can't be read: limits that are new in this config look back on what it said before");
                None
            }
        }
    }

    /// Reads the file anew whenever it changes, for ever.
    pub(super) async fn watch(self: Arc<Self>) {
        let Some(path) = self.status.lock().source.path.clone() else { return };
        let mut used = self.status.lock().source.seen;
        let mut before = used;
        loop {
            sleep(LOOK).await;
            let now = fingerprint(&path);
            // Twice the same: whoever writes it is done. One that is gone is about to come back.
            if now != used && now == before && now.is_some() {
                used = now;
                if self.gateway.runtime.load().config.server.watch {
                    // Told by itself.
                    let _ = self.reload(By::File).await;
                }
            }
            before = now;
        }
    }

    /// Ends the background tasks.
    pub(super) async fn stop(&self) {
        self.upkeep.lock().await.stop();
    }
}

/// Tells whether a file is another than before. Links are followed: that is how Kubernetes replaces it.
fn fingerprint(path: &Path) -> Option<Fingerprint> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).and_then(|data| Ok((data.ino(), data.len(), data.modified()?))).ok()
}

/// The keys in which `new` differs from what the process began with, and which it can't change.
fn fixed_keys(old: &Config, new: &Config) -> Vec<&'static str> {
    let (was, is) = (&old.server, &new.server);
    let fixed = [
        ("server.listen", was.listen != is.listen),
        ("server.admin", was.admin != is.admin),
        ("server.threads", was.threads != is.threads),
        ("server.state_dir", was.state_dir != is.state_dir),
        ("ledger", old.ledger != new.ledger && was.state_dir == is.state_dir),
        ("objects", old.objects != new.objects),
        ("redis", old.redis != new.redis),
    ];
    fixed.into_iter().filter_map(|(key, changed)| changed.then_some(key)).collect()
}

/// `new`, but for what can't be changed.
fn with_fixed(old: &Config, mut new: Config) -> Config {
    new.server.listen.clone_from(&old.server.listen);
    new.server.admin = old.server.admin;
    new.server.threads = old.server.threads;
    new.server.state_dir.clone_from(&old.server.state_dir);
    new.ledger.clone_from(&old.ledger);
    new.objects = old.objects;
    new.redis.clone_from(&old.redis);
    if let Some(semantic) = new.cache.as_mut().and_then(|cache| cache.semantic.as_mut()) {
        semantic.folder.clone_from(&old.server.state_dir);
    }
    new
}
