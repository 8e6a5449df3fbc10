//! Things that a backend stores and names: responses, conversations, files, batches. What a request
//! refers to, and what an answer made.
//!
//! Such a thing lives at one resource and belongs to one consumer; this module only finds the names.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::json::{Interest, Kind, Reader, Value};
use crate::request::RequestFields;

/// Longest name of a stored thing that is believed to be one.
const LONGEST: usize = 256;

/// Whether a text can be the name of a stored thing: letters, digits and what joins them.
pub fn is_name(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Reads names out of a text's top level.
fn top_level(text: &[u8], mut found: impl FnMut(&str, &Value)) {
    // What comes before a syntax error, or the end of a prefix, was read.
    let _ = Reader::new(text).object(|key, value| found(key, &value));
}

fn name(text: &[u8], value: &Value) -> Option<String> {
    value.as_str(text).filter(|name| is_name(name)).map(std::borrow::Cow::into_owned)
}

/// The names of what an answer made, from its beginning: its own `id`, those of a response's items, and of
/// a batch the files that it wrote.
pub fn made(answer: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    top_level(answer, |key, value| match key {
        "id" | "output_file_id" | "error_file_id" => names.extend(name(answer, value)),
        "output" if value.kind == Kind::Array => {
            let _ = Reader::within(answer, value).array(|item| names.extend(own_name(answer, &item)));
        }
        _ => {}
    });
    names
}

/// The `id` of an object inside of a text.
pub(crate) fn own_name(text: &[u8], object: &Value) -> Option<String> {
    let mut id = None;
    if object.kind == Kind::Object {
        let _ = Reader::within(text, object).object(|key, value| {
            if key == "id" {
                id = name(text, &value);
            }
        });
    }
    id
}

/// What a request body refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// The names of stored things.
    pub names: Vec<String>,
    /// A name that can't be one.
    pub malformed: bool,
    /// The caller doesn't want its answer stored.
    pub unstored: bool,
}

impl References {
    fn take(&mut self, text: &[u8], value: &Value) {
        match name(text, value) {
            Some(name) => self.names.push(name),
            None if value.kind == Kind::Null => {}
            None => self.malformed = true,
        }
    }

    /// Reads a member of a request's top level that may refer to something.
    pub(crate) fn member(&mut self, text: &[u8], key: &str, value: &Value) {
        match key {
            "previous_response_id" | "input_file_id" => self.take(text, value),
            "conversation" if value.kind == Kind::Object => self.names.extend(own_name(text, value)),
            "conversation" => self.take(text, value),
            "store" => self.unstored = value.as_bool(text) == Some(false),
            _ => {}
        }
    }
}

/// What tells that references stand deeper than at the top level.
pub(crate) static DEEPER: Interest = Interest { keys: &["file_id", "file_ids"], texts: &["item_reference"] };

/// Adds what stands deeper in a body to what `fields` found at its top level: every `file_id`, `file_ids`
/// and item reference. One more pass, only where the first has seen one of these words.
pub fn references(fields: &RequestFields, body: &[u8]) -> References {
    let mut found = fields.references.clone();
    if fields.refers_deeper {
        let mut whole = serde_json::Deserializer::from_slice(body);
        // The body was read as valid JSON; what this can't read is deeper than any API's.
        found.malformed |= Walk { found: &mut found, expect: Expect::Anything }.deserialize(&mut whole).is_err();
    }
    found.names.sort_unstable();
    found.names.dedup();
    found
}

/// What the value of a key is taken for.
enum Expect<'e> {
    /// Nothing in particular.
    Anything,
    /// The name of a stored thing, or a list of them.
    Name,
    /// A text, kept here.
    Text(&'e mut Option<String>),
}

