//! What a node says about itself beside its files: until when its data is complete, and for which hours there is data. So a
//! report knows how fresh a node's data is, and which of its files are missing.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::name::{LedgerId, hour_text, parse_hour};

/// The format of this file.
const FORMAT: u32 = 1;

/// The state of a node's ledger, as of its last successful round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    format: u32,
    /// The node's name.
    pub node: String,
    ledger: String,
    /// The machine's name.
    pub host: String,
    /// When the round began, in milliseconds since 1970: everything that was written to the ledger before is shipped.
    pub at_ms: i64,
    /// How often there is a round, in seconds.
    pub every_s: u64,
    /// The hours with data, as ranges of which both ends are part.
    hours: Vec<(String, String)>,
}

impl NodeState {
    /// The state after a round at this time, with files for these hours.
    pub fn new(ledger: &LedgerId, host: String, at_ms: i64, every_s: u64, hours: &BTreeSet<i64>) -> Self {
        let mut ranges: Vec<(i64, i64)> = Vec::new();
        for hour in hours {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *hour => *last = *hour,
                _ => ranges.push((*hour, *hour)),
            }
        }
        let hours = ranges.into_iter().map(|(first, last)| (hour_text(first), hour_text(last))).collect();
        NodeState { format: FORMAT, node: ledger.node.clone(), ledger: format!("{:016x}", ledger.number), host, at_ms, every_s, hours }
    }

    /// Reads a state file, if it is one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|state: &NodeState| state.format == FORMAT && state.ledger().is_some())
    }

    /// The ledger, if the file is valid.
    pub fn ledger(&self) -> Option<LedgerId> {
        Some(LedgerId { node: self.node.clone(), number: u64::from_str_radix(&self.ledger, 16).ok()? })
    }

    /// The hours with data, from `since` on and before `until`.
    pub fn hours(&self, since: i64, until: i64) -> impl Iterator<Item = i64> {
        let ranges = self.hours.iter().filter_map(|(first, last)| Some((parse_hour(first)?, parse_hour(last)?)));
        ranges.flat_map(move |(first, last)| first.max(since)..(last + 1).min(until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_ranges() {
        let ledger = LedgerId { node: "a".to_owned(), number: 1 };
        let state = NodeState::new(&ledger, "h".to_owned(), 5, 60, &BTreeSet::from([3, 4, 5, 9, 11, 12]));
        assert_eq!(state.hours.len(), 3);
        let read = NodeState::parse(&serde_json::to_vec(&state).unwrap()).unwrap();
        assert_eq!((read.ledger(), &read), (Some(ledger), &state));
        assert_eq!(read.hours(4, 12).collect::<Vec<_>>(), [4, 5, 9, 11]);
        assert_eq!(read.hours(6, 9).count(), 0);
        assert_eq!(NodeState::parse(b"{}"), None);
    }
}
