//! Two consumers, one hostile: whatever it sends, and whatever upstreams answer it, the other one gets what it would get
//! alone. `docs/decisions/0029-an-adversary-in-the-tests.md` says why and how.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods, missing_docs)]

#[path = "../it/support.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod support;

mod answers;
mod book;
mod differential;
mod grammar;
mod history;
mod ledgers;
mod manner;
mod upstream;
mod wire;
mod witness;
mod world;

mod cases;
