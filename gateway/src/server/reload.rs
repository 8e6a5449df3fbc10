//! Reloads the config at run time: reads, checks and swaps it as a whole, or refuses it as a whole. Requests in flight
//! keep the config that they began with.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::background::{Upkeep, wait_for_backends};
use super::unattended;
use crate::audit::Outcome;
use crate::config::error::ConfigError;
use crate::config::{AccessLogConfig, Config, Secrets, Server};
use crate::gateway::Gateway;
use crate::limits::UsageHistory;
use crate::runtime::{Runtime, RuntimeError, Surroundings};
use crate::telemetry::logging;

/// How often the file is checked.
const LOOK: Duration = Duration::from_secs(1);

/// Why the gateway read its config.
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
    /// Its name.
    pub fn label(self) -> &'static str {
        match self {
            By::Start => "start",
            By::Signal => "signal",
            By::Api => "api",
            By::File => "file",
            By::Upgrade => "upgrade",
        }
    }

    /// What has caused it, if no request did: requests are recorded where they are answered.
    fn unattended(self) -> Option<&'static str> {
        match self {
            By::Signal => Some("SIGHUP"),
            By::File => Some("config file"),
            By::Start | By::Api | By::Upgrade => None,
        }
    }
}

/// Where a config came from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file; `None` for a config that is not from a file.
    pub path: Option<PathBuf>,
    /// SHA-256 of its text, in hexadecimal.
    pub hash: String,
    /// To find out whether the file has changed.
    seen: Option<Fingerprint>,
}

/// Inode, length and modification time of a file.
type Fingerprint = (u64, u64, std::time::SystemTime);

impl Source {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn read(path: &Path) -> Result<(Config, Source), ConfigError> {
        // Before the text is read, so that a change meanwhile is noticed.
        let seen = fingerprint(path);
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let config = Config::parse(&text, path, &Secrets::default())?;
        Ok((config, Source { path: Some(path.to_owned()), hash: hash(&text), seen }))
    }

    /// For a config that is not from a file.
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
    /// The config is not from a file.
    #[error("this gateway runs without a config file: there is nothing to reload")]
    NoFile,
    /// The file is not valid.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The config is valid, but can't be used.
    #[error("{0}")]
    Runtime(#[from] RuntimeError),
    /// The admin listener keeps its address until a restart, and would let in everybody who reaches it.
    #[error(
        "the admin listener is still on {admin}, where other machines reach it, and needs server.admin_token or [server.sign_in] there: \
         keep one of them, or restart with the new server.admin"
    )]
    OpenAdmin {
        /// Its address.
        admin: SocketAddr,
    },
    /// The listener for people stays until a restart.
    #[error("the listener for people is still on {listen}, and needs [server.sign_in]: keep that, or restart without server.portal.listen")]
    PeopleCannotSignIn {
        /// Its address.
        listen: SocketAddr,
    },
    /// The gateway is stopping.
    #[error("the gateway is stopping: it no longer reloads its config")]
    Stopping,
}

/// The result of a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// Whether anything has changed.
    pub changed: bool,
    /// The active config's hash.
    pub hash: String,
    /// Changed keys that need a restart.
    pub needs_restart: Vec<&'static str>,
}

/// A config that was refused.
#[derive(Debug, Clone)]
pub struct Rejected {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// Why it was read.
    pub by: By,
    /// Why it was refused.
    pub reason: String,
}

/// The state of the config.
#[derive(Debug, Clone)]
pub struct Status {
    /// The file, and its hash at the last successful read.
    pub source: Source,
    /// When the active config was loaded, in milliseconds since 1970.
    pub loaded_at: i64,
    /// Why it was loaded.
    pub loaded_by: By,
    /// Changed keys of the file that need a restart.
    pub needs_restart: Vec<&'static str>,
    /// The last one that was refused since then.
    pub rejected: Option<Rejected>,
}

/// Reloads the config, one reload at a time.
pub struct Reloader {
    gateway: Gateway,
    /// The config at the start: keys that need a restart keep its values.
    began_with: Config,
    status: Mutex<Status>,
    upkeep: Arc<tokio::sync::Mutex<Upkeep>>,
}

