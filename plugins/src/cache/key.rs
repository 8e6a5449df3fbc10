//! The key of an exact cache: equal for requests with the same meaning, however their JSON is written.
//!
//! White space, the order of members and escapes in strings don't count, and neither do members that don't change the
//! answer. Every part has a tag and its length before it, so that two meanings never have the same encoding. An object
//! becomes the hash of its sorted members; so the text is read once, and no tree is built.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::api::Api;
use crate::json::{Kind, Reader, Value};

/// The key of a request's answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheKey(pub [u8; 32]);

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Must change with the encoding, so that keys of other versions never match.
const VERSION: &[u8] = b"spillway-key-1\n";

/// Members of a request that don't change the answer. The model is a separate argument.
const FORM: [&str; 3] = ["model", "stream", "stream_options"];
/// Further ones, except for the Responses API, whose answers repeat them.
const UNSEEN: [&str; 5] = ["user", "metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier"];

/// The key of a request in a namespace. `None` if its body isn't a JSON object, or if two readers could read it in
/// different ways: an object has a name twice, or a string has half a surrogate pair.
pub fn key(namespace: &str, api: Api, model: &str, body: &[u8]) -> Option<CacheKey> {
    let mut reader = Reader::new(body);
    let whole = reader.value(0).ok()?;
    reader.end().ok()?;
    if whole.kind != Kind::Object {
        return None;
    }
    let mut walk = Walk { text: body, at: whole.range.start, encoded: Vec::new(), seen: api == Api::Responses };
    walk.object(true)?;
    let mut hash = Sha256::new_with_prefix(VERSION);
    for part in [namespace, api.operation(), model] {
        hash.update(length(part.len()));
        hash.update(part);
    }
    hash.update(&walk.encoded);
    Some(CacheKey(hash.finalize().into()))
}

fn length(bytes: usize) -> [u8; 8] {
    (bytes as u64).to_be_bytes()
}

/// Walks a text that [`Reader`] has validated; its nesting is bounded.
struct Walk<'t> {
    text: &'t [u8],
    at: usize,
    /// The encoded text so far. A whole object has 33 bytes in it.
    encoded: Vec<u8>,
    /// Answers repeat these parts of the request.
    seen: bool,
}

impl<'t> Walk<'t> {
    /// The next byte that isn't white space.
    fn next(&mut self) -> Option<u8> {
        while self.text.get(self.at)?.is_ascii_whitespace() {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn value(&mut self) -> Option<()> {
        match self.next()? {
            b'{' => self.object(false),
            b'[' => self.array(),
            _ => self.scalar(),
        }
    }

    /// Reads a scalar. `Reader` costs nothing here: it doesn't read the rest.
    fn token(&mut self) -> Option<Value> {
        self.next()?;
        let rest = Value { kind: Kind::Null, range: self.at..self.text.len() };
        let value = Reader::within(self.text, &rest).value(0).ok()?;
        self.at = value.range.end;
        Some(value)
    }

    fn scalar(&mut self) -> Option<()> {
        let value = self.token()?;
        match value.kind {
            Kind::String => {
                let text = value.as_str(self.text)?;
                self.tagged(b's', text.as_bytes());
            }
            Kind::Number => self.tagged(b'n', value.bytes(self.text)),
            _ => self.tagged(b'l', value.bytes(self.text)),
        }
        Some(())
    }

    fn tagged(&mut self, tag: u8, bytes: &[u8]) {
        self.encoded.push(tag);
        self.encoded.extend_from_slice(&length(bytes.len()));
        self.encoded.extend_from_slice(bytes);
    }

    fn array(&mut self) -> Option<()> {
        self.at += 1;
        self.encoded.push(b'[');
        while self.next()? != b']' {
            if self.next()? == b',' {
                self.at += 1;
            }
            self.value()?;
        }
        self.at += 1;
        self.encoded.push(b']');
        Some(())
    }

    fn object(&mut self, top: bool) -> Option<()> {
        self.at += 1;
        let start = self.encoded.len();
        let mut members: Vec<(Cow<'t, str>, Range<usize>)> = Vec::new();
        while self.next()? != b'}' {
            if self.next()? == b',' {
                self.at += 1;
            }
            let text = self.text;
            let name = self.token()?.as_str(text)?;
            self.next()?;
            // The colon.
            self.at += 1;
            let from = self.encoded.len();
            self.value()?;
            members.push((name, from..self.encoded.len()));
        }
        self.at += 1;
        members.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        if members.windows(2).any(|two| matches!(two, [one, other] if one.0 == other.0)) {
            return None;
        }
        let mut hash = Sha256::new();
        for (name, range) in &members {
            let value = self.encoded.get(range.clone())?;
            // A missing member and a null are the same to every backend.
            let name = name.as_ref();
            if top && (FORM.contains(&name) || (!self.seen && UNSEEN.contains(&name)) || value == NULL) {
                continue;
            }
            hash.update(length(name.len()));
            hash.update(name.as_bytes());
            hash.update(value);
        }
        self.encoded.truncate(start);
        self.encoded.push(b'{');
        self.encoded.extend_from_slice(&hash.finalize());
        Some(())
    }
}

/// `null`, encoded.
const NULL: &[u8] = b"l\0\0\0\0\0\0\0\x04null";

#[cfg(test)]
mod tests;
