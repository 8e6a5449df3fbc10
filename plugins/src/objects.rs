//! Objects that a backend stores and names: responses, conversations, files, batches. Finds what a request refers to,
//! and what an answer made.
//!
//! Such an object is at one resource and belongs to one consumer; this module only finds the names.

use memchr::memmem;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::api::Api;
use crate::auth::digest;
use crate::json::{Interest, Kind, Reader, Value};
use crate::names::{REQUEST, STORED, joined};

/// Longest possible name of a stored object.
const LONGEST: usize = 256;

/// Whether a text can be the name of a stored object: letters, digits and characters that join them.
pub fn is_name(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Reads the members of a text's top level.
fn top_level(text: &[u8], mut found: impl FnMut(&str, &Value)) {
    // Members before a syntax error, or before the end of a prefix, have been read.
    let _ = Reader::new(text).object(|key, value| found(key, &value));
}

fn name(text: &[u8], value: &Value) -> Option<String> {
    value.as_str(text).filter(|name| is_name(name)).map(std::borrow::Cow::into_owned)
}

/// What an answer made, or contains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made {
    /// Names of objects that are stored if the request wants its answer stored: a response, its items; a message of a
    /// thread; a file, a batch.
    pub stored: Vec<String>,
    /// Names of objects that are kept in any case: containers, audio, files in containers.
    pub kept: Vec<String>,
    /// The marks of sealed contents, see [`mark`].
    pub sealed: Vec<String>,
}

impl Made {
    /// Reads an answer from its beginning.
    pub fn of(api: Api, answer: &[u8]) -> Made {
        let mut made = Made::default();
        top_level(answer, |key, value| match (api, key) {
            (Api::Chat, "choices") => each(answer, value, |choice| {
                within(answer, choice, "message", |message| made.sound(answer, message));
            }),
            (Api::Chat, _) => {}
            (Api::Messages, "id") => made.stored.extend(name(answer, value)),
            (Api::Messages, "container") => made.container(answer, value),
            (Api::Messages, "content") => each(answer, value, |block| made.block(answer, block)),
            (Api::Messages, _) => {}
            (_, "id" | "output_file_id" | "error_file_id") => made.stored.extend(name(answer, value)),
            (_, "output") => each(answer, value, |item| made.item(answer, item, true)),
            _ => {}
        });
        made
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.stored.is_empty() && self.kept.is_empty() && self.sealed.is_empty()
    }

    /// An item of a response, or a response; `whole`: its sealed content is complete.
    pub(crate) fn item(&mut self, text: &[u8], item: &Value, whole: bool) {
        members(text, item, |key, value| match key {
            "id" => self.stored.extend(name(text, value)),
            "container_id" => self.kept.extend(name(text, value)),
            "encrypted_content" if whole => {
                self.sealed.extend(value.as_str(text).filter(|sealed| !sealed.is_empty()).map(|sealed| mark(&sealed)))
            }
            _ => {}
        });
    }

    /// The audio in a message of a chat.
    pub(crate) fn sound(&mut self, text: &[u8], message: &Value) {
        within(text, message, "audio", |audio| self.kept.extend(own_name(text, audio)));
    }

    /// A message itself.
    pub(crate) fn message(&mut self, text: &[u8], message: &Value) {
        self.stored.extend(own_name(text, message));
    }

    /// The container that a message ran in.
    pub(crate) fn container(&mut self, text: &[u8], container: &Value) {
        self.kept.extend(own_name(text, container));
    }

    /// A block of a message: files that code wrote are in its result. What the model itself wrote is never read.
    pub(crate) fn block(&mut self, text: &[u8], block: &Value) {
        within(text, block, "content", |result| {
            within(text, result, "content", |outputs| {
                each(text, outputs, |output| within(text, output, "file_id", |id| self.kept.extend(name(text, id))));
            });
        });
    }
}

/// The name under which a sealed content is remembered: a digest of its length and its two ends, which make it unique.
/// Conversations send all of theirs with every turn, so only the ends are read.
pub fn mark(sealed: &str) -> String {
    let (text, length) = (sealed.as_bytes(), sealed.len());
    let (head, tail) = (&text[..length.min(128)], &text[length.saturating_sub(64)..]);
    digest(&[head, tail, &length.to_le_bytes()].concat()).to_string()
}

/// Whether an error says that the sealed content of a request can't be read by this backend: by its code, or without a
/// code by its message.
pub fn refuses_sealed(error: &[u8]) -> bool {
    let mut refuses = false;
    top_level(error, |key, value| {
        if key == "error" {
            members(error, value, |key, value| match (key, value.as_str(error)) {
                ("code", Some(code)) => refuses |= code == "invalid_encrypted_content",
                ("message", Some(message)) => {
                    let message = message.to_ascii_lowercase();
                    let why = ["could not be verified", "could not be decrypted"];
                    refuses |= message.contains("encrypted content") && why.iter().any(|why| message.contains(why));
                }
                _ => {}
            });
        }
    });
    refuses
}