/// While this exists, reloads wait.
pub(super) struct Paused {
    _upkeep: tokio::sync::OwnedMutexGuard<Upkeep>,
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
        Reloader { gateway, began_with, status: Mutex::new(status), upkeep: Arc::new(tokio::sync::Mutex::new(upkeep)) }
    }

    /// The state of the config.
    pub fn status(&self) -> Status {
        self.status.lock().clone()
    }

    /// Lets reloads wait until what this returns is dropped. A process that takes over reads the file by itself: what is
    /// reloaded here meanwhile may not be what it has read.
    pub(super) async fn pause(&self) -> Paused {
        Paused { _upkeep: Arc::clone(&self.upkeep).lock_owned().await }
    }

    /// Re-reads the file and uses it, or keeps the active config.
    ///
    /// # Errors
    /// [`ReloadError`]; then nothing has changed.
    pub async fn reload(&self, by: By) -> Result<Reloaded, ReloadError> {
        let path = self.status.lock().source.path.clone().ok_or(ReloadError::NoFile)?;
        // One at a time; a reload that waits reads the file after the other one is done.
        let mut upkeep = self.upkeep.lock().await;
        if self.gateway.is_closing() {
            return Err(ReloadError::Stopping);
        }
        let before = self.status.lock().source.hash.clone();
        let outcome = match Source::read(&path) {
            Ok((config, source)) => self.switch(config, source, by, &mut upkeep).await,
            Err(error) => Err(error.into()),
        };
        let metrics = &self.gateway.metrics.config;
        metrics.successful.set(i64::from(outcome.is_ok()));
        match &outcome {
            Ok(Reloaded { changed: false, .. }) => {
                metrics.unchanged.inc();
                info!(by = by.label(), "config re-read: nothing has changed");
            }
            Ok(Reloaded { hash, needs_restart, .. }) => {
                metrics.applied.inc();
                info!(by = by.label(), hash, "config re-read and now active");
                if !needs_restart.is_empty() {
                    warn!(keys = ?needs_restart, "these keys have changed, too, but need a restart or an upgrade");
                }
            }
            Err(reason) => {
                metrics.rejected.inc();
                error!(by = by.label(), "the config is refused, the previous one stays active:\n{reason}");
                let at = self.gateway.clock.wall_millis();
                self.status.lock().rejected = Some(Rejected { at, by, reason: reason.to_string() });
            }
        }
        let after = self.status.lock().source.hash.clone();
        if let Some(who) = by.unattended() {
            let changed = outcome.as_ref().is_ok_and(|reloaded| reloaded.changed);
            unattended::reloaded(&self.gateway, who, [&before, &after], Outcome::from(&outcome), changed).await;
        }
        outcome
    }

    /// Uses this config, as if the file had it: for a gateway whose config is not from a file.
    ///
    /// # Errors
    /// [`ReloadError`]; then nothing has changed.
    pub async fn replace(&self, config: Config) -> Result<Reloaded, ReloadError> {
        let mut upkeep = self.upkeep.lock().await;
        let source = self.status.lock().source.clone();
        self.switch(config, source, By::Api, &mut upkeep).await
    }

    async fn switch(&self, config: Config, source: Source, by: By, upkeep: &mut Upkeep) -> Result<Reloaded, ReloadError> {
        let gateway = &self.gateway;
        let before = gateway.runtime.load_full();
        let needs_restart = fixed_keys(&self.began_with, &config);
        let config = with_fixed(&self.began_with, config);
        still_guarded(&config.server)?;
        let reloaded = Reloaded { changed: before.config != config, hash: source.hash.clone(), needs_restart };
        // The log file may have been moved away: it is opened again.
        if reloaded.changed || matches!(config.log.access, AccessLogConfig::File(_)) {
            for warning in &config.warnings {
                warn!("{warning}");
            }
            let past = self.past(&config).await;
            let past_before = past.map(|past| gateway.limits.begin(past));
            let around =
                Surroundings { limits: &gateway.limits, metrics: &gateway.metrics, clock: &gateway.clock, keys: gateway.keys.live() };
            let level = config.log.level.clone();
            let runtime = Runtime::new(config, around, Some(&before)).inspect_err(|_| {
                // Unlisted consumers that come now still belong to the old config.
                past_before.into_iter().for_each(|past| drop(gateway.limits.begin(past)));
            })?;
            upkeep.start(&runtime, &gateway.clock);
            wait_for_backends(&runtime).await;
            gateway.switch(runtime);
            gateway.runtime.load().targets.settle(gateway.clock.now());
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

    /// The usage in the periods that a new limit may need.
    async fn past(&self, config: &Config) -> Option<UsageHistory> {
        let Some(ledger) = self.gateway.ledger.clone() else { return Some(UsageHistory::default()) };
        ledger.flush(Duration::from_secs(2)).await;
        let (config, now) = (config.clone(), self.gateway.clock.wall().timestamp());
        let read = tokio::task::spawn_blocking(move || UsageHistory::read(&ledger, &config, now)).await;
        match read {
            Ok(Ok(past)) => Some(past),
            _ => {
                warn!("the ledger can't be read: limits that are new in this config start with its last known usage");
                None
            }
        }
    }

    /// Re-reads the file whenever it changes, for ever.
    pub(super) async fn watch(self: Arc<Self>) {
        let Some(path) = self.status.lock().source.path.clone() else { return };
        let mut used = self.status.lock().source.seen;
        let mut before = used;
        loop {
            sleep(LOOK).await;
            let now = fingerprint(&path);
            // The same twice: its writer is done. A missing file will probably come back.
            if now != used && now == before && now.is_some() {
                used = now;
                if self.gateway.runtime.load().config.server.watch {
                    // `reload` logs the result.
                    let _ = self.reload(By::File).await;
                }
            }
            before = now;
        }
    }

    /// Stops the background tasks.
    pub(super) async fn stop(&self) {
        self.upkeep.lock().await.stop();
    }
}

/// Changes when the file changes. Links are followed, because Kubernetes replaces the link.
fn fingerprint(path: &Path) -> Option<Fingerprint> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).and_then(|data| Ok((data.ino(), data.len(), data.modified()?))).ok()
}

