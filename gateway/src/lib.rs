//! Spillway: a self-hosted AI gateway built on Pingora.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod backend;
pub mod balance;
pub mod clock;
pub mod config;
