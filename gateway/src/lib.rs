//! Spillway: a self-hosted AI gateway built on Pingora.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod attempt_outcome;
pub mod backend;
pub mod balance;
pub mod cache;
pub mod callers;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connection_phase;
mod estimator;
pub mod gateway;
pub mod guard;
pub mod import;
pub mod inbox;
pub mod internal;
pub mod ledger;
pub mod limits;
pub mod listener_tls;
pub mod mock;
pub mod objects;
pub mod operation;
pub mod outbound;
pub mod private;
pub mod prompt_log;
pub mod provider;
pub mod proxy;
pub mod queue;
pub mod random;
pub mod renewal;
pub mod request;
pub mod runtime;
pub mod server;
pub mod shared_memory;
pub mod shares;
pub mod telemetry;
mod under_way;
