//! What a reader notices on its way: words, encoded bytes, and names that two readers could read in different ways.

use std::ops::Range;

use super::naming::{Encoded, Held, Interest, Naming, Words};
use super::value::decode;
use super::{JsonError, Kind, Reader, Value};
use crate::names::{Ambiguity, Known, Others, Scope};

/// The shortest string that may count as encoded bytes.
const LONG: usize = 2048;

/// Keys of strings that servers read as encoded bytes. Under any other key a string is text, whatever its content, and
/// counts by its length.
const BYTES: [&[u8]; 11] = [
    b"\"url\"",
    b"\"data\"",
    b"\"image_url\"",
    b"\"file_data\"",
    b"\"b64_json\"",
    b"\"result\"",
    b"\"image\"",
    b"\"mask\"",
    b"\"audio\"",
    b"\"audio_url\"",
    b"\"video_url\"",
];

/// Whether a long string is encoded bytes (base64, with or without `data:…;base64,`) rather than text: then its
/// beginning has no space. Escapes that some writers use change nothing: `\/`, `\u002f`, and line ends.
fn is_encoded(quoted: &[u8]) -> bool {
    const LOOK: usize = 256;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_:;,.".contains(&byte);
    let mut look = quoted.get(1..LOOK).unwrap_or_default();
    while let Some((first, rest)) = look.split_first() {
        look = match (first, rest) {
            (b'\\', [b'/' | b'n' | b'r', rest @ ..]) => rest,
            (b'\\', [b'u', b'0', b'0', high, low, rest @ ..]) => {
                let digits = [*high, *low];
                let code = std::str::from_utf8(&digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
                if !code.is_some_and(plain) {
                    return false;
                }
                rest
            }
            // An escape that the end of the examined part cuts.
            (b'\\', [] | [b'u', ..]) if rest.len() < 5 => break,
            (byte, rest) if plain(*byte) => rest,
            _ => return false,
        };
    }
    quoted.len() >= LONG
}

/// Most positions of `model` values that are kept for one text.
const MODELS: usize = 256;

impl<'t> Reader<'t> {
    /// As [`Reader::new`], and notices words on the way.
    pub fn watching(text: &'t [u8], interest: &'static Interest) -> Self {
        Reader { interest: Some(interest), ..Reader::new(text) }
    }

    /// Checks every name on the way: two readers must not read it in different ways.
    pub fn naming(mut self, scope: &'static Scope) -> Self {
        self.naming = Some(Naming { scope, held: Held::All, others: Others::default(), doubt: None, models: Vec::new() });
        self
    }

    /// The first name so far that two readers could read in different ways.
    pub fn doubt(&self) -> Option<Ambiguity> {
        self.naming.as_ref().and_then(|naming| naming.doubt)
    }

    /// The positions of values called `model` in inner objects.
    pub fn models(&self) -> &[Range<usize>] {
        self.naming.as_ref().map_or(&[], |naming| &naming.models)
    }

    /// Checks a name. Returns how its value's names are checked, and whether it is a `model` in an inner object.
    fn look(&mut self, depth: usize, key: Range<usize>, escaped: bool, seen: &mut u128) -> (Held, bool) {
        let is_object = self.text.get(self.at) == Some(&b'{');
        let Some(naming) = &mut self.naming else { return (Held::Nothing, false) };
        if naming.held == Held::Nothing {
            return (Held::Nothing, false);
        }
        let at = key.start;
        let decoded;
        let name: &[u8] = if escaped {
            let Some(text) = decode(&self.text[key]) else {
                naming.doubt.get_or_insert(Ambiguity::HalfPair { at });
                return (Held::All, false);
            };
            decoded = text;
            decoded.as_bytes()
        } else {
            &self.text[key.start + 1..key.end - 1]
        };
        let mut is_model = false;
        if naming.held == Held::All {
            let names = if depth == 1 { &naming.scope.top } else { &naming.scope.deeper };
            let doubt = match names.look_up(name) {
                Known::Word(index) => {
                    let bit = 1 << index;
                    let twice = *seen & bit != 0;
                    *seen |= bit;
                    is_model = depth > 1 && names.word(index) == "model";
                    twice.then(|| Ambiguity::Twice { name: names.word(index) })
                }
                Known::Like(index) => Some(Ambiguity::Alike { name: names.word(index), at }),
                Known::Other => (depth == 1 && !naming.others.is_new(name)).then_some(Ambiguity::OtherTwice { at }),
            };
            if naming.doubt.is_none() {
                naming.doubt = doubt;
            }
        }
        let held = match () {
            () if depth == 1 && name == b"input" => Held::All,
            // Whatever its name, it is not a known member here.
            () if naming.held == Held::Below => Held::All,
            () if (naming.scope.apart)(name, is_object) => Held::Nothing,
            () if (naming.scope.free)(name) => Held::Below,
            () => Held::All,
        };
        (held, is_model)
    }

    /// Whether one of the words occurred so far, at any depth, escaped or not.
    pub fn noticed(&self) -> bool {
        self.noticed
    }

    /// The encoded bytes so far.
    pub fn encoded(&self) -> Encoded {
        self.encoded
    }

    pub(super) fn notice(&mut self, quoted: Range<usize>, escaped: bool, words: &Words) {
        let quoted = &self.text[quoted];
        let hidden = || quoted.len() <= words.longest_escaped() && decode(quoted).is_some_and(|text| words.contain(text.as_bytes()));
        self.noticed |= words.contain(&quoted[1..quoted.len() - 1]) || (escaped && hidden());
    }

    /// Checks the value of a noticed member. A function of its own, because most texts have none.
    #[inline(never)]
    pub(super) fn look_at(&mut self, depth: usize, key: Range<usize>, escaped: bool, seen: &mut u128) -> Result<Value, JsonError> {
        if let Some(interest) = self.interest {
            self.notice(key.clone(), escaped, &interest.keys);
        }
        let value = match self.naming.as_ref().map(|naming| naming.held) {
            None => self.value(depth)?,
            Some(held) => {
                self.skip_space();
                let (below, is_model) = self.look(depth, key.clone(), escaped, seen);
                self.hold(below);
                let value = self.value(depth)?;
                self.hold(held);
                if is_model {
                    self.keep_model(&value);
                }
                value
            }
        };
        if value.range.len() >= LONG && value.kind == Kind::String && self.interest.is_some() {
            self.count_encoded(&key, &value);
        }
        Ok(value)
    }

    #[cold]
    fn count_encoded(&mut self, key: &Range<usize>, value: &Value) {
        if BYTES.contains(&&self.text[key.clone()]) && is_encoded(value.bytes(self.text)) {
            self.encoded.count += 1;
            self.encoded.bytes += value.range.len();
        }
    }

    fn hold(&mut self, held: Held) {
        if let Some(naming) = &mut self.naming {
            naming.held = held;
        }
    }

    fn keep_model(&mut self, value: &Value) {
        let Some(naming) = &mut self.naming else { return };
        if naming.models.len() < MODELS {
            naming.models.push(value.range.clone());
        } else {
            naming.doubt.get_or_insert(Ambiguity::Models { most: MODELS });
        }
    }
}
