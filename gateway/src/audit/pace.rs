//! What has no effect is recorded at a bounded pace: somebody who is refused again and again must not push out what others
//! have done.

use std::collections::HashMap;

use super::act::Act;

/// Acts without effect of one actor that are recorded in a minute; of the others there is only the number.
const IN_A_MINUTE: u64 = 10;
/// Most actors that are told apart in a minute; the others share one pace.
const ACTORS: usize = 1000;

/// The acts without effect of the current minute.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// In minutes since 1970.
    minute: i64,
    /// By who did them.
    seen: HashMap<String, u64>,
}

impl Pace {
    /// The acts to record now: this one or not, and before it how many of the last minute were not recorded. `seconds` is
    /// the time since 1970.
    pub(super) fn admit(&mut self, act: Act, seconds: i64) -> Vec<Act> {
        let mut admitted = Vec::new();
        let minute = seconds.div_euclid(60);
        if minute != self.minute {
            self.minute = minute;
            let mut left: Vec<(String, u64)> = self.seen.drain().filter(|(_, count)| *count > IN_A_MINUTE).collect();
            left.sort();
            for (who, count) in left {
                let more = count - IN_A_MINUTE;
                let mut act = Act::new(who, "-", None, "audit.more", "");
                act.after = serde_json::json!({ "acts_without_effect": more });
                admitted.push(act);
            }
        }
        if act.has_effect() {
            admitted.push(act);
            return admitted;
        }
        let is_new = !self.seen.contains_key(&act.who);
        let who = if is_new && self.seen.len() >= ACTORS { String::from("(others)") } else { act.who.clone() };
        let count = self.seen.entry(who).or_default();
        *count += 1;
        if *count <= IN_A_MINUTE {
            admitted.push(act);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::audit::Outcome;

    fn failed(who: &str) -> Act {
        Act { outcome: Outcome::Failed("refused".to_owned()), ..Act::new(who, "viewer", None, "request.refuse", "") }
    }

    #[test]
    fn who_is_refused_again_and_again_fills_ten_lines_and_one_with_the_number() {
        let mut pace = Pace::default();
        let lines: usize = (0..1000).map(|_| pace.admit(failed("eve"), 60).len()).sum();
        assert_eq!(lines, 10);
        assert_eq!(pace.admit(failed("ada"), 61).len(), 1, "each has a pace of its own");
        let done = Act::new("eve", "operator", None, "upgrade", "");
        assert_eq!(pace.admit(done.clone(), 62), std::slice::from_ref(&done), "what is done is always recorded");
        let next = pace.admit(done, 120);
        assert_eq!((next.len(), &*next[0].who, &next[0].after), (2, "eve", &json!({ "acts_without_effect": 990 })));
        assert_eq!(pace.admit(failed("eve"), 121).len(), 1);
    }

    #[test]
    fn a_change_to_what_was_there_already_has_no_effect() {
        let mut pace = Pace::default();
        let act = |before: bool, after: bool| Act {
            before: json!({ "drained": before }),
            after: json!({ "drained": after }),
            ..Act::new("eve", "operator", None, "backend.drain", "a")
        };
        assert_eq!((0..100).map(|_| pace.admit(act(true, true), 60).len()).sum::<usize>(), 10);
        assert_eq!((0..100).map(|_| pace.admit(act(false, true), 60).len()).sum::<usize>(), 100);
    }

    #[test]
    fn many_actors_fill_a_bounded_memory() {
        let mut pace = Pace::default();
        let lines: usize = (0..5000).map(|number| pace.admit(failed(&number.to_string()), 60).len()).sum();
        assert_eq!((lines, pace.seen.len()), (ACTORS + 10, ACTORS + 1));
    }
}
