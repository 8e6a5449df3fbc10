//! Reads the TOML and finds all of its structural errors, not only the first.
//!
//! Serde stops at its first error. So each wrong item is cut out of the parsed document and the rest is read again,
//! until it has no more errors. The rest is then validated, too.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use toml::de::{DeTable, DeValue, Deserializer};

use super::error::{Problem, did_you_mean};
use super::places::{Places, position};
use super::raw::RawConfig;

/// The result of reading a file.
pub(super) struct Loaded<'t> {
    /// The rest after all wrong items were cut out; `None` if nothing could be read.
    pub(super) raw: Option<RawConfig>,
    /// The errors.
    pub(super) problems: Vec<Problem>,
    /// Names of items that were cut out as a whole: references to them are not further errors.
    pub(super) broken: BTreeSet<String>,
    /// Positions of the keys.
    pub(super) places: Places<'t>,
}

/// What other programs and the docs call a key, and its name here.
const OTHER_NAMES: [(&str, &str); 11] = [
    ("tier", "priority"),
    ("endpoint", "url"),
    ("base_url", "url"),
    ("api_base", "url"),
    ("api_key", "auth"),
    ("key", "auth"),
    ("type", "kind"),
    ("provider", "kind"),
    ("region", "location"),
    ("rpm", "requests_per_minute"),
    ("tpm", "tokens_per_minute"),
];

/// Most errors that are reported; a file with more is not a config.
const MOST: usize = 200;

pub(super) fn load(text: &str) -> Loaded<'_> {
    let (document, syntax) = DeTable::parse_recoverable(text);
    let mut broken = BTreeSet::new();
    let mut raw = None;
    let mut places = Places { text, document, cut_indices: BTreeMap::new() };
    // What the parser makes of the rest depends on what it guessed there: only the first error is sure to be one.
    if let Some(error) = syntax.iter().min_by_key(|error| error.span().map(|span| span.start)) {
        let position = error.span().map(|span| position(text, span.start));
        let message = format!("not valid TOML: {}", error.message().trim());
        return Loaded { raw, problems: vec![Problem { position, key: String::new(), message }], broken, places };
    }
    let mut problems = Vec::new();
    let mut cut_keys = BTreeSet::new();
    while raw.is_none() && problems.len() < MOST {
        let error = match RawConfig::deserialize(Deserializer::from(places.document.clone())) {
            Ok(config) => {
                raw = Some(config);
                break;
            }
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        let Some(cut) = cut_out(places.document.get_mut(), &span, "") else {
            problems.push(Problem { position: Some(position(text, span.start)), key: String::new(), message: explain(error.message()) });
            break;
        };
        // A key that is missing only because it was cut out is not a further error.
        let missing = missing_field(error.message()).map(|field| format!("{}.{field}", cut.key));
        if !missing.is_some_and(|key| cut_keys.contains(&key)) {
            let key = places.as_written(&cut.key);
            problems.push(Problem { position: Some(position(text, span.start)), key, message: explain(error.message()) });
        }
        if let Some((array, index)) = cut.key.strip_suffix(']').and_then(|key| key.rsplit_once('[')) {
            let written = places.as_written(&cut.key);
            let number =
                written.strip_suffix(']').and_then(|key| key.rsplit_once('[')).map_or(index, |(_, number)| number).parse().unwrap_or(0);
            places.cut_indices.entry(array.to_owned()).or_default().insert(number);
        }
        broken.extend(cut.name);
        cut_keys.insert(cut.key);
    }
    Loaded { raw, problems, broken, places }
}

fn missing_field(message: &str) -> Option<&str> {
    message.trim().strip_prefix("missing field `")?.strip_suffix('`')
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

/// Serde's message, with the nearest known name for an unknown one.
fn explain(message: &str) -> String {
    let message = message.trim();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match (message.starts_with("unknown field"), message.starts_with("unknown variant"), quoted.split_first()) {
        (true, _, Some((given, known))) => {
            let other = OTHER_NAMES.iter().find(|(name, ours)| name == given && known.contains(ours));
            let meant = other.map_or_else(|| did_you_mean(given, known.iter().copied()), |(_, ours)| format!("; did you mean '{ours}'?"));
            format!("unknown key{meant}{}", expected(known))
        }
        (_, true, Some((given, known))) => {
            format!("unknown value '{given}'{}{}", did_you_mean(given, known.iter().copied()), expected(known))
        }
        _ if message.starts_with("missing field") => {
            format!("{} is missing", quoted.first().map_or_else(String::new, |name| format!("'{name}'")))
        }
        _ => in_plain_words(message),
    }
}

/// Serde's message, with TOML's names for types instead of Rust's.
fn in_plain_words(message: &str) -> String {
    let Some((before, expected)) = message.rsplit_once(", expected ") else { return message.to_owned() };
    // A text in the wrong place may be a secret: it is not repeated.
    let before = if before.starts_with("invalid type: string") { "invalid type: a text" } else { before };
    let is_out_of_range = before.starts_with("invalid value: integer");
    let plain = match expected {
        "u8" if is_out_of_range => "a whole number from 0 to 255",
        "u16" if is_out_of_range => "a whole number from 0 to 65535",
        "u32" if is_out_of_range => "a whole number from 0 to 4294967295",
        "u64" | "usize" if is_out_of_range => "a whole number of at least 0",
        "u8" | "u16" | "u32" | "u64" | "usize" | "i64" => "a whole number",
        "f64" => "a number",
        "a sequence" => "a list",
        "a map" => "a table",
        other if other.starts_with("struct ") || other.contains("enum ") => "a table",
        other => other,
    };
    format!("{}, expected {plain}", before.replace("sequence", "list").replace("map", "table"))
}

fn expected(known: &[&str]) -> String {
    if known.is_empty() { String::new() } else { format!(" (known: {})", known.join(", ")) }
}