/// The keys whose values in `new` differ from those at the start, but can't be changed at run time.
fn fixed_keys(old: &Config, new: &Config) -> Vec<&'static str> {
    let (was, is) = (&old.server, &new.server);
    let listen_of = |server: &Server| server.portal.listener.as_ref().map(|listener| listener.listen);
    let fixed = [
        ("server.listen", was.listen != is.listen),
        ("server.admin", was.admin != is.admin),
        ("server.portal.listen", listen_of(was) != listen_of(is)),
        ("server.threads", was.threads != is.threads),
        ("server.state_dir", was.state_dir != is.state_dir),
        ("ledger", old.ledger != new.ledger && was.state_dir == is.state_dir),
        ("objects", old.objects != new.objects),
        ("redis", old.redis != new.redis),
        ("shadow", old.shadow != new.shadow),
    ];
    fixed.into_iter().filter_map(|(key, changed)| changed.then_some(key)).collect()
}

/// The config was checked with the addresses that it names. Those of the listeners stay as they were: who may use them is
/// checked again.
fn still_guarded(server: &Server) -> Result<(), ReloadError> {
    if server.is_open_to_everybody() {
        return Err(ReloadError::OpenAdmin { admin: server.admin });
    }
    match &server.portal.listener {
        Some(listener) if server.sign_in.is_none() => Err(ReloadError::PeopleCannotSignIn { listen: listener.listen }),
        _ => Ok(()),
    }
}

/// `new`, with the old values of those keys.
fn with_fixed(old: &Config, mut new: Config) -> Config {
    new.server.listen.clone_from(&old.server.listen);
    new.server.admin = old.server.admin;
    match (&mut new.server.portal.listener, &old.server.portal.listener) {
        // Its URL may change.
        (Some(new), Some(old)) => new.listen = old.listen,
        (new, old) => new.clone_from(old),
    }
    new.server.threads = old.server.threads;
    new.server.state_dir.clone_from(&old.server.state_dir);
    new.ledger.clone_from(&old.ledger);
    new.objects = old.objects;
    new.redis.clone_from(&old.redis);
    new.shadow.clone_from(&old.shadow);
    if let Some(semantic) = new.plugins.cache.as_mut().and_then(|cache| cache.semantic.as_mut()) {
        semantic.folder.clone_from(&old.server.state_dir);
    }
    new
}
