//! Short values of the config: durations, sizes, statuses and references to secrets.
//!
//! Each parses itself from TOML with an error that names what was expected, and describes itself in the JSON Schema.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use spillway_plugins::retry::StatusRange;

/// A duration such as `"250ms"`, `"30s"`, `"5m"`, `"1h"` or `"7d"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurationText(pub Duration);

/// A number of bytes such as `"64KiB"`, `"32MiB"` or `"1GiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeText(pub usize);

/// A point in time: `"2027-01-31"` (its beginning, in UTC) or `"2027-01-31T12:00:00Z"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeText(pub DateTime<Utc>);

/// A status (`429`) or a range of them (`"500-599"`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusText(pub StatusRange);

const DURATION: &str = r#"a duration such as "250ms", "30s", "5m", "1h" or "7d""#;
const SIZE: &str = r#"a size such as "64KiB", "32MiB" or "1GiB""#;

const TIME: &str = r#"a time such as "2027-01-31" or "2027-01-31T12:00:00Z""#;

impl FromStr for TimeText {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let day = || Some(text.parse::<NaiveDate>().ok()?.and_hms_opt(0, 0, 0)?.and_utc());
        let at = DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc());
        at.or_else(day).map(TimeText).ok_or(TIME)
    }
}

/// Splits `12ms` into `12` and `ms`.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).filter(|len| *len > 0)?;
    Some((text[..digits].parse().ok()?, text[digits..].trim_start()))
}

impl FromStr for DurationText {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (number, unit) = number_and_unit(text.trim()).ok_or(DURATION)?;
        let millis = match unit {
            "ms" => Some(number),
            "s" => number.checked_mul(1_000),
            "m" => number.checked_mul(60_000),
            "h" => number.checked_mul(3_600_000),
            "d" => number.checked_mul(86_400_000),
            _ => None,
        };
        // Ten years: more is a mistake, and would overflow timers.
        millis.filter(|ms| *ms <= 315_360_000_000).map(|ms| DurationText(Duration::from_millis(ms))).ok_or(DURATION)
    }
}

impl FromStr for SizeText {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (number, unit) = number_and_unit(text.trim()).ok_or(SIZE)?;
        let factor: u64 = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(SIZE),
        };
        number.checked_mul(factor).and_then(|bytes| usize::try_from(bytes).ok()).map(SizeText).ok_or(SIZE)
    }
}

/// Deserializes a text through its `FromStr`, naming what was expected.
macro_rules! from_text {
    ($type:ty, $expected:expr, $name:literal, $pattern:literal, $description:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $description })
            }
        }
    };
}

from_text!(DurationText, DURATION, "Duration", "^[0-9]+ ?(ms|s|m|h|d)$", DURATION);
from_text!(SizeText, SIZE, "Size", "^[0-9]+ ?(B|KiB|MiB|GiB)$", SIZE);
from_text!(TimeText, TIME, "Time", "^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].+)?$", TIME);

impl<'de> Deserialize<'de> for StatusText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Status;
        impl Visitor<'_> for Status {
            type Value = StatusText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"an HTTP status such as 429 or a range such as "500-599""#)
            }
            fn visit_i64<E: de::Error>(self, code: i64) -> Result<StatusText, E> {
                code.to_string().parse().map(StatusText).map_err(|_| E::invalid_value(de::Unexpected::Signed(code), &self))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<StatusText, E> {
                text.parse().map(StatusText).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Status)
    }
}

impl JsonSchema for StatusText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Status".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "oneOf": [
            { "type": "integer", "minimum": 100, "maximum": 999 },
            { "type": "string", "pattern": "^[1-9][0-9]{2}(-[1-9][0-9]{2})?$" }
        ] })
    }
}

/// Where a secret is to be found. `Debug` never shows a literal.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretText {
    /// In the config itself, where `server.allow_literal_secrets` permits it.
    Literal(String),
    /// In an environment variable.
    Env(String),
    /// In a file.
    File(String),
    /// In a systemd credential (`LoadCredential=`).
    Credential(String),
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretText::Literal(_) => f.write_str("Literal(…)"),
            SecretText::Env(name) => write!(f, "Env({name})"),
            SecretText::File(path) => write!(f, "File({path})"),
            SecretText::Credential(name) => write!(f, "Credential({name})"),
        }
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Secret;
        impl<'de> Visitor<'de> for Secret {
            type Value = SecretText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a reference to a secret: { env = "NAME" }, { file = "/path" } or { credential = "name" }"#)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretText, E> {
                Ok(SecretText::Literal(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretText, A::Error> {
                let mut found = None;
                while let Some(key) = map.next_key::<String>()? {
                    let value = map.next_value::<String>()?;
                    let secret = match key.as_str() {
                        "env" => SecretText::Env(value),
                        "file" => SecretText::File(value),
                        "credential" => SecretText::Credential(value),
                        _ => return Err(de::Error::unknown_field(&key, &["env", "file", "credential"])),
                    };
                    if found.replace(secret).is_some() {
                        return Err(de::Error::custom("a secret comes from one place: give one of env, file or credential"));
                    }
                }
                found.ok_or_else(|| de::Error::invalid_value(de::Unexpected::Map, &self))
            }
        }
        deserializer.deserialize_any(Secret)
    }
}

impl JsonSchema for SecretText {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = |name: &str| json_schema!({ "type": "object", "properties": { name: { "type": "string" } }, "required": [name], "additionalProperties": false });
        json_schema!({
            "description": "Where a secret is to be found: an environment variable, a file or a systemd credential. A literal only where server.allow_literal_secrets permits it.",
            "oneOf": [one("env"), one("file"), one("credential"), { "type": "string" }]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        let ms = |text: &str| text.parse::<DurationText>().ok().map(|d| d.0.as_millis());
        assert_eq!(
            [ms("250ms"), ms("30s"), ms("5m"), ms("1h"), ms("7d"), ms("0s")],
            [Some(250), Some(30_000), Some(300_000), Some(3_600_000), Some(604_800_000), Some(0)]
        );
        for bad in ["", "5", "s", "-1s", "1.5s", "5 weeks", "99999999999d"] {
            assert_eq!(ms(bad), None, "{bad}");
        }
        let size = |text: &str| text.parse::<SizeText>().ok().map(|s| s.0);
        assert_eq!(
            [size("10B"), size("64KiB"), size("32MiB"), size("32MB"), size("32")],
            [Some(10), Some(65_536), Some(33_554_432), None, None]
        );
    }

    #[test]
    fn times() {
        let at = |text: &str| text.parse::<TimeText>().ok().map(|at| at.0.timestamp());
        assert_eq!([at("1970-01-02"), at("1970-01-01T00:00:05Z"), at("1970-01-01T01:00:00+01:00")], [Some(86_400), Some(5), Some(0)]);
        for bad in ["", "tomorrow", "2027-13-01", "2027-01-01T10:00"] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }

    #[test]
    fn debug_hides_literals() {
        assert!(!format!("{:?}", SecretText::Literal("hunter2".into())).contains("hunter2"));
    }
}
