//! Who sends a request to the admin listener, and what it may do there.

use std::fmt;

/// What somebody may do on the admin listener; each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Role {
    /// Sees and changes only what belongs to itself.
    Member,
    /// Sees everything.
    Viewer,
    /// Drains, resets, reloads and upgrades, too.
    Operator,
    /// Makes and revokes the keys of others, and reads the audit log, too.
    Administrator,
}

impl Role {
    /// Its name.
    pub(super) fn label(self) -> &'static str {
        match self {
            Role::Member => "member",
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Administrator => "administrator",
        }
    }
}

/// Who sends a request to the admin listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Actor {
    /// Somebody on this machine: no admin token is set, so the listener is on a loopback address.
    Local,
    /// Somebody with the admin token.
    Token,
}

impl Actor {
    /// What it may do.
    pub(super) fn role(&self) -> Role {
        match self {
            Actor::Local | Actor::Token => Role::Administrator,
        }
    }
}

impl fmt::Display for Actor {
    /// Its name for the audit log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Local => f.write_str("local"),
            Actor::Token => f.write_str("admin token"),
        }
    }
}
