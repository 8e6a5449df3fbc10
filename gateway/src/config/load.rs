//! Reads the TOML and finds everything that is structurally wrong with it, not only the first.
//!
//! Serde stops at its first error. So each error's item is cut out of the parsed document and the
//! rest is read again, until what is left can be read; that rest is then checked for meaning too.

use std::collections::BTreeSet;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::error::{Position, Problem, did_you_mean};
use super::raw::RawConfig;

/// What could be read of a file.
pub(super) struct Loaded<'t> {
    /// What was left after everything wrong was cut out; `None` if nothing could be read.
    pub(super) raw: Option<RawConfig>,
    /// What was cut out.
    pub(super) problems: Vec<Problem>,
    /// Names of things that were cut out whole: references to them are no further errors.
    pub(super) broken: BTreeSet<String>,
    /// Positions of what was read.
    pub(super) places: Places<'t>,
}

/// Finds keys in the parsed document.
pub(super) struct Places<'t> {
    text: &'t str,
    document: Spanned<DeTable<'t>>,
}

impl Places<'_> {
    /// Where `key` (`pools[0].members[2].backend`) stands, or its nearest parent that exists.
    pub(super) fn find(&self, key: &str) -> Option<Position> {
        let mut table = Some(self.document.get_ref());
        let mut array: Option<&[Spanned<DeValue<'_>>]> = None;
        let mut found = None;
        for step in key.split(['.', '[']).map(|step| step.trim_end_matches(']')) {
            let value = match (table, array, step.parse::<usize>()) {
                (_, Some(items), Ok(index)) => {
                    let Some(item) = items.get(index) else { break };
                    found = Some(item.span().start);
                    item
                }
                (Some(entries), _, _) => {
                    let Some((name, value)) = entries.iter().find(|(name, _)| name.get_ref().as_ref() == step) else { break };
                    found = Some(name.span().start);
                    value
                }
                _ => break,
            };
            table = value.get_ref().as_table();
            array = value.get_ref().as_array().map(|items| items.as_ref());
        }
        found.map(|offset| position(self.text, offset))
    }
}

fn position(text: &str, offset: usize) -> Position {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Position { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
}

/// Most errors that are told; a file with more is no config.
const MOST: usize = 200;

pub(super) fn load(text: &str) -> Loaded<'_> {
    let (mut document, syntax) = DeTable::parse_recoverable(text);
    let mut problems: Vec<Problem> = syntax
        .iter()
        .map(|error| Problem {
            position: error.span().map(|span| position(text, span.start)),
            key: String::new(),
            message: format!("not valid TOML: {}", error.message().trim()),
        })
        .collect();
    let mut broken = BTreeSet::new();
    let mut raw = None;
    while raw.is_none() && problems.len() < MOST {
        match RawConfig::deserialize(Deserializer::from(document.clone())) {
            Ok(config) => raw = Some(config),
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                let cut = cut_out(document.get_mut(), &span, "");
                problems.push(Problem {
                    position: Some(position(text, span.start)),
                    key: cut.as_ref().map_or(String::new(), |cut| cut.key.clone()),
                    message: explain(error.message()),
                });
                match cut {
                    Some(cut) => broken.extend(cut.name),
                    None => break,
                }
            }
        }
    }
    Loaded { raw, problems, broken, places: Places { text, document } }
}

struct Cut {
    key: String,
    name: Option<String>,
}

/// Removes the innermost item whose key or value is at `span`.
fn cut_out(table: &mut DeTable<'_>, span: &std::ops::Range<usize>, path: &str) -> Option<Cut> {
    let inside = |outer: std::ops::Range<usize>| outer.start <= span.start && span.end <= outer.end;
    let names: Vec<String> = table.keys().map(|key| key.get_ref().to_string()).collect();
    for name in names {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let (key_span, value) = table.iter_mut().find(|(k, _)| k.get_ref().as_ref() == name).map(|(k, v)| (k.span(), v))?;
        let value_span = value.span();
        if key_span != *span {
            let deeper = match value.get_mut() {
                DeValue::Table(inner) => cut_out(inner, span, &key),
                DeValue::Array(items) => cut_out_of_array(items, span, &key),
                _ => None,
            };
            if deeper.is_some() {
                return deeper;
            }
            if !inside(value_span) {
                continue;
            }
        }
        let removed = table.remove(name.as_str())?;
        return Some(Cut { key, name: name_of(removed.get_ref()) });
    }
    None
}

fn cut_out_of_array(items: &mut toml::de::DeArray<'_>, span: &std::ops::Range<usize>, path: &str) -> Option<Cut> {
    for index in 0..items.len() {
        let key = format!("{path}[{index}]");
        let item = items.get_mut(index)?;
        let item_span = item.span();
        if let DeValue::Table(inner) = item.get_mut()
            && let Some(cut) = cut_out(inner, span, &key)
        {
            return Some(cut);
        }
        if item_span.start <= span.start && span.end <= item_span.end {
            let name = name_of(item.get_ref());
            *items = items.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, item)| item.clone()).collect();
            return Some(Cut { key, name });
        }
    }
    None
}

fn name_of(value: &DeValue<'_>) -> Option<String> {
    value.as_table()?.get("name")?.get_ref().as_str().map(str::to_owned)
}

/// Serde's words, with the nearest known name for an unknown one.
fn explain(message: &str) -> String {
    let message = message.trim();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match (message.starts_with("unknown field"), message.starts_with("unknown variant"), quoted.split_first()) {
        (true, _, Some((given, known))) => format!("unknown key{}{}", did_you_mean(given, known.iter().copied()), expected(known)),
        (_, true, Some((given, known))) => {
            format!("unknown value '{given}'{}{}", did_you_mean(given, known.iter().copied()), expected(known))
        }
        _ if message.starts_with("missing field") => {
            format!("{} is missing", quoted.first().map_or_else(String::new, |name| format!("'{name}'")))
        }
        _ => message.to_owned(),
    }
}

fn expected(known: &[&str]) -> String {
    if known.is_empty() { String::new() } else { format!(" (known: {})", known.join(", ")) }
}
