//! One administrative act, and its line in the audit log.

use std::fmt;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::telemetry::log_time::LogTime;

/// Most characters of a text that comes from outside.
const LONGEST: usize = 1024;

/// How an act ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused or failed, for this reason.
    Failed(String),
}

impl<T, E: fmt::Display> From<&Result<T, E>> for Outcome {
    fn from(result: &Result<T, E>) -> Self {
        match result {
            Ok(_) => Outcome::Done,
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }
}

/// One administrative act. No secret may be in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Act {
    /// Who did it: a person's subject, `admin token`, `local`, or what caused it, such as `SIGHUP`.
    pub who: String,
    /// The role in which it was done; `system` without a person.
    pub role: &'static str,
    /// The address that the request came from.
    pub peer: Option<SocketAddr>,
    /// What was done, such as `key.issue`.
    pub what: &'static str,
    /// What it was done to, such as a key's id or a backend; empty for the gateway itself.
    pub object: String,
    /// The state before, as far as it is of interest; null for none.
    pub before: Value,
    /// The state after.
    pub after: Value,
    /// How it ended.
    pub outcome: Outcome,
}

impl Act {
    /// An act that was done and changed nothing that is worth a record.
    pub fn new(
        who: impl Into<String>,
        role: &'static str,
        peer: Option<SocketAddr>,
        what: &'static str,
        object: impl Into<String>,
    ) -> Self {
        let (who, object) = (who.into(), object.into());
        Act { who, role, peer, what, object, before: Value::Null, after: Value::Null, outcome: Outcome::Done }
    }

    /// Its line, without the end of the line: one JSON object. `millis` is the time in milliseconds since 1970.
    pub fn line(&self, node: &str, millis: i64) -> String {
        let (result, reason) = match &self.outcome {
            Outcome::Done => ("done", Value::Null),
            Outcome::Failed(reason) => ("failed", json!(cut(reason))),
        };
        json!({
            "time": LogTime::new(millis).as_str(), "node": node, "who": cut(&self.who), "role": self.role, "peer": self.peer.map(|peer| peer.to_string()),
            "what": self.what, "object": cut(&self.object), "before": self.before, "after": self.after, "result": result, "reason": reason,
        })
        .to_string()
    }
}

/// Cuts a text that comes from outside.
fn cut(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

impl fmt::Display for Act {
    /// For people, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |text: &str| cut(text).replace(|c: char| c.is_control(), "?");
        write!(f, "audit {} {}", self.what, plain(&self.object))?;
        write!(
            f,
            " by={} role={} peer={}",
            plain(&self.who),
            self.role,
            self.peer.map_or_else(|| "-".to_owned(), |peer| peer.to_string())
        )?;
        match &self.outcome {
            Outcome::Done => f.write_str(" done"),
            Outcome::Failed(reason) => write!(f, " failed: {}", plain(reason)),
        }
    }
}