/// Reads the members of a value that is an object.
fn members(text: &[u8], value: &Value, mut member: impl FnMut(&str, &Value)) {
    if value.kind == Kind::Object {
        let _ = Reader::within(text, value).object(|key, value| member(key, &value));
    }
}

/// Reads one member of a value that is an object.
fn within(text: &[u8], value: &Value, wanted: &str, mut member: impl FnMut(&Value)) {
    members(text, value, |key, value| {
        if key == wanted {
            member(value);
        }
    });
}

/// Reads the elements of a value that is an array.
fn each(text: &[u8], value: &Value, mut element: impl FnMut(&Value)) {
    if value.kind == Kind::Array {
        let _ = Reader::within(text, value).array(|value| element(&value));
    }
}

/// The `id` of an object inside a text.
pub(crate) fn own_name(text: &[u8], object: &Value) -> Option<String> {
    let mut id = None;
    within(text, object, "id", |value| id = name(text, value));
    id
}

/// The references in a request body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// The names of stored objects.
    pub names: Vec<String>,
    /// A name that can't be one.
    pub malformed: bool,
    /// Whether the caller doesn't want the answer stored.
    pub unstored: bool,
    /// Whether the caller wants it to run in the background.
    pub background: bool,
    /// Whether later messages may name the answer: it begins or continues a thread, or they are compared with it.
    pub remembered: bool,
    /// Whether the caller wants audio, which is kept for a while.
    pub sounds: bool,
    /// The marks of the sealed contents that it has, in order; see [`mark`].
    pub sealed: Vec<String>,
}

impl References {
    /// Whether the answer to a request of this API is stored, so that its owner may refer to it.
    pub fn store_the_answer(&self, api: Api) -> bool {
        match api {
            Api::Responses => !self.unstored,
            Api::Messages => self.remembered,
            _ => false,
        }
    }

    fn take(&mut self, text: &[u8], value: &Value) {
        match name(text, value) {
            Some(name) => self.names.push(name),
            None if value.kind == Kind::Null => {}
            None => self.malformed = true,
        }
    }

    /// Reads a member of a request's top level that may contain references.
    pub(crate) fn member(&mut self, text: &[u8], key: &[u8], value: &Value) {
        match key {
            b"previous_response_id" | b"input_file_id" => self.take(text, value),
            b"conversation" if value.kind == Kind::Object => within(text, value, "id", |id| self.take(text, id)),
            b"conversation" => self.take(text, value),
            b"store" => self.unstored = value.as_bool(text) == Some(false),
            b"background" => self.background = value.as_bool(text) == Some(true),
            b"audio" => self.sounds = value.kind == Kind::Object,
            b"thread" | b"diagnostics" => self.remembered |= value.kind == Kind::Object,
            _ => {}
        }
    }

    /// Reads an item of a conversation. An item with only an id, or little more, is looked up where it is stored; a
    /// complete one is not, although it also has an id: agents send back everything that they got.
    fn item(&mut self, text: &[u8], item: &Value) {
        let (mut kind, mut id, mut role, mut given, mut thought, mut result) = (None, None, false, false, false, false);
        let mut settings = false;
        members(text, item, |key, value| match key {
            "type" => kind = value.as_str(text),
            "id" if value.kind != Kind::Null => id = Some(value.clone()),
            "role" => role = value.kind == Kind::String,
            "content" | "encrypted_content" => {
                given |= value.kind != Kind::Null;
                thought |= value.is_filled(text);
            }
            "result" => result = value.kind != Kind::Null,
            "reasoning" | "text" => settings |= value.kind == Kind::Object,
            "arguments" | "input" | "output" | "outputs" | "action" | "actions" | "code" | "queries" | "operation" | "tools" => {
                given |= value.kind != Kind::Null;
            }
            _ => {}
        });
        let Some(id) = id else { return };
        let is_reference = match kind.as_deref() {
            None => !(role && (given || result)),
            // A call without its result.
            Some("image_generation_call") => !result,
            Some("item_reference") => true,
            Some("configuration_update") => !settings,
            // A summary without the reasoning.
            Some("reasoning") => !thought,
            Some(_) => !(given || result),
        };
        if is_reference {
            self.take(text, &id);
        }
    }
}

const DEEPER_NAMES: [&str; 12] = joined(&[&STORED, &["audio", "encrypted_content"]]);

/// Shows that there are references below the top level.
pub(crate) static DEEPER: Interest = Interest::new(&DEEPER_NAMES, &["item_reference"]);

