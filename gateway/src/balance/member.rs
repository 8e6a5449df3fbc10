//! A target as a member of a pool, and the flags that must be set before it gets requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use spillway_plugins::limits::Class;

use super::target::Target;

/// A flag that a background task sets and clears.
#[derive(Debug)]
pub struct HealthFlag(AtomicBool);

impl Default for HealthFlag {
    /// Set at first.
    fn default() -> Self {
        HealthFlag(AtomicBool::new(true))
    }
}

impl HealthFlag {
    /// Sets or clears it. Returns whether that changed anything.
    pub fn set(&self, up: bool) -> bool {
        self.0.swap(up, Ordering::Relaxed) != up
    }

    /// Whether it is set.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A target as a member of a pool.
#[derive(Debug, Clone)]
pub struct Member {
    /// The target.
    pub target: Arc<Target>,
    /// Its tier; lower goes first.
    pub priority: u32,
    /// Its share within the tier; 0 takes no traffic.
    pub weight: u32,
    /// Where it is, for the location fence.
    pub location: Option<Arc<str>>,
    /// Index of its backend.
    pub backend: usize,
    /// The conditions of its backend.
    pub up: MemberHealth,
    /// Which requests it serves.
    pub serves: Serves,
}

/// Which requests a member serves. Default: all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serves {
    /// By class, in the order of [`Class::ALL`].
    pub classes: [bool; 3],
    /// Only those that would be late elsewhere.
    pub late_only: bool,
}

impl Default for Serves {
    fn default() -> Self {
        Serves { classes: [true; 3], late_only: false }
    }
}

impl Serves {
    /// Whether it serves a request of this class; `is_late`: elsewhere it would miss its deadline.
    pub fn accepts(&self, class: Class, is_late: bool) -> bool {
        self.classes[class as usize] && (is_late || !self.late_only)
    }
}

/// The conditions of a backend for its members to get requests.
#[derive(Debug, Clone, Default)]
pub struct MemberHealth {
    /// The pool's health check succeeds.
    pub healthy: Arc<HealthFlag>,
    /// It has an address.
    pub resolved: Arc<HealthFlag>,
    /// There is a credential to send.
    pub credential: Arc<HealthFlag>,
}

impl MemberHealth {
    fn all(&self) -> bool {
        self.healthy.get() && self.resolved.get() && self.credential.get()
    }
}

impl Member {
    pub(super) fn is_up(&self) -> bool {
        self.up.all()
    }

    pub(super) fn is_inside(&self, fence: Option<&[Arc<str>]>) -> bool {
        fence.is_none_or(|allowed| self.location.as_ref().is_some_and(|here| allowed.contains(here)))
    }
}
