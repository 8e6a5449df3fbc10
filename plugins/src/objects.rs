//! Things that a backend stores and names: responses, conversations, files, batches. What a request
//! refers to, and what an answer made.
//!
//! Such a thing lives at one resource and belongs to one consumer; this module only finds the names.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::json::{Kind, Reader, Value};

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

/// The names of what an answer made, from its beginning: its own `id`, and of a batch the files that
/// it wrote.
pub fn made(answer: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    top_level(answer, |key, value| {
        if matches!(key, "id" | "output_file_id" | "error_file_id") {
            names.extend(name(answer, value));
        }
    });
    names
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
}

/// Finds what a JSON body refers to: `previous_response_id`, `conversation`, `input_file_id`, and every
/// `file_id`, however deep.
pub fn references(body: &[u8]) -> References {
    let mut found = References::default();
    top_level(body, |key, value| match key {
        "previous_response_id" | "input_file_id" => found.take(body, value),
        "conversation" if value.kind == Kind::Object => {
            let _ = Reader::within(body, value).object(|key, value| {
                if key == "id" {
                    found.take(body, &value);
                }
            });
        }
        "conversation" => found.take(body, value),
        "store" => found.unstored = value.as_bool(body) == Some(false),
        _ => {}
    });
    if may_name_files(body) {
        files(body, Reader::new(body), true, &mut found);
    }
    found.names.sort_unstable();
    found.names.dedup();
    found
}

/// Whether `"file_id"` stands in a body, as it is or with escaped letters. Most bodies need no
/// closer look.
fn may_name_files(body: &[u8]) -> bool {
    static NEEDLES: LazyLock<[Finder<'static>; 2]> = LazyLock::new(|| [Finder::new(b"\"file_id\""), Finder::new(b"\\u00")]);
    NEEDLES.iter().any(|needle| needle.find(body).is_some())
}

fn files(body: &[u8], mut reader: Reader<'_>, object: bool, found: &mut References) {
    let deeper = |value: &Value, found: &mut References| {
        if matches!(value.kind, Kind::Object | Kind::Array) {
            files(body, Reader::within(body, value), value.kind == Kind::Object, found);
        }
    };
    let _ = match object {
        true => reader.object(|key, value| match key {
            "file_id" => found.take(body, &value),
            _ => deeper(&value, found),
        }),
        false => reader.array(|value| deeper(&value, found)),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_tell_what_they_made() {
        assert_eq!(made(br#"{"id":"resp_1","object":"response","output":[{"id":"msg_1"}]}"#), ["resp_1"]);
        assert_eq!(made(br#"{"object":"batch","id":"batch_1","output_file_id":"file-2","error_file_id":null}"#), ["batch_1", "file-2"]);
        assert_eq!(made(br#"{"id":"resp_1","output":[{"text":"a long on"#), ["resp_1"], "the beginning is enough");
        for nothing in [&b"<html>"[..], b"", b"[]", br#"{"id":7}"#, br#"{"id":"a b"}"#, br#"{"x":{"id":"resp_1"}}"#] {
            assert!(made(nothing).is_empty());
        }
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
        for malformed in [r#"{"previous_response_id":7}"#, r#"{"previous_response_id":"../x"}"#, r#"{"a":{"file_id":"a/b"}}"#] {
            assert!(references(malformed.as_bytes()).malformed, "{malformed}");
        }
        assert!(references(br#"{"store":false}"#).unstored && !references(br#"{"store":true}"#).unstored);
    }
}