/// Adds to the references `found` at the top level those in inner objects (`deeper`: there are some) and in its
/// `items`: every file, vector store, container, skill, audio and item, and every sealed content. One more pass, only
/// if the first one has seen one of their words.
pub(crate) fn deeper(mut found: References, items: Option<&Value>, deeper: bool, body: &[u8]) -> References {
    if let Some(items) = items
        && may_have_ids(items.bytes(body))
    {
        each(body, items, |item| found.item(body, item));
    }
    if deeper {
        let mut whole = serde_json::Deserializer::from_slice(body);
        // The body was parsed as valid JSON; if this fails, it is deeper than any API's.
        let walk = Walk { found: &mut found, expect: Expect::Anything, top: true };
        let read = walk.deserialize(&mut whole);
        found.malformed |= read.is_err();
    }
    found.names.sort_unstable();
    found.names.dedup();
    found
}

/// Whether a text may have members called `id`, escaped or not.
fn may_have_ids(text: &[u8]) -> bool {
    memmem::find(text, b"\"id\"").is_some() || memmem::find(text, b"\\u00").is_some()
}

/// What the value of a key is expected to be.
enum Expect<'e> {
    /// Anything.
    Anything,
    /// The name of a stored object, or a list of names.
    Name,
    /// The name of a stored object, or an object whose `id` is one (`true`: a text counts as one, too).
    Named(bool),
    /// Sealed content.
    Sealed,
    /// A text, stored here.
    Text(&'e mut Option<String>),
    /// An object whose names the caller chose.
    Free,
    /// The arguments of a tool call, if they are an object: it has names of its own.
    Call,
}

/// One pass over a body, at any depth.
struct Walk<'f, 'e> {
    found: &'f mut References,
    expect: Expect<'e>,
    /// Whether this is the body itself.
    top: bool,
}

impl<'f> Walk<'f, '_> {
    fn on<'e>(found: &'f mut References, expect: Expect<'e>) -> Walk<'f, 'e> {
        Walk { found, expect, top: false }
    }
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
            Expect::Anything | Expect::Named(false) | Expect::Call | Expect::Free => {}
            Expect::Name | Expect::Named(true) if is_name(text) => self.found.names.push(text.to_owned()),
            Expect::Name | Expect::Named(true) => self.found.malformed = true,
            Expect::Sealed if text.is_empty() => {}
            Expect::Sealed => self.found.sealed.push(mark(text)),
            Expect::Text(kept) => *kept = Some(text.to_owned()),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let element = || match self.expect {
            Expect::Name => Expect::Name,
            // A list of what can also be a single one.
            Expect::Named(texts) => Expect::Named(texts),
            _ => Expect::Anything,
        };
        while list.next_element_seed(Walk::on(self.found, element()))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if matches!(self.expect, Expect::Call) {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        if matches!(self.expect, Expect::Free) {
            while map.next_key::<IgnoredAny>()?.is_some() {
                map.next_value_seed(Walk::on(self.found, Expect::Anything))?;
            }
            return Ok(());
        }
        let named = matches!(self.expect, Expect::Named(_));
        let (mut kind, mut id, mut skill) = (None, None, None);
        while let Some(key) = map.next_key::<String>()? {
            let expect = match key.as_str() {
                "input" if self.top => Expect::Anything,
                "input" | "arguments" => Expect::Call,
                name if (REQUEST.free)(name.as_bytes()) => Expect::Free,
                // Schemas, and values that only the caller or the model reads: a `file_id` in them is not a reference.
                other if (REQUEST.apart)(other.as_bytes(), true) => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                "file_id" | "file_ids" | "vector_store_id" | "vector_store_ids" | "container_id" => Expect::Name,
                // A way into the operator's own network.
                "tunnel_id" => Expect::Name,
                // The conversation to go on with, and answers that this one is compared with.
                "previous_message_id" | "comparison_response_id" => Expect::Name,
                "id" if named => Expect::Name,
                "container" => Expect::Named(true),
                // In the request itself this is the audio's format.
                "audio" if !self.top => Expect::Named(false),
                "encrypted_content" => Expect::Sealed,
                "type" => Expect::Text(&mut kind),
                "id" => Expect::Text(&mut id),
                "skill_id" => Expect::Text(&mut skill),
                _ => Expect::Anything,
            };
            map.next_value_seed(Walk::on(self.found, expect))?;
        }
        match (kind.as_deref(), id) {
            (Some("item_reference"), Some(id)) if is_name(&id) => self.found.names.push(id),
            (Some("item_reference"), _) => self.found.malformed = true,
            _ => {}
        }
        match (kind.as_deref(), skill) {
            // The vendor's own ones belong to everyone.
            (_, None) | (Some("anthropic"), _) => {}
            (_, Some(skill)) if is_name(&skill) => self.found.names.push(skill),
            (_, Some(_)) => self.found.malformed = true,
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
mod tests;
