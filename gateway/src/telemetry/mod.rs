//! Observability: metrics, traces, the access log, the program's own log.

pub mod access_log;
pub mod collector;
pub mod log_time;
pub mod logging;
pub mod metrics;
pub mod recent;
pub mod traces;
