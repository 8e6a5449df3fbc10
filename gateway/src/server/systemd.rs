//! Reports to the service manager: systemd's notify protocol (`sd_notify(3)`). Without `NOTIFY_SOCKET` it does nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

/// Reports the state to the service manager, until another process is the service.
#[derive(Debug, Clone, Default)]
pub(super) struct Manager {
    /// Another process is the service now: a report from this one would be taken as that one's.
    silent: Arc<AtomicBool>,
}

impl Manager {
    fn notify(&self, states: &[NotifyState<'_>]) {
        if !self.silent.load(Ordering::Relaxed)
            && let Err(error) = sd_notify::notify(states)
        {
            tracing::debug!(%error, "the report to the service manager failed");
        }
    }

    /// It serves requests.
    pub(super) fn ready(&self, status: &str) {
        self.notify(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// It is stopping, and may take this long.
    pub(super) fn stopping(&self, limit: Duration) {
        let micros = u32::try_from(limit.as_micros()).unwrap_or(u32::MAX);
        self.notify(&[
            NotifyState::Stopping,
            NotifyState::ExtendTimeoutUsec(micros),
            NotifyState::Status("stopping: requests in flight finish"),
        ]);
    }

    /// Another process is the service now.
    pub(super) fn is_now(&self, pid: u32) {
        self.notify(&[NotifyState::MainPid(pid), NotifyState::Status("ready (took over)")]);
        self.silent.store(true, Ordering::Relaxed);
    }

    /// Reports that the process is alive, twice as often as required, for ever.
    pub(super) async fn keep_watchdog(self) {
        // The new process has the variables of the old one, except for the process id.
        let Some(limit) = sd_notify::watchdog_enabled() else { return };
        loop {
            self.notify(&[NotifyState::Watchdog]);
            tokio::time::sleep(limit / 2).await;
        }
    }
}
