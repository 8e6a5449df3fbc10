//! Streams that a fault broke in the middle.

use super::shown::Shown;
use crate::rehearse::finding::{Finding, Severity};
use crate::rehearse::findings::view::View;

/// Pools whose streams could be continued, and are not.
pub(in crate::rehearse::findings) fn find(view: &View<'_>, shown: &Shown<'_>) -> Vec<Finding> {
    let pools = shown.pools(view);
    let broken = pools.iter().filter(|(pool, sums)| sums.broken > 0 && pool.config.rescue.is_none() && pool.choices() > 1);
    broken
        .map(|(pool, sums)| {
            let name = &pool.config.name;
            let text = format!(
                "With {}, {} of {} answers of pool '{name}' break off after they have begun.",
                shown.said(),
                sums.broken,
                sums.requests
            );
            let remedy = "With streams.rescue = \"verified\" chats are continued by another member, which costs a second answer.";
            view.finding("answers-break", Severity::Note, &format!("{}.streams.rescue", pool.key), text, remedy)
        })
        .collect()
}
