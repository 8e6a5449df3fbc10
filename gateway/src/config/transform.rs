//! `transform` of a pool or a consumer: changes to its requests and their answers.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use spillway_plugins::transform::{HeaderChanges, PROTECTED, Transform, is_protected};

use super::checker::Checker;

/// Changes to requests: parameters of chats, completions, responses and messages, and headers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTransform {
    /// Parameters that get this value, whatever the caller sends.
    #[serde(default)]
    pub set: BTreeMap<String, Value>,
    /// Parameters that get this value if the caller sends none.
    #[serde(default)]
    pub default: BTreeMap<String, Value>,
    /// The maximum of a numeric parameter. A cap on `max_tokens` also applies to its other names, and is added if the
    /// caller sends none.
    #[serde(default)]
    pub cap: BTreeMap<String, f64>,
    /// Parameters that are removed.
    #[serde(default)]
    pub remove: Vec<String>,
    /// A system prompt that is put before everything a caller sends, in chat, responses and messages.
    pub system_prompt: Option<String>,
    /// Headers of requests to backends.
    pub request_headers: Option<RawHeaderChanges>,
    /// Headers of answers to callers.
    pub response_headers: Option<RawHeaderChanges>,
}

/// Headers added and removed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawHeaderChanges {
    /// Headers that get this value, whatever value they had.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Headers that are removed.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// Changes to requests and their answers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transforms {
    /// To requests' bodies.
    pub body: Transform,
    /// To requests' headers.
    pub request: HeaderChanges,
    /// The same in words: they distinguish what the cache keeps.
    pub request_in_words: Box<str>,
    /// To answers' headers.
    pub response: HeaderChanges,
}

pub(super) fn read(raw: Option<&RawTransform>, key: &str, check: &mut Checker<'_>) -> Transforms {
    let Some(raw) = raw else { return Transforms::default() };
    for (list, names) in [
        ("set", raw.set.keys().collect::<Vec<_>>()),
        ("default", raw.default.keys().collect()),
        ("cap", raw.cap.keys().collect()),
        ("remove", raw.remove.iter().collect()),
    ] {
        for name in names.into_iter().filter(|name| PROTECTED.contains(&name.as_str())) {
            check.problem(&format!("{key}.{list}"), format!("'{name}' must not be changed: the gateway itself depends on it"));
        }
    }
    for name in raw.remove.iter().filter(|name| raw.set.contains_key(*name) || raw.default.contains_key(*name)) {
        check.problem(&format!("{key}.remove"), format!("'{name}' is both removed and given a value"));
    }
    for (name, _) in raw.cap.iter().filter(|(_, most)| !most.is_finite()) {
        check.problem(&format!("{key}.cap"), format!("the cap of '{name}' is not a number"));
    }
    for (name, most) in &raw.cap {
        let given = raw.set.get(name).or_else(|| raw.default.get(name)).and_then(serde_json::Value::as_f64);
        if given.is_some_and(|given| given > *most) {
            check.problem(&format!("{key}.cap"), format!("'{name}' is set to more than its cap here"));
        }
    }
    let body = Transform {
        set: raw.set.clone().into_iter().collect(),
        default: raw.default.clone().into_iter().collect(),
        cap: raw.cap.clone().into_iter().collect(),
        remove: raw.remove.clone(),
        system: raw.system_prompt.clone().filter(|text| !text.is_empty()),
    };
    let request = headers(raw.request_headers.as_ref(), &format!("{key}.request_headers"), check);
    Transforms {
        body,
        request_in_words: request.in_words().into(),
        request,
        response: headers(raw.response_headers.as_ref(), &format!("{key}.response_headers"), check),
    }
}

fn headers(raw: Option<&RawHeaderChanges>, key: &str, check: &mut Checker<'_>) -> HeaderChanges {
    let Some(raw) = raw else { return HeaderChanges::default() };
    let mut changes = HeaderChanges::default();
    for (name, value) in &raw.set {
        let Some(name) = self::name(name, &format!("{key}.set"), check) else { continue };
        match HeaderValue::from_str(value) {
            Ok(value) => changes.set.push((name, value)),
            Err(_) => check.problem(&format!("{key}.set"), format!("the value of '{name}' is not valid in a header")),
        }
    }
    changes.remove = raw.remove.iter().filter_map(|name| self::name(name, &format!("{key}.remove"), check)).collect();
    changes
}

fn name(text: &str, key: &str, check: &mut Checker<'_>) -> Option<HeaderName> {
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        check.problem(key, format!("'{text}' is not a header name"));
        return None;
    };
    if is_protected(name.as_str()) {
        check.problem(key, format!("'{name}' must not be changed: the gateway sets it"));
        return None;
    }
    Some(name)
}
