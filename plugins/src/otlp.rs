//! What OpenTelemetry collectors read: OTLP over HTTP in its JSON encoding, as spans and log events have it in common.
//!
//! Source: opentelemetry-proto 1.x and its JSON mapping: ids in hexadecimal, numbers of 64 bits as texts.
//!
//! Written directly as bytes, without a tree of values: a busy gateway has thousands of spans a second.

use std::borrow::Cow;
use std::io::Write as _;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value as Json;

use crate::semconv;

/// The process that sends.
#[derive(Debug, Clone, Copy)]
pub struct Resource<'r> {
    /// The program's version.
    pub version: &'r str,
    /// The name of the process, if it has one.
    pub instance: Option<&'r str>,
}

impl Resource<'_> {
    /// Writes its attributes, `[…]`.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>) {
        Attributes::write(bytes, |attributes| {
            attributes.add(semconv::SERVICE_NAME, "spillway".into());
            attributes.add(semconv::SERVICE_VERSION, self.version.into());
            attributes.add_known(semconv::SERVICE_INSTANCE, self.instance);
        });
    }
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'v> {
    /// A text.
    Text(Cow<'v, str>),
    /// A count.
    Count(u64),
    /// A time.
    Seconds(Duration),
    /// Yes or no.
    Flag(bool),
}

impl<'v, T: Into<Cow<'v, str>>> From<T> for Value<'v> {
    fn from(text: T) -> Self {
        Value::Text(text.into())
    }
}

/// Accepts attributes.
pub trait AddAttribute {
    /// Adds one.
    fn add(&mut self, name: &'static str, value: Value<'_>);

    /// Adds one, if it has a value.
    fn add_known<'v>(&mut self, name: &'static str, value: Option<impl Into<Value<'v>>>) {
        if let Some(value) = value {
            self.add(name, value.into());
        }
    }
}

/// Writes attributes.
pub(crate) struct Attributes<'b> {
    bytes: &'b mut Vec<u8>,
    any: bool,
}

impl<'b> Attributes<'b> {
    /// Writes the list that `fill` makes, `[…]`.
    pub(crate) fn write(bytes: &'b mut Vec<u8>, fill: impl FnOnce(&mut Attributes<'_>)) {
        bytes.push(b'[');
        let mut attributes = Attributes { bytes, any: false };
        fill(&mut attributes);
        attributes.bytes.push(b']');
    }

    /// Adds a value of any form; `null` is no attribute.
    pub(crate) fn add_json(&mut self, name: &str, value: &Json) {
        if !value.is_null() {
            self.begin(name);
            any_value(self.bytes, value);
            self.bytes.push(b'}');
        }
    }

    fn begin(&mut self, name: &str) {
        let begin: &[u8] = if self.any { b",{\"key\":" } else { b"{\"key\":" };
        self.any = true;
        self.bytes.extend_from_slice(begin);
        json(self.bytes, name);
        self.bytes.extend_from_slice(b",\"value\":");
    }
}

impl AddAttribute for Attributes<'_> {
    fn add(&mut self, name: &'static str, value: Value<'_>) {
        self.begin(name);
        // Writing to memory doesn't fail.
        let _ = match value {
            Value::Text(text) => {
                self.bytes.extend_from_slice(b"{\"stringValue\":");
                json(self.bytes, &*text);
                self.bytes.write_all(b"}}")
            }
            Value::Count(count) => write!(self.bytes, "{{\"intValue\":\"{count}\"}}}}"),
            Value::Seconds(time) => write!(self.bytes, "{{\"doubleValue\":{}}}}}", time.as_secs_f64()),
            Value::Flag(flag) => write!(self.bytes, "{{\"boolValue\":{flag}}}}}"),
        };
    }
}

/// Writes a value of any form; parts of it that are `null` are left out.
fn any_value(bytes: &mut Vec<u8>, value: &Json) {
    let _ = match value {
        Json::Null => bytes.write_all(b"{}"),
        Json::Bool(flag) => write!(bytes, "{{\"boolValue\":{flag}}}"),
        Json::Number(number) if number.is_i64() || number.is_u64() => write!(bytes, "{{\"intValue\":\"{number}\"}}"),
        Json::Number(number) => write!(bytes, "{{\"doubleValue\":{number}}}"),
        Json::String(text) => {
            bytes.extend_from_slice(b"{\"stringValue\":");
            json(bytes, text.as_str());
            bytes.write_all(b"}")
        }
        Json::Array(list) => {
            bytes.extend_from_slice(b"{\"arrayValue\":{\"values\":[");
            for (index, value) in list.iter().filter(|value| !value.is_null()).enumerate() {
                if index > 0 {
                    bytes.push(b',');
                }
                any_value(bytes, value);
            }
            bytes.write_all(b"]}}")
        }
        Json::Object(members) => {
            bytes.extend_from_slice(b"{\"kvlistValue\":{\"values\":");
            Attributes::write(bytes, |attributes| members.iter().for_each(|(name, value)| attributes.add_json(name, value)));
            bytes.write_all(b"}}")
        }
    };
}

/// Writes a text as JSON: texts can always be serialised.
pub(crate) fn json(bytes: &mut Vec<u8>, text: &(impl Serialize + ?Sized)) {
    let _ = serde_json::to_writer(bytes, text);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_of_any_form_is_written_as_the_mapping_says() {
        let mut bytes = Vec::new();
        Attributes::write(&mut bytes, |attributes| {
            attributes.add_json("nothing", &Json::Null);
            attributes.add_json("deep", &json!([null, { "a": null, "b": -1, "c\"": [true, 0.5, "x"] }]));
            attributes.add_json("text", &json!("\u{1}"));
            attributes.add("count", Value::Count(u64::MAX));
        });
        let written: Json = serde_json::from_slice(&bytes).unwrap();
        let inner = json!({ "kvlistValue": { "values": [
            { "key": "b", "value": { "intValue": "-1" } },
            { "key": "c\"", "value": { "arrayValue": { "values": [{ "boolValue": true }, { "doubleValue": 0.5 }, { "stringValue": "x" }] } } },
        ] } });
        assert_eq!(
            written,
            json!([
                { "key": "deep", "value": { "arrayValue": { "values": [inner] } } },
                { "key": "text", "value": { "stringValue": "\u{1}" } },
                { "key": "count", "value": { "intValue": "18446744073709551615" } },
            ])
        );
    }
}
