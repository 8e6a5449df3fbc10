//! Converts whole answers into streams.

pub(super) mod choices;
pub(super) mod messages;
pub(super) mod responses;

use bytes::Bytes;
use serde_json::{Map, Value};

/// An answer, or a part of one.
type Object = Map<String, Value>;

/// The bytes of a stream.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// Adds an event without a name. Its JSON has no line ends, so it is one line.
    fn data(&mut self, data: impl std::fmt::Display) {
        self.0.extend_from_slice(format!("data: {data}\n\n").as_bytes());
    }

    /// Adds an event whose name is also its `type`.
    fn named(&mut self, kind: &str, mut fields: Object) {
        fields.insert("type".to_owned(), kind.into());
        self.0.extend_from_slice(format!("event: {kind}\n").as_bytes());
        self.data(Value::from(fields));
    }

    fn finish(self) -> Bytes {
        self.0.into()
    }
}

/// An object of these fields.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Object {
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// A field's text, if it isn't empty.
fn filled<'a>(from: &'a Object, key: &str) -> Option<&'a str> {
    from.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// A field's elements.
fn list<'a>(from: &'a Object, key: &str) -> &'a [Value] {
    from.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
