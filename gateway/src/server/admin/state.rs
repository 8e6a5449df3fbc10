//! The state that the admin listener's answers come from.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::{mpsc, oneshot};

use super::me::usage::RecentUsage;
use super::places::PlacesOf;
use super::refusal::{Reason, RefusalLog};
use super::rooms::Rooms;
use super::today::Today;
use crate::gateway::Gateway;
use crate::server::own_names;
use crate::server::reload::Reloader;
use crate::shadow::Shadow;

/// Answers on the admin listener.
pub(in crate::server) struct Admin {
    pub(super) gateway: Gateway,
    pub(super) control: Control,
    /// This machine's name.
    pub(super) node: String,
    /// When this process started, in milliseconds since 1970.
    pub(super) started: i64,
    pub(super) today: Today,
    /// Answers under way; a process that ends must not cut them off.
    pub(super) busy: Arc<AtomicUsize>,
    /// The number of pages that are kept up to date.
    pub(super) pages: Arc<AtomicUsize>,
    /// Rooms of the admin listener, and of the listener for people: a flood on one takes nothing from the other.
    pub(super) rooms: [Rooms; 2],
    /// Held while an owner's key is counted and made.
    pub(super) making: tokio::sync::Mutex<()>,
    /// What consumers used, for their owners.
    pub(super) used: RecentUsage,
    /// The number of those of each person.
    pub(super) pages_of: PlacesOf,
    /// The number of answers about its own things that each person waits for.
    pub(super) answers_of: PlacesOf,
    /// When refusals were logged.
    pub(super) refusals: RefusalLog,
    /// The shadow of mirrored traffic, if there is one.
    pub(super) shadow: Option<Arc<Shadow>>,
}

impl Admin {
    pub(in crate::server) fn new(gateway: Gateway, control: Control, shadow: Option<Arc<Shadow>>) -> Self {
        let node = own_names::host();
        gateway.metrics.admin.expose(Reason::labels());
        let started = gateway.clock.wall_millis();
        let (today, busy, pages, rooms) = (Today::default(), Arc::default(), Arc::default(), [Rooms::new(), Rooms::new()]);
        Admin {
            gateway,
            control,
            node,
            started,
            today,
            busy,
            pages,
            rooms,
            shadow,
            used: RecentUsage::default(),
            refusals: RefusalLog::default(),
            pages_of: PlacesOf::default(),
            answers_of: PlacesOf::default(),
            making: tokio::sync::Mutex::default(),
        }
    }

    /// The number of answers under way.
    pub(in crate::server) fn busy(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.busy)
    }
}

/// An upgrade request; the sender gets the new process's id, or why there is none.
pub(in crate::server) type UpgradeRequest = oneshot::Sender<Result<u32, String>>;

/// Actions on the gateway as a whole.
pub(in crate::server) struct Control {
    pub(super) reloader: Arc<Reloader>,
    pub(super) upgrades: mpsc::Sender<UpgradeRequest>,
}

impl Control {
    /// The receiver gets the upgrade requests.
    pub(in crate::server) fn new(reloader: Arc<Reloader>) -> (Self, mpsc::Receiver<UpgradeRequest>) {
        let (upgrades, wishes) = mpsc::channel(1);
        (Control { reloader, upgrades }, wishes)
    }
}
