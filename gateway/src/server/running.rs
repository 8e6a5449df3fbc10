//! A running gateway, and how it ends.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pingora::proxy::HttpProxy;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::warn;

use super::admin::UpgradeRequest;
use super::handover::predecessor::TakenOver;
use super::reload::Reloader;
use super::state_lock::StateLock;
use crate::gateway::Gateway;
use crate::ptu_file::PtuFile;

/// How long idle connections stay open when the gateway stops, so that a client that is about to use one gets an answer
/// that says it closes, and no request is sent on a connection that was just closed.
const IDLE_GRACE: Duration = Duration::from_secs(1);
/// The same if another process has taken over: then nothing waits for this one.
const IDLE_GRACE_HANDED_OVER: Duration = Duration::from_secs(10);

/// How long a process that ends waits for answers on the admin listener. Each act waits for the disk before it is answered,
/// and does so for ten seconds.
const ANSWERS: Duration = Duration::from_secs(15);

/// A running gateway. It goes on when this is dropped; see [`Running::stop`].
pub struct Running {
    /// Its shared state, also for tests.
    pub gateway: Gateway,
    /// The addresses that callers connect to, with the ports that were given for `:0`.
    pub listen: Vec<SocketAddr>,
    /// The admin listener's address.
    pub admin: SocketAddr,
    /// The address of the listener for people, if there is one.
    pub portal: Option<SocketAddr>,
    /// The addresses of the listeners for mirrored requests.
    pub mirrors: Vec<SocketAddr>,
    /// Reloads the config.
    pub reloader: Arc<Reloader>,
    pub(super) sockets: Vec<OwnedFd>,
    pub(super) shutdown: watch::Sender<bool>,
    /// Ends idle connections.
    pub(super) idle_end: watch::Sender<bool>,
    /// Accepts on the admin listener, so that operators can watch a gateway that stops.
    pub(super) administration: JoinHandle<()>,
    /// Answers on the admin listener that are under way.
    pub(super) busy: Arc<AtomicUsize>,
    pub(super) tasks: Vec<JoinHandle<()>>,
    /// Tasks that exchange state with other nodes.
    pub(super) sharing: Vec<JoinHandle<()>>,
    pub(super) accepting: Vec<JoinHandle<()>>,
    pub(super) proxy: Arc<HttpProxy<Gateway>>,
    /// Upgrade requests.
    pub(super) upgrades: mpsc::Receiver<UpgradeRequest>,
    /// What was learned of provisioned throughput.
    pub(super) ptu_file: Option<PtuFile>,
    /// Shows others that this process uses `state_dir`.
    pub(super) _state_lock: Option<StateLock>,
    /// Receives from the process before this one, until that has ended.
    pub(super) predecessor: Option<JoinHandle<()>>,
}

/// Why a gateway ends.
#[derive(Debug)]
pub(super) enum Ending {
    /// It was stopped.
    Stop,
    /// Another process has taken over.
    HandedOver(Box<TakenOver>),
}

impl Running {
    /// Answers "not ready", waits for load balancers to notice, closes the listeners, and lets requests in flight
    /// finish. Returns early once nothing is in flight, or when `hurry` ends.
    pub async fn stop(self, hurry: impl Future<Output = ()>) {
        self.end(Ending::Stop, hurry).await;
    }

    pub(super) async fn end(self, ending: Ending, hurry: impl Future<Output = ()>) {
        let gateway = self.gateway.clone();
        let server = gateway.runtime.load().config.server.clone();
        if matches!(ending, Ending::HandedOver(_)) {
            gateway.hand_over();
        }
        gateway.close();
        let (lb_delay, idle_grace) = match &ending {
            Ending::Stop => (server.lb_delay, IDLE_GRACE),
            // Other nodes communicate with the new process, which has all of this one's state.
            Ending::HandedOver(_) => (Duration::ZERO, IDLE_GRACE_HANDED_OVER),
        };
        let idle_grace = idle_grace.min(server.drain_timeout);
        let handed_over = matches!(ending, Ending::HandedOver(_));
        gateway.ledger.iter().filter(|_| handed_over).for_each(|ledger| ledger.leave_prices());
        let taken = match ending {
            Ending::Stop => None,
            Ending::HandedOver(taken) => {
                self.sharing.iter().for_each(JoinHandle::abort);
                if let Some(shared) = &gateway.limits.shared {
                    shared.retire().await;
                }
                Some(taken)
            }
        };
        // What the process before this one tells must reach the one after.
        let mut before = self.predecessor.filter(|_| handed_over);
        let down = async {
            tokio::time::sleep(lb_delay).await;
            let _ = self.shutdown.send(true);
            drop(self.sockets);
            for task in self.accepting {
                let _ = task.await;
            }
            let none_left = async |connections: bool| {
                let metrics = &gateway.metrics;
                while metrics.requests.in_flight.get() > 0
                    || gateway.busy_sockets() > 0
                    || (connections && metrics.listeners.connections.get() > 0)
                {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let _ = tokio::time::timeout(idle_grace, none_left(true)).await;
            use pingora::apps::HttpServerApp as _;
            self.proxy.http_cleanup().await;
            let _ = self.idle_end.send(true);
            // Few requests are left, and there may be long ones: no connection to a backend waits for others.
            gateway.idle.close();
            let nothing_left = async {
                none_left(false).await;
                if let Some(before) = &mut before {
                    let _ = before.await;
                }
            };
            if tokio::time::timeout(server.drain_timeout.saturating_sub(idle_grace), nothing_left).await.is_err() {
                warn!(in_flight = gateway.metrics.requests.in_flight.get(), "drain_timeout is over, requests are cut off");
            }
        };
        tokio::select! {
            () = down => {}
            () = hurry => warn!("stopping at once: requests in flight are cut off"),
        }
        // After an upgrade the other process writes it.
        if let Some(file) = self.ptu_file.filter(|_| !handed_over)
            && let Err(error) = file.write(gateway.runtime.load().targets.iter(), gateway.clock.now())
        {
            warn!(%error, "what was learned of provisioned throughput can't be stored");
        }
        gateway.objects.flush(Duration::from_secs(1)).await;
        gateway.flush(Duration::from_secs(5)).await;
        // Everything is settled: the last report.
        if let Some(taken) = taken {
            taken.end(Duration::from_secs(5)).await;
        }
        let announced = async {
            while self.busy.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(ANSWERS, announced).await;
        self.reloader.stop().await;
        self.administration.abort();
        self.tasks.iter().chain(&self.sharing).for_each(JoinHandle::abort);
        if let Some(shared) = gateway.limits.shared.as_ref().filter(|_| !handed_over) {
            let _ = tokio::time::timeout(Duration::from_secs(1), shared.leave(&gateway.limits)).await;
        }
    }
}
