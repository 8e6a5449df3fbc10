//! What callers saw, in words.

use std::collections::BTreeMap;

use crate::rehearse::outcome::{RequestOutcome, Served};

/// What callers saw: `3 × 502, 1 × 503`.
pub(super) fn seen(bad: &[&RequestOutcome]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for request in bad {
        let how = match request.served {
            Served::LastResort => "the last resort".to_owned(),
            _ if request.status == 0 => "no answer".to_owned(),
            _ if request.status == 200 => "broken off".to_owned(),
            _ => request.status.to_string(),
        };
        *counts.entry(how).or_default() += 1;
    }
    counts.iter().map(|(how, count)| format!("{count} × {how}")).collect::<Vec<_>>().join(", ")
}
