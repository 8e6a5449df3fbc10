//! What Spillway's tests are made with. Not shipped.

pub mod backend;
pub mod client;
pub mod wire;
