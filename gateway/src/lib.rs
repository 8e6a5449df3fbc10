//! Spillway: a self-hosted AI gateway built on Pingora.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod attempt_outcome;
pub mod backend;
pub mod background_queue;
pub mod balance;
pub mod batch_queue;
pub mod cache;
pub mod callers;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connection_phase;
mod estimator;
pub mod gateway;
pub mod guardrails;
pub mod http_client;
pub mod import;
pub mod ledger;
pub mod limits;
pub mod listener_tls;
pub mod mock;
pub mod objects;
pub mod operation;
pub mod private;
pub mod prompt_log;
pub mod provider;
pub mod proxy;
pub mod random;
pub mod redis;
pub mod renewal;
pub mod request;
pub mod runtime;
pub mod self_request;
pub mod server;
pub mod shares;
pub mod telemetry;
mod under_way;
