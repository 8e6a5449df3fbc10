//! Where each key is in the file.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Position;

/// Finds keys in the parsed document.
pub(super) struct Places<'t> {
    pub(super) text: &'t str,
    pub(super) document: Spanned<DeTable<'t>>,
    /// Indices of items that were cut out of arrays, as in the file, by the array's key.
    pub(super) cut_indices: BTreeMap<String, BTreeSet<usize>>,
}

impl<'t> Places<'t> {
    /// Of a text, as far as it is TOML.
    pub(super) fn of(text: &'t str) -> Self {
        Places { text, document: DeTable::parse_recoverable(text).0, cut_indices: BTreeMap::new() }
    }
}

impl Places<'_> {
    /// The position of `key` (`pools[0].members[2].backend`), or of its nearest parent that exists. Names may contain
    /// dots: in each table the entry that fits the rest of the key is taken.
    pub(super) fn find(&self, key: &str) -> Option<Position> {
        self.nearest(key).0.map(|offset| position(self.text, offset))
    }

    /// The offset of `key`, or of its nearest parent that exists, and the rest of the key below that.
    fn nearest<'k>(&self, key: &'k str) -> (Option<usize>, &'k str) {
        let mut table = Some(self.document.get_ref());
        let mut array: Option<&[Spanned<DeValue<'_>>]> = None;
        let (mut rest, mut found) = (key, None);
        while !rest.is_empty() {
            let (value, after) = match (table, array) {
                (_, Some(items)) => {
                    let Some((index, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) else { break };
                    let Some(item) = index.parse().ok().and_then(|index: usize| items.get(index)) else { break };
                    found = Some(item.span().start);
                    (item, after)
                }
                (Some(entries), None) => {
                    let rest = rest.trim_start_matches('.');
                    let fitting = entries.iter().find_map(|(name, value)| {
                        let after = rest.strip_prefix(name.get_ref().as_ref())?;
                        (after.is_empty() || after.starts_with(['.', '['])).then_some((name.span().start, value, after))
                    });
                    let Some((start, value, after)) = fitting else { break };
                    found = Some(start);
                    (value, after)
                }
                (None, None) => break,
            };
            rest = after;
            table = value.get_ref().as_table();
            array = value.get_ref().as_array().map(|items| items.as_ref());
        }
        (found, rest)
    }

    /// Whether `key` itself is in the file, so that no default applies.
    pub(super) fn has(&self, key: &str) -> bool {
        let (found, rest) = self.nearest(key);
        found.is_some() && rest.is_empty()
    }

    /// `key` with the indices that it has in the file, where items that were cut out count.
    pub(super) fn as_written(&self, key: &str) -> String {
        let (mut path, mut written) = (String::new(), String::new());
        for part in key.split_inclusive(']') {
            let Some((before, index)) = part.strip_suffix(']').and_then(|part| part.rsplit_once('[')) else {
                written.push_str(part);
                break;
            };
            path.push_str(before);
            written.push_str(before);
            let mut number: usize = index.parse().unwrap_or(0);
            for cut in self.cut_indices.get(&path).into_iter().flatten() {
                number += usize::from(*cut <= number);
            }
            written.push_str(&format!("[{number}]"));
            path.push_str(&format!("[{index}]"));
        }
        written
    }
}

/// The position of a key such as `pools[0].members[2].backend` in the text of a config, or of its nearest parent that is
/// there.
pub fn position_of(text: &str, key: &str) -> Option<Position> {
    Places::of(text).find(key)
}

/// Whether a key itself is in the text, so that no default applies.
pub fn is_written(text: &str, key: &str) -> bool {
    Places::of(text).has(key)
}

/// The line and column of an offset.
pub(super) fn position(text: &str, offset: usize) -> Position {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Position { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
}
