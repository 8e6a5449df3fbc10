//! The key of an exact cache: equal for requests with the same meaning, however their JSON is written.
//!
//! White space, the order of members and escapes in strings don't count, and neither do members that don't change the
//! answer. Every part has a tag and its length before it, so that two meanings never have the same encoding. The members
//! of an object are sorted, with the longest one last, as it mostly is: then it isn't moved. A long object becomes the hash of
//! them; so the text is read once, and no tree is built.
//!
//! For a key that only this process needs, the encoding is the faster one: strings as JSON with no more escapes than are needed, which is
//! how most are written already, and hashes only where objects are deep in others.

use std::cell::Cell;
use std::fmt;
use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};

use super::key_kind::KeyKind;
use super::rules::Offers;
use crate::api::Api;
use crate::json::{Kind, MAX_DEPTH, Reader, Value};

/// The key of a request's answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CacheKey(pub [u8; 32]);

impl CacheKey {
    /// Eight bytes of it, which are as good as all: it is a hash already.
    pub(super) fn short(&self) -> u64 {
        self.0.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
    }
}

impl Hash for CacheKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.short());
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Members of a request that don't change the answer. The model is a separate argument.
const FORM: [&str; 3] = ["model", "stream", "stream_options"];
/// Further ones, except for the Responses API, whose answers repeat them.
const UNSEEN: [&str; 5] = ["user", "metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier"];

/// What the cache reads of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The key of its answer.
    pub key: CacheKey,
    /// What it offers to the model.
    pub offers: Offers,
}

/// The key of a request in a namespace, the same on all nodes. `None` if its body isn't a JSON object, or if two readers could read it in
/// different ways: an object has a name twice, or a string has half a surrogate pair.
pub fn key(namespace: &str, api: Api, model: &str, body: &[u8]) -> Option<CacheKey> {
    Asked::read(&KeyKind::Shared, namespace, api, model, body).map(|asked| asked.key)
}

impl Asked {
    /// Reads a request in one pass. `None` as for [`key`].
    pub fn read(kind: &KeyKind, namespace: &str, api: Api, model: &str, body: &[u8]) -> Option<Self> {
        simdutf8::basic::from_utf8(body).ok()?;
        thread_local!(static SCRATCH: Cell<(Vec<u8>, Vec<Member>)> = const { Cell::new((Vec::new(), Vec::new())) });
        let (mut encoded, mut members) = SCRATCH.take();
        encoded.clear();
        members.clear();
        // A member that is moved is in it twice for a moment.
        encoded.reserve(2 * body.len() + namespace.len() + model.len() + 192);
        let own = matches!(kind, KeyKind::Own(_));
        let mut walk = Walk { reader: Reader::decoding(body), text: body, encoded, members, api, offers: Offers::default(), own };
        let asked = walk.read(kind, namespace, model);
        if walk.encoded.capacity() <= CALM {
            SCRATCH.set((walk.encoded, walk.members));
        }
        asked
    }
}

/// The most bytes that a thread keeps for its next key.
const CALM: usize = 64 << 10;

impl Walk<'_> {
    fn read(&mut self, kind: &KeyKind, namespace: &str, model: &str) -> Option<Asked> {
        for part in [namespace, self.api.operation(), model] {
            self.encoded.extend_from_slice(&length(part.len()));
            self.encoded.extend_from_slice(part.as_bytes());
        }
        self.reader.skip_space();
        if self.reader.peek().ok()? != b'{' {
            return None;
        }
        self.object(1)?;
        self.reader.end().ok()?;
        Some(Asked { key: CacheKey(kind.key(&mut self.encoded)?), offers: self.offers })
    }
}

fn length(bytes: usize) -> [u8; 8] {
    (bytes as u64).to_be_bytes()
}

/// Reads a text and encodes it.
struct Walk<'t> {
    reader: Reader<'t>,
    text: &'t [u8],
    /// The encoded text so far.
    encoded: Vec<u8>,
    /// The members so far of the objects that are not whole yet.
    members: Vec<Member>,
    api: Api,
    offers: Offers,
    /// Whether only this process needs the key.
    own: bool,
}

/// A member of an object: where it is in the encoded text.
struct Member {
    /// From the length of its name to the end of its value.
    start: usize,
    /// Where its value begins.
    value: usize,
    end: usize,
}

/// Bytes of an encoded length.
const LENGTH: usize = size_of::<u64>();

impl Member {
    /// Its name; positions count from `start`.
    fn name<'e>(&self, encoded: &'e [u8]) -> &'e [u8] {
        encoded.get(self.start + LENGTH..self.value).unwrap_or_default()
    }
}

