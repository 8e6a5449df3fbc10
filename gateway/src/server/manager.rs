//! What the service manager is told: systemd's notify protocol (`sd_notify(3)`). Without `NOTIFY_SOCKET` nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

/// Tells the service manager how things are, until another process is the service.
#[derive(Debug, Clone, Default)]
pub(super) struct Manager {
    /// Another process is the service now: what this one says would be said in its name.
    silent: Arc<AtomicBool>,
}

impl Manager {
    fn tell(&self, states: &[NotifyState<'_>]) {
        if !self.silent.load(Ordering::Relaxed)
            && let Err(error) = sd_notify::notify(states)
        {
            tracing::debug!(%error, "the service manager can't be told");
        }
    }

    /// It serves.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// It stops, and may take so long.
    pub(super) fn stopping(&self, limit: Duration) {
        let micros = u32::try_from(limit.as_micros()).unwrap_or(u32::MAX);
        self.tell(&[
            NotifyState::Stopping,
            NotifyState::ExtendTimeoutUsec(micros),
            NotifyState::Status("stopping: requests in flight finish"),
        ]);
    }

    /// Another process is the service.
    pub(super) fn is_now(&self, pid: u32) {
        self.tell(&[NotifyState::MainPid(pid), NotifyState::Status("ready (took over)")]);
        self.silent.store(true, Ordering::Relaxed);
    }

    /// Says that all is well, twice as often as it must be said, for ever.
    pub(super) async fn keep_watchdog(self) {
        // The process that took over has the variables of the one before, but for the process id.
        let Some(limit) = sd_notify::watchdog_enabled() else { return };
        loop {
            self.tell(&[NotifyState::Watchdog]);
            tokio::time::sleep(limit / 2).await;
        }
    }
}
