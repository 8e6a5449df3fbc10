//! `transform` of a pool or a consumer.

use http::{HeaderName, HeaderValue};
use spillway_plugins::transform::{HeaderChanges, PROTECTED, Transform, is_protected};

use super::checker::Checker;
use crate::config::Transforms;
use crate::config::raw::{RawHeaderChanges, RawTransform};

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
    Transforms {
        body,
        request: headers(raw.request_headers.as_ref(), &format!("{key}.request_headers"), check),
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
