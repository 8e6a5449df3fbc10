//! Tools for Spillway's tests. Not shipped.
#![allow(clippy::panic, reason = "a test that can't be set up has failed")]

pub mod backend;
pub mod client;
pub mod embeddings;
pub mod identity;
pub mod process;
pub mod safety;
pub mod sign_in;
pub mod tokens;
pub mod wire;
