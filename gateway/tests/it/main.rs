//! The whole gateway on loopback, against backends that do as they are told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

mod support;

mod abuse;
mod admin;
mod bodies;
mod cache;
mod callers;
mod crash;
mod documents;
mod failover;
mod fairness;
mod forms;
mod guard;
mod guard_texts;
mod import;
mod isolation;
mod keys;
mod ledger;
mod limits;
mod listener_tls;
mod nodes;
mod process;
mod prompt_log;
mod prompt_log_cut;
mod reading;
mod reading_forms;
mod realtime;
mod references;
mod reload;
mod room;
mod secrets;
mod semantic;
mod settling;
mod shares;
mod stored;
mod streams;
mod thinking;
mod tls;
mod tokens;
mod traces;
mod traffic;
mod transform;
mod upgrade;
mod usage;
mod whole_usage;
