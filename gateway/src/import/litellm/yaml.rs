//! Values of a LiteLLM config with their path.

use serde_json::Value;

use crate::import::draft::Millis;
use crate::import::finding::Findings;

/// A value and its path.
#[derive(Debug, Clone)]
pub(super) struct At<'v> {
    pub(super) value: &'v Value,
    pub(super) place: String,
}

impl<'v> At<'v> {
    /// The value of `key`, unless it is null.
    pub(super) fn get(&self, key: &str) -> Option<At<'v>> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(At { value, place: self.path(key) })
    }

    pub(super) fn path(&self, key: &str) -> String {
        let dot = if self.place.ends_with('#') { "" } else { "." };
        format!("{}{dot}{key}", self.place)
    }

    pub(super) fn items(&self) -> Vec<At<'v>> {
        let list = self.value.as_array().map_or(&[][..], Vec::as_slice);
        list.iter().enumerate().map(|(at, value)| At { value, place: format!("{}[{at}]", self.place) }).collect()
    }

    pub(super) fn entries(&self) -> Vec<(&'v str, At<'v>)> {
        let map = self.value.as_object();
        map.into_iter().flatten().map(|(key, value)| (key.as_str(), At { value, place: self.path(key) })).collect()
    }

    pub(super) fn text(&self) -> Option<String> {
        match self.value {
            Value::String(text) => Some(text.trim().to_owned()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            _ => None,
        }
    }

    /// The variable in a reference such as `os.environ/NAME`.
    pub(super) fn variable(&self) -> Option<&'v str> {
        self.value.as_str()?.trim().strip_prefix("os.environ/").map(str::trim).filter(|name| !name.is_empty())
    }

    /// A number of at least 0, also as text.
    pub(super) fn number(&self, findings: &mut Findings) -> Option<f64> {
        if let Some(name) = self.variable() {
            findings.manual(&self.place, "", format!("is in the variable {name}: set its value by hand"));
            return None;
        }
        let number = self.text().and_then(|text| text.parse::<f64>().ok()).filter(|number| number.is_finite() && *number >= 0.0);
        if number.is_none() {
            findings.unsupported(&self.place, "is not a number");
        }
        number
    }

    pub(super) fn whole(&self, findings: &mut Findings) -> Option<u64> {
        let number = self.number(findings)?;
        // Within bounds, as checked above.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let whole = (number <= 1e15).then(|| number.round() as u64);
        whole
    }

    /// Seconds, more than 0.
    pub(super) fn seconds(&self, findings: &mut Findings) -> Option<Millis> {
        let seconds = self.number(findings)?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let millis = (seconds.min(315_360_000.0) * 1_000.0).round() as u64;
        if millis == 0 {
            findings.unsupported(&self.place, "is 0; Spillway's default stays");
        }
        (millis > 0).then_some(Millis(millis))
    }

    pub(super) fn flag(&self) -> Option<bool> {
        self.text()?.to_ascii_lowercase().parse().ok()
    }

    /// Keys that the import doesn't know.
    pub(super) fn unknown(&self, known: &[&str], findings: &mut Findings) {
        for (key, at) in self.entries().into_iter().filter(|(key, at)| !known.contains(key) && !at.value.is_null()) {
            findings.unsupported(at.place, format!("'{key}' is not known to this import and was left out"));
        }
    }
}