/// One pass over a body, however deep it is.
struct Walk<'f, 'e> {
    found: &'f mut References,
    expect: Expect<'e>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        match self.expect {
            Expect::Anything => {}
            Expect::Name if is_name(text) => self.found.names.push(text.to_owned()),
            Expect::Name => self.found.malformed = true,
            Expect::Text(kept) => *kept = Some(text.to_owned()),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let names = matches!(self.expect, Expect::Name);
        while list.next_element_seed(Walk { found: self.found, expect: if names { Expect::Name } else { Expect::Anything } })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut kind, mut id) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            let expect = match key.as_str() {
                // Schemas, and what only the caller or the model reads: a `file_id` there is none.
                "parameters" | "schema" | "metadata" | "annotations" => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                "file_id" | "file_ids" => Expect::Name,
                "type" => Expect::Text(&mut kind),
                "id" => Expect::Text(&mut id),
                _ => Expect::Anything,
            };
            map.next_value_seed(Walk { found: self.found, expect })?;
        }
        match (kind.as_deref(), id) {
            (Some("item_reference"), Some(id)) if is_name(&id) => self.found.names.push(id),
            (Some("item_reference"), _) => self.found.malformed = true,
            _ => {}
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::read_fields;

    fn references(body: &[u8]) -> References {
        super::references(&read_fields(body).unwrap(), body)
    }

    #[test]
    fn answers_tell_what_they_made() {
        assert_eq!(made(br#"{"id":"resp_1","object":"response","output":[{"id":"msg_1"},{"type":"x"}]}"#), ["resp_1", "msg_1"]);
        assert_eq!(made(br#"{"object":"batch","id":"batch_1","output_file_id":"file-2","error_file_id":null}"#), ["batch_1", "file-2"]);
        assert_eq!(made(br#"{"id":"resp_1","output":[{"text":"a long on"#), ["resp_1"], "the beginning is enough");
        for nothing in [&b"<html>"[..], b"", b"[]", br#"{"id":7}"#, br#"{"id":"a b"}"#, br#"{"x":{"id":"resp_1"}}"#] {
            assert!(made(nothing).is_empty());
        }
    }

    #[test]
    fn depth_costs_one_pass() {
        // Quadratic work would take minutes here.
        let body = "[".repeat(120) + &"0,".repeat(2_000_000) + "{\"file_id\":\"file-1\"}" + &"]".repeat(120);
        assert_eq!(references(format!("{{\"a\":{body}}}").as_bytes()).names, ["file-1"]);
    }

    #[test]
    fn requests_tell_what_they_refer_to() {
        let names = |body: &str| references(body.as_bytes()).names;
        assert_eq!(names(r#"{"previous_response_id":"resp_1","input":"x"}"#), ["resp_1"]);
        assert_eq!(names(r#"{"conversation":"conv_1"}"#), ["conv_1"]);
        assert_eq!(names(r#"{"conversation":{"id":"conv_1"},"previous_response_id":null}"#), ["conv_1"]);
        assert_eq!(names(r#"{"input_file_id":"file-1","endpoint":"/v1/responses"}"#), ["file-1"]);
        let nested = r#"{"input":[{"role":"user","content":[{"type":"input_file","file_id" : "file-2"},{"file_id":"file-1"},{"file_id":"file-1"}]}]}"#;
        assert_eq!(names(nested), ["file-1", "file-2"]);
        assert!(names(r#"{"input":"say \"file_id\": \"file-1\" aloud"}"#).is_empty(), "a text is no reference");
        assert!(names(r#"{"input":["file_id","file-1"]}"#).is_empty());
        assert_eq!(names(r#"{"input":[[{"fil\u0065_id":"file-\u0031"}]]}"#), ["file-1"], "escapes hide nothing");
        let tools = r#"{"tools":[{"type":"code_interpreter","container":{"type":"auto","file_ids":["file-1","file-2"]}}]}"#;
        assert_eq!(names(tools), ["file-1", "file-2"]);
        assert_eq!(names(r#"{"input":[{"type":"item_reference","id":"msg_1"},{"id":"msg_2","type":"message"}]}"#), ["msg_1"]);
        // What looks like a reference and is none.
        for innocent in [
            r#"{"tools":[{"function":{"parameters":{"properties":{"file_id":{"type":"string"}},"required":["file_id"]}}}]}"#,
            r#"{"text":{"format":{"schema":{"properties":{"file_id":{"const":"a b"}}}}}}"#,
            r#"{"metadata":{"file_id":"42 !"}}"#,
            r#"{"input":[{"content":[{"annotations":[{"file_id":"cfile_1"}]}]}]}"#,
            r#"{"a":{"file_id":{"type":"string"}},"b":{"file_id":null}}"#,
        ] {
            assert_eq!(references(innocent.as_bytes()), References::default(), "{innocent}");
        }
        for malformed in [
            r#"{"previous_response_id":7}"#,
            r#"{"previous_response_id":"../x"}"#,
            r#"{"a":{"file_id":"a/b"}}"#,
            r#"{"input":[{"type":"item_reference"}]}"#,
        ] {
            assert!(references(malformed.as_bytes()).malformed, "{malformed}");
        }
        assert!(references(br#"{"store":false}"#).unstored && !references(br#"{"store":true}"#).unstored);
    }
}
