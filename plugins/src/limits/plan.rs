//! Where each limit of a scope is counted in its state. The state lives longer than the config, and has places for what
//! earlier ones limited.

use super::rules::LimitId;

/// A limit, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limited {
    pub(super) id: LimitId,
    pub(super) place: usize,
    pub(super) limit: u64,
    /// What of it is guaranteed to nobody.
    pub(super) common: u64,
    /// What of it is guaranteed, by guarantee.
    pub(super) kept: Box<[u64]>,
}

/// The limits of a scope, and the place of each guarantee.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) limits: Box<[Limited]>,
    pub(super) pots: Box<[usize]>,
}
