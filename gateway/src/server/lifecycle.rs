//! A gateway as a process: it serves until a signal stops it, or until another process has taken over.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal::SIGHUP, kill};
use nix::unistd::Pid;
use tracing::{error, info, warn};

use super::admin::UpgradeRequest;
use super::handover::predecessor::{HandoverError, Program, TakenOver, hand_over};
use super::handover::successor::Successor;
use super::inherited_sockets::Sockets;
use super::launch::{Launch, launch};
use super::reload::{By, Source};
use super::running::{Ending, Running};
use super::signals::{Signal, Signals};
use super::start_error::StartError;
use super::systemd::Manager;
use super::unattended;
use crate::clock::Clock;
use crate::config::Config;
use crate::gateway::Gateway;

impl Running {
    /// Starts the program again and lets it take over; this process then only finishes its requests.
    async fn hand_over(&self, program: &Program) -> Result<TakenOver, HandoverError> {
        let sockets = self.sockets.iter().map(OwnedFd::try_clone).collect::<Result<_, _>>()?;
        let taken = hand_over(program, sockets, &self.gateway).await;
        let metrics = &self.gateway.metrics.upgrades;
        match &taken {
            Ok(taken) => {
                metrics.done.inc();
                info!(pid = taken.pid, "another process has taken over; requests in flight finish here");
            }
            Err(error) => {
                metrics.failed.inc();
                error!(%error, "the upgrade failed: this process continues");
            }
        }
        taken
    }

    /// A signal asked for a reload during an upgrade: it is for the process that has the config now, which may have read it
    /// before.
    fn reload_after(&self, taken: &Result<TakenOver, HandoverError>) {
        match taken {
            Ok(taken) => {
                let sent = i32::try_from(taken.pid).map(|pid| kill(Pid::from_raw(pid), SIGHUP));
                if !matches!(sent, Ok(Ok(()))) {
                    warn!(pid = taken.pid, "the new process can't be told to reload its config");
                }
            }
            Err(_) => {
                let reloader = Arc::clone(&self.reloader);
                tokio::spawn(async move { drop(reloader.reload(By::Signal).await) });
            }
        }
    }

    /// Serves until a signal stops the process, or another one has taken over.
    async fn serve(mut self, mut signals: Signals, program: &Program) {
        let manager = Manager::default();
        let watchdog = tokio::spawn(manager.clone().keep_watchdog());
        // After an upgrade the old process has already reported this one as the service.
        if self.reloader.status().loaded_by != By::Upgrade {
            manager.ready(&format!("serving {} models", self.gateway.runtime.load().model_names.len()));
        }
        let ending = loop {
            let reply = tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Stop => break Ending::Stop,
                    Signal::Reload => {
                        let reloader = Arc::clone(&self.reloader);
                        // The reloader logs the result.
                        tokio::spawn(async move { drop(reloader.reload(By::Signal).await) });
                        continue;
                    }
                    Signal::Upgrade => None,
                },
                Some(request) = self.upgrades.recv() => Some(request),
            };
            // A stop signal during an upgrade also ends the process that is just starting.
            let mut is_reload_due = false;
            let handing_over = async {
                let paused = self.reloader.pause().await;
                let taken = self.hand_over(program).await;
                if taken.is_ok() {
                    // A reload that waits must fail: the new process has the config.
                    self.gateway.hand_over();
                    self.gateway.close();
                }
                drop(paused);
                taken
            };
            let taken = tokio::select! {
                taken = handing_over => taken,
                () = stopped(&mut signals, || is_reload_due = true) => break Ending::Stop,
            };
            if is_reload_due {
                self.reload_after(&taken);
            }
            if reply.is_none() {
                unattended::upgraded(&self.gateway, &taken).await;
            }
            if taken.is_ok() {
                // The next admin request must reach the new process.
                self.administration.abort();
                self.upgrades.close();
            }
            let result = taken.as_ref().map(|taken| taken.pid).map_err(ToString::to_string);
            if let Ok(pid) = result {
                manager.is_now(pid);
            }
            // The client may be gone; further upgrade requests get the same answer.
            let mut replies: Vec<UpgradeRequest> = reply.into_iter().collect();
            replies.extend(std::iter::from_fn(|| self.upgrades.try_recv().ok()));
            replies.into_iter().for_each(|reply| drop(reply.send(result.clone())));
            if let Ok(taken) = taken {
                break Ending::HandedOver(Box::new(taken));
            }
        };
        let server = self.gateway.runtime.load().config.server.clone();
        let in_flight = self.gateway.metrics.requests.in_flight.get();
        match &ending {
            Ending::Stop => {
                info!(in_flight, "stopping; a second signal cuts off requests in flight");
                manager.stopping(server.lb_delay + server.drain_timeout + Duration::from_secs(30));
            }
            Ending::HandedOver(_) => {
                // The service manager may stop both processes: the first signal changes nothing.
                info!(in_flight, "finishing; two signals cut off requests in flight");
            }
        }
        let spare = usize::from(matches!(ending, Ending::HandedOver(_)));
        let hurry = async {
            for _ in 0..=spare {
                stopped(&mut signals, || {}).await;
            }
        };
        self.end(ending, hurry).await;
        watchdog.abort();
    }
}

/// Waits for the next signal to stop; `reload` is called for each one that asks for a reload.
async fn stopped(signals: &mut Signals, mut reload: impl FnMut()) {
    loop {
        match signals.next().await {
            Signal::Stop => return,
            Signal::Reload => reload(),
            // One is under way.
            Signal::Upgrade => {}
        }
    }
}

/// Runs a gateway until a signal stops it, or another process has taken over.
///
/// # Errors
/// [`StartError`]
pub fn run(config: Config, source: Source, successor: Option<Successor>) -> Result<(), StartError> {
    let program = Program::own()?;
    let sockets = Sockets::from_environment()?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = config.server.threads {
        builder.worker_threads(threads);
    }
    let runtime = builder.thread_name("worker").enable_all().build()?;
    let outcome = runtime.block_on(async {
        // Before anything else: without a handler SIGHUP would end the process.
        let signals = Signals::new()?;
        let running = launch(Launch { config, source, clock: Clock::new(), sockets, successor }).await?;
        count_panics(&running.gateway);
        info!(listen = ?running.listen, admin = %running.admin, portal = running.portal.map(tracing::field::display), version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "ready");
        running.serve(signals, &program).await;
        Ok(())
    });
    runtime.shutdown_timeout(Duration::from_millis(200));
    outcome
}

/// A panic ends only its request's task; it must be counted.
fn count_panics(gateway: &Gateway) {
    let panics = gateway.metrics.requests.panics.clone();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        panics.inc();
        before(info);
    }));
}
