//! The audit log: every administrative act, as one JSON line in `server.state_dir`.

mod act;
mod file;
mod pace;
mod read;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tracing::{error, info};

pub use act::{Act, Outcome};
use file::AuditFile;
use pace::Pace;

use crate::clock::Clock;
use crate::telemetry::log_time::LogTime;
use crate::telemetry::metrics::AuditMetrics;

/// How long an act waits for the disk. Whoever acts must get an answer even if it hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// An act can't be recorded, or the log can't be read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A file can't be written.
    #[error("the act can't be recorded in the audit log: {0}")]
    NotRecorded(io::Error),
    /// A file can't be read.
    #[error("the audit log can't be read: {0}")]
    Unreadable(io::Error),
    /// There is no folder for it.
    #[error("there is no audit log: set server.state_dir")]
    NoFolder,
    /// The disk is busy, or hangs.
    #[error("the act was not stored in the audit log within {} s: the disk is busy or hangs; the act may still be recorded", PATIENCE.as_secs())]
    TooSlow,
    /// The process ends.
    #[error("the gateway is stopping: ask again")]
    Stopping,
}

/// The audit log.
#[derive(Debug)]
pub struct Audit {
    folder: Option<PathBuf>,
    file: Option<Mutex<AuditFile>>,
    /// What has no effect.
    pace: Mutex<Pace>,
    /// One at a time reads it.
    reading: Mutex<()>,
    failing: AtomicBool,
    node: String,
    clock: Clock,
    metrics: AuditMetrics,
}

impl Audit {
    /// The log of this node in this folder. Without one, acts are only in the access log.
    pub fn new(folder: Option<&Path>, node: String, clock: Clock, metrics: AuditMetrics) -> Self {
        Audit {
            folder: folder.map(Path::to_owned),
            file: folder.map(|folder| Mutex::new(AuditFile::new(folder, file::FULL))),
            pace: Mutex::default(),
            reading: Mutex::new(()),
            failing: AtomicBool::new(false),
            node,
            clock,
            metrics,
        }
    }

    /// What is to be recorded of an act: nothing, if its sender has done too much in vain. That is counted, and the next act
    /// of anybody says how much it was.
    pub fn admit(&self, act: Act) -> Vec<Act> {
        let admitted = self.pace.lock().admit(act, self.clock.wall().timestamp());
        if admitted.is_empty() {
            self.metrics.summed_up.inc();
        }
        admitted
    }

    /// An act's line in this log, now.
    pub fn line_of(&self, act: &Act) -> String {
        act.line(&self.node, self.clock.wall_millis())
    }

    /// Records a line. When this returns, it is on the disk. Without a folder, nothing is done.
    ///
    /// # Errors
    /// [`AuditError::NotRecorded`]; it is counted, and logged once. [`AuditError::TooSlow`], while the disk hangs.
    pub async fn record(self: &Arc<Self>, line: String) -> Result<(), AuditError> {
        let audit = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || audit.write(&line));
        match tokio::time::timeout(PATIENCE, written).await {
            Ok(written) => written.unwrap_or(Err(AuditError::Stopping)),
            Err(_) => Err(self.hangs()),
        }
    }

    fn hangs(&self) -> AuditError {
        if !self.failing.swap(true, Ordering::Relaxed) {
            error!("the audit log's disk is busy or hangs: acts are answered before they are stored");
        }
        AuditError::TooSlow
    }

    fn write(&self, line: &str) -> Result<(), AuditError> {
        let Some(file) = &self.file else { return Ok(()) };
        match file.lock().add(line) {
            Ok(()) => {
                self.metrics.recorded.inc();
                if self.failing.swap(false, Ordering::Relaxed) {
                    info!("the audit log can be written again");
                }
                Ok(())
            }
            Err(error) => {
                self.metrics.lost.inc();
                if !self.failing.swap(true, Ordering::Relaxed) {
                    error!(%error, "the audit log can't be written: acts are not recorded there until it can be written again");
                }
                Err(AuditError::NotRecorded(error))
            }
        }
    }

    /// Up to `most` acts, the newest first, that are not older than `since`, in milliseconds since 1970.
    ///
    /// # Errors
    /// If there is no log, or it can't be read.
    pub async fn newest(self: &Arc<Self>, since: i64, most: usize) -> Result<Vec<Value>, AuditError> {
        let audit = Arc::clone(self);
        let read = move || {
            let folder = audit.folder.as_deref().ok_or(AuditError::NoFolder)?;
            let _alone = audit.reading.lock();
            read::newest(folder, LogTime::new(since).as_str(), most).map_err(AuditError::Unreadable)
        };
        tokio::task::spawn_blocking(read).await.unwrap_or(Err(AuditError::Stopping))
    }
}
