//! One administrative act, and its line in the audit log.

use std::fmt;
use std::net::SocketAddr;

use serde_json::{Value, json};
use spillway_plugins::auth::key_text;

use crate::telemetry::log_time::LogTime;

/// Most characters of a text.
const LONGEST: usize = 256;
/// Most characters of a reason, which may have several lines, such as the problems of a config.
const LONGEST_REASON: usize = 1024;
/// Most members of a list, and of an object, such as the states of a backend's deployments.
const MOST: [usize; 2] = [20, 100];
/// How deep lists and objects may be nested.
const DEEPEST: usize = 4;

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
    /// Whether it has changed anything, if `before` and `after` don't tell. An act without effect is recorded at a bounded
    /// pace.
    pub has_effect: Option<bool>,
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
        Act { who, role, peer, what, object, before: Value::Null, after: Value::Null, outcome: Outcome::Done, has_effect: None }
    }

    /// With texts and lists of bounded length, and without the keys that somebody may have put into a wrong field: whoever
    /// may act must be able neither to fill the log nor to write a secret into it.
    pub fn cleaned(&self) -> Self {
        let outcome = match &self.outcome {
            Outcome::Done => Outcome::Done,
            Outcome::Failed(reason) => Outcome::Failed(text(reason, LONGEST_REASON)),
        };
        Act {
            who: text(&self.who, LONGEST),
            object: text(&self.object, LONGEST),
            before: value(&self.before, DEEPEST),
            after: value(&self.after, DEEPEST),
            outcome,
            // Before anything is cut.
            has_effect: Some(self.has_effect()),
            ..*self
        }
    }

    /// Whether it has changed anything.
    pub(super) fn has_effect(&self) -> bool {
        self.has_effect.unwrap_or_else(|| self.outcome == Outcome::Done && (self.before.is_null() || self.before != self.after))
    }

    /// Its line, without the end of the line: one JSON object. `millis` is the time in milliseconds since 1970.
    pub fn line(&self, node: &str, millis: i64) -> String {
        let (result, reason) = match &self.outcome {
            Outcome::Done => ("done", Value::Null),
            Outcome::Failed(reason) => ("failed", json!(reason)),
        };
        json!({
            "time": LogTime::new(millis).as_str(), "node": node, "who": self.who, "role": self.role, "peer": self.peer.map(|peer| peer.to_string()),
            "what": self.what, "object": self.object, "before": self.before, "after": self.after, "result": result, "reason": reason,
        })
        .to_string()
    }
}

fn text(text: &str, longest: usize) -> String {
    // First without keys: the rest of one that is cut would no longer look like one.
    let masked = key_text::masked(text);
    masked.chars().take(longest).collect()
}

fn value(of: &Value, depth: usize) -> Value {
    match of {
        Value::String(of) => Value::String(text(of, LONGEST)),
        Value::Array(_) | Value::Object(_) if depth == 0 => Value::Null,
        Value::Array(all) => all.iter().take(MOST[0]).map(|of| value(of, depth - 1)).collect(),
        Value::Object(all) => all.iter().take(MOST[1]).map(|(name, of)| (text(name, LONGEST), value(of, depth - 1))).collect(),
        _ => of.clone(),
    }
}

impl fmt::Display for Act {
    /// For people, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Texts from outside are quoted, so that none can look like another field.
        let peer = self.peer.map_or_else(|| "-".to_owned(), |peer| peer.to_string());
        write!(f, "audit {} object={:?} by={:?} role={} peer={peer}", self.what, self.object, self.who, self.role)?;
        match &self.outcome {
            Outcome::Done => f.write_str(" done"),
            Outcome::Failed(reason) => write!(f, " failed reason={reason:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(who: &str, after: Value) -> Act {
        Act { after, ..Act::new(who, "administrator", None, "key.issue", "object") }
    }

    #[test]
    fn a_line_is_short_whatever_is_asked_for() {
        let long = "\u{1}".repeat(65_536);
        let models: Vec<&str> = vec![long.as_str(); 1000];
        let mut asked = act(&long, json!({ "consumer": long, "label": long, "owner": long, "models": models, "deep": [[[[[[long]]]]]] }));
        asked.outcome = Outcome::Failed(long.clone());
        asked.object = long;
        let line = asked.cleaned().line("node", 0);
        // A control character has six bytes in JSON, and there are two dozen texts.
        assert!(line.len() < 64 << 10, "{}", line.len());
        let names = (0..1000).map(|number| (format!("target {number}"), json!(true))).collect::<serde_json::Map<_, _>>();
        assert_eq!(act("ada", names.into()).cleaned().after.as_object().unwrap().len(), MOST[1]);
    }

    #[test]
    fn a_key_in_a_wrong_field_is_in_no_line() {
        let key = key_text::generate(|| 7);
        let mut asked =
            act(&format!("x {key} y"), json!({ "consumer": key, "models": [format!("{}{key}", "m".repeat(240))], key.clone(): 1 }));
        asked.object.clone_from(&key);
        asked.outcome = Outcome::Failed(format!("there is no consumer '{key}'"));
        let asked = asked.cleaned();
        for text in [asked.line("node", 0), asked.to_string()] {
            assert!(!text.contains(&key[4..20]) && text.contains("(a key)"), "{text}");
        }
    }

    #[test]
    fn what_is_cut_from_a_line_does_not_hide_an_effect() {
        let [before, after] = ["a", "b"].map(|end| json!({ "level": format!("{}{end}", "x".repeat(LONGEST)) }));
        let cleaned = Act { before, ..act("ada", after) }.cleaned();
        assert!(cleaned.before == cleaned.after && cleaned.has_effect());
        assert!(!Act { has_effect: Some(false), ..act("ada", json!({ "sessions": 0 })) }.cleaned().has_effect());
    }

    #[test]
    fn a_name_forges_no_field_of_the_text_form() {
        let asked = act("s (x) role=viewer peer=10.0.0.9:1 done\naudit", Value::Null).cleaned();
        let shown = asked.to_string();
        assert_eq!(
            shown,
            r#"audit key.issue object="object" by="s (x) role=viewer peer=10.0.0.9:1 done\naudit" role=administrator peer=- done"#
        );
        let quoted = act("a\" role=viewer", Value::Null).cleaned().to_string();
        assert!(quoted.contains(r#"by="a\" role=viewer" role=administrator"#), "{quoted}");
    }
}
