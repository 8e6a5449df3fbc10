//! Why a gateway can't start.

use super::handover::reachable::Missing;
use super::listeners::BindError;
use crate::issued_keys::KeysError;
use crate::ledger::LedgerError;
use crate::redis::RedisError;
use crate::runtime::RuntimeError;

/// Why a gateway can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address can't be listened on.
    #[error("{0}")]
    Bind(#[from] BindError),
    /// The config can't be used.
    #[error("{0}")]
    Runtime(#[from] RuntimeError),
    /// The runtime or a signal handler can't be made.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// A bug: two metrics have the same name.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// Redis can't be used.
    #[error("{0}")]
    Redis(#[from] RedisError),
    /// The ledger can't be used.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// The issued keys can't be had.
    #[error("{0}")]
    Keys(#[from] KeysError),
    /// This node's name can't be stored.
    #[error("server.state_dir: can't store this node's name there: {0}")]
    Node(std::io::Error),
    /// The old process serves what this one can't.
    #[error("the old process serves what this one can't: {0}")]
    Missing(#[from] Missing),
    /// The old process's state can't be taken over.
    #[error("can't take over: {0}")]
    TakeOver(std::io::Error),
}
