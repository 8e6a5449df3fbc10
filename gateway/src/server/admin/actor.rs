//! Who sends a request to the admin listener, and what it may do there.

use std::fmt;

use spillway_plugins::auth::Digest;

pub(super) use crate::config::Role;
use crate::sign_in::Found;

/// Who sends a request to the admin listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Actor {
    /// Somebody on this machine: neither an admin token nor sign-in is configured, so the listener is on a loopback address.
    Local,
    /// Somebody with the admin token, which has this digest.
    Token(Digest),
    /// A person who has signed in.
    Person(SignedIn),
}

/// A person who has signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SignedIn {
    /// The session, and in it the person: subject, name, app roles and groups.
    pub(super) session: Found,
    /// What the person may do, by the config as it is now.
    pub(super) role: Role,
}

impl Actor {
    /// What it may do.
    pub(super) fn role(&self) -> Role {
        match self {
            Actor::Local | Actor::Token(_) => Role::Administrator,
            Actor::Person(SignedIn { role, .. }) => *role,
        }
    }
}

impl fmt::Display for Actor {
    /// Its name for the audit log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Local => f.write_str("local"),
            Actor::Token(_) => f.write_str("admin token"),
            Actor::Person(SignedIn { session, .. }) => write!(f, "{}", session.person),
        }
    }
}