impl Walk<'_> {
    fn value(&mut self, depth: usize) -> Option<Kind> {
        self.reader.skip_space();
        match self.reader.peek().ok()? {
            b'{' | b'[' if depth >= MAX_DEPTH => None,
            b'{' => self.object(depth + 1).map(|()| Kind::Object),
            b'[' => self.array(depth + 1).map(|()| Kind::Array),
            b'"' => {
                self.encoded.push(b's');
                self.string().map(|()| Kind::String)
            }
            _ => {
                let value = self.reader.value(depth).ok()?;
                let bytes = value.bytes(self.text);
                self.encoded.push(if value.kind == Kind::Number { b'n' } else { b'l' });
                self.encoded.extend_from_slice(&length(bytes.len()));
                self.encoded.extend_from_slice(bytes);
                Some(value.kind)
            }
        }
    }

    /// Reads a string, and encodes its text with its length.
    fn string(&mut self) -> Option<()> {
        let begin = self.encoded.len();
        self.encoded.extend_from_slice(&[0; LENGTH]);
        match self.own {
            true => self.reader.written_string_onto(&mut self.encoded)?,
            false => self.reader.string_onto(&mut self.encoded)?,
        }
        self.put_length(begin)
    }

    /// Writes the length of what was encoded since the place for it, at `begin`.
    fn put_length(&mut self, begin: usize) -> Option<()> {
        let encoded = self.encoded.len() - begin - LENGTH;
        self.encoded.get_mut(begin..begin + LENGTH)?.copy_from_slice(&length(encoded));
        Some(())
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.encoded.push(b'[');
        self.reader.expect(b'[').ok()?;
        self.reader.skip_space();
        if self.reader.peek().ok()? != b']' {
            loop {
                self.value(depth)?;
                self.reader.skip_space();
                if self.reader.peek().ok()? != b',' {
                    break;
                }
                self.reader.expect(b',').ok()?;
            }
        }
        self.reader.expect(b']').ok()?;
        self.encoded.push(b']');
        Some(())
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        let (start, first) = (self.encoded.len(), self.members.len());
        self.encoded.push(b'{');
        self.encoded.extend_from_slice(&[0; LENGTH]);
        self.reader.expect(b'{').ok()?;
        self.reader.skip_space();
        if self.reader.peek().ok()? != b'}' {
            loop {
                self.member(depth)?;
                self.reader.skip_space();
                if self.reader.peek().ok()? != b',' {
                    break;
                }
                self.reader.expect(b',').ok()?;
                self.reader.skip_space();
            }
        }
        self.reader.expect(b'}').ok()?;
        let body = start + 1 + LENGTH;
        self.sort_members(first, body, depth == 1)?;
        self.members.truncate(first);
        let members = self.encoded.get(body..)?;
        if members.len() <= LONG || (self.own && depth <= SHALLOW) {
            return self.put_length(start + 1);
        }
        let digest = Sha256::digest(members);
        self.encoded.truncate(start);
        self.encoded.push(b'h');
        self.encoded.extend_from_slice(&digest);
        Some(())
    }

    fn member(&mut self, depth: usize) -> Option<()> {
        let start = self.encoded.len();
        self.string()?;
        let value = self.encoded.len();
        self.reader.skip_space();
        self.reader.expect(b':').ok()?;
        self.reader.skip_space();
        let from = self.reader.position();
        let kind = self.value(depth)?;
        let member = Member { start, value, end: self.encoded.len() };
        if depth == 1 {
            let written = Value { kind, range: from..self.reader.position() };
            self.offers.note(self.api, member.name(&self.encoded), written.is_filled(self.text));
        }
        self.members.push(member);
        Some(())
    }

    /// Puts the members from `first` on, which are encoded from `body` on, into the order of their names, the longest one last,
    /// without those that don't count; `None` if two have the same name.
    fn sort_members(&mut self, first: usize, body: usize, top: bool) -> Option<()> {
        let Walk { encoded, members, api, .. } = self;
        members.get_mut(first..)?.sort_unstable_by(|one, other| one.name(encoded).cmp(other.name(encoded)));
        let all = members.get(first..)?;
        if all.windows(2).any(|two| matches!(two, [one, other] if one.name(encoded) == other.name(encoded))) {
            return None;
        }
        if top {
            let mut kept = first;
            for at in first..members.len() {
                let member = members.get(at)?;
                let name = member.name(encoded);
                let is = |names: &[&str]| names.iter().any(|other| other.as_bytes() == name);
                // A missing member and a null are the same to every backend.
                if !(is(&FORM) || (*api != Api::Responses && is(&UNSEEN)) || encoded.get(member.value..member.end)? == NULL) {
                    members.swap(kept, at);
                    kept += 1;
                }
            }
            members.truncate(kept);
        }
        let members = members.get_mut(first..)?;
        if let Some((longest, _)) = members.iter().enumerate().max_by_key(|(_, member)| member.end - member.start) {
            members.get_mut(longest..)?.rotate_left(1);
        }
        if members.is_sorted_by_key(|member| member.start) {
            // They only move together.
            let mut end = body;
            for Member { start, end: to, .. } in members {
                if *start > end {
                    encoded.copy_within(*start..*to, end);
                }
                end += *to - *start;
            }
            encoded.truncate(end);
        } else {
            let end = encoded.len();
            members.iter().for_each(|member| encoded.extend_from_within(member.start..member.end));
            encoded.drain(body..end);
        }
        Some(())
    }
}

/// Members of an object that are longer than this are hashed before the objects around them are sorted: otherwise a text
/// with many objects around it would be moved once for each of them.
const LONG: usize = 4096;
/// Objects that are no deeper are moved a few times at most, which takes less than hashing them.
const SHALLOW: usize = 3;

/// `null`, encoded.
const NULL: &[u8] = b"l\0\0\0\0\0\0\0\x04null";

#[cfg(test)]
mod tests;
