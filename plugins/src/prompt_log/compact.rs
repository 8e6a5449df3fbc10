//! A JSON text up to a limit. One that is longer is kept without the white space between its parts: white space must not
//! take the place of content.

/// Reads a text in pieces.
#[derive(Debug)]
pub struct Compact {
    bytes: Vec<u8>,
    limit: usize,
    /// Without white space; most texts fit as they are.
    compact: bool,
    /// Within a string, where white space is text.
    string: bool,
    /// After a backslash.
    escaped: bool,
    cut: bool,
}

impl Compact {
    /// Keeps at most `limit` bytes of a text.
    pub fn new(limit: usize) -> Self {
        Compact { bytes: Vec::new(), limit, compact: false, string: false, escaped: false, cut: false }
    }

    /// Reads the next piece.
    pub fn push(&mut self, piece: &[u8]) {
        if !self.compact {
            if piece.len() <= self.limit - self.bytes.len() {
                return self.bytes.extend_from_slice(piece);
            }
            self.compact = true;
            let begun = std::mem::take(&mut self.bytes);
            self.push_compact(&begun);
        }
        self.push_compact(piece);
    }

    fn push_compact(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() && !self.cut {
            let length = if self.string { self.in_string(piece) } else { self.between(piece) };
            let (taken, rest) = piece.split_at(length);
            let room = self.limit - self.bytes.len();
            self.cut = taken.len() > room;
            self.bytes.extend_from_slice(&taken[..taken.len().min(room)]);
            piece = if self.string { rest } else { &rest[spaces(rest)..] };
        }
    }

    /// How many bytes of a piece belong to the string. Updates the state.
    fn in_string(&mut self, piece: &[u8]) -> usize {
        if std::mem::take(&mut self.escaped) {
            return 1;
        }
        match memchr::memchr2(b'"', b'\\', piece) {
            None => piece.len(),
            Some(at) => {
                self.escaped = piece[at] == b'\\';
                self.string = self.escaped;
                at + 1
            }
        }
    }

    /// How many bytes of a piece come before the next string or white space.
    fn between(&mut self, piece: &[u8]) -> usize {
        let end = piece.iter().position(|byte| is_space(byte) || *byte == b'"').unwrap_or(piece.len());
        self.string = piece.get(end) == Some(&b'"');
        end + usize::from(self.string)
    }

    /// Whether a part is missing.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Whether there was no text.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The text.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// The number of white space bytes at the beginning of a piece.
fn spaces(piece: &[u8]) -> usize {
    // No early exit within a step: a simple fold over a fixed width can be vectorised.
    let steps = piece.chunks_exact(64).take_while(|step| step.iter().fold(true, |all, byte| all & is_space(byte))).count();
    steps * 64 + piece[steps * 64..].iter().take_while(|byte| is_space(byte)).count()
}

/// The usable part of a text that was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mended {
    /// The text up to the cut, as valid JSON: incomplete values are left out, except a string, and open brackets are
    /// closed.
    pub text: Vec<u8>,
    /// The string that was cut, as far as it was received.
    pub unfinished: Option<String>,
}

/// Deepest nesting that is repaired.
const DEEPEST: usize = 128;

/// Repairs a JSON text that was cut. `None` if that isn't possible: it is complete, or not JSON.
pub fn mend(cut: &[u8]) -> Option<Mended> {
    let mut closers = Vec::new();
    // The end of the part that can be closed.
    let mut sure = 0;
    let mut at = 0;
    // A string is a name if it is in an object and no colon is before it.
    let mut named = false;
    while let Some(&byte) = cut.get(at) {
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => at += 1,
            b'{' | b'[' => {
                if closers.len() == DEEPEST {
                    return None;
                }
                at += 1;
                closers.push(if byte == b'{' { b'}' } else { b']' });
                named = false;
                sure = at;
            }
            b'}' | b']' => {
                at += 1;
                if closers.pop() != Some(byte) || closers.is_empty() {
                    return None;
                }
                named = false;
                sure = at;
            }
            b',' => at += 1,
            b':' => {
                named = true;
                at += 1;
            }
            b'"' => {
                let is_value = named || closers.last() != Some(&b'}');
                let Some(length) = string(&cut[at..]) else {
                    if !is_value || closers.is_empty() {
                        break;
                    }
                    let end = at + whole(&cut[at..]);
                    let unfinished: String = serde_json::from_slice(&[&cut[at..end], b"\""].concat()).ok()?;
                    let text = [&cut[..end], b"\"", &reversed(&closers)].concat();
                    return Some(Mended { text, unfinished: Some(unfinished) });
                };
                at += length;
                if is_value {
                    named = false;
                    sure = at;
                }
            }
            _ => {
                let length = cut[at..].iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t'));
                // The number may continue.
                let Some(length) = length else { break };
                at += length;
                named = false;
                sure = at;
            }
        }
    }
    (!closers.is_empty()).then(|| Mended { text: [&cut[..sure], &reversed(&closers)].concat(), unfinished: None })
}

fn reversed(closers: &[u8]) -> Vec<u8> {
    closers.iter().rev().copied().collect()
}

/// The length of a string with its quotes; `None` if it has no end.
fn string(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        match text.get(at)? {
            b'"' => return Some(at + 1),
            _ => at += 2,
        }
    }
}

/// How many bytes of a string without an end are complete: up to an escape, a surrogate pair or a character that is
/// cut.
fn whole(text: &[u8]) -> usize {
    let mut at = 1;
    let end = loop {
        let Some(next) = text.get(at..).and_then(|rest| memchr::memchr(b'\\', rest)) else { break text.len() };
        let escape = &text[at + next..];
        let high = escape.get(2..4).is_some_and(|digits| matches!(digits, [b'd' | b'D', b'8' | b'9' | b'a'..=b'b' | b'A'..=b'B']));
        let length = match escape.get(1) {
            Some(b'u') if high => 12,
            Some(b'u') => 6,
            _ => 2,
        };
        if escape.len() < length {
            break at + next;
        }
        at += next + length;
    };
    let text = text.get(..end).unwrap_or_default();
    std::str::from_utf8(text).map_or_else(|error| error.valid_up_to(), str::len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn compact(pieces: &[&str], limit: usize) -> (String, bool) {
        let mut compact = Compact::new(limit);
        pieces.iter().for_each(|piece| compact.push(piece.as_bytes()));
        let cut = compact.is_cut();
        (String::from_utf8(compact.into_bytes()).unwrap(), cut)
    }

    #[test]
    fn white_space_between_parts_takes_no_room() {
        let spaces = " \n\t\r".repeat(1000);
        let text = format!("{spaces}{{{spaces}\"a b\"{spaces}:{spaces}[1,{spaces}\"\\\" \\\\\"{spaces}]{spaces}}}{spaces}");
        assert_eq!(compact(&[&text], 100), (r#"{"a b":[1,"\" \\"]}"#.to_owned(), false));
        assert_eq!(compact(&[r#"{"a":"#, r#""x"#, r#"  \"#, r#"" y"}"#, &spaces], 100), (r#"{"a":"x  \" y"}"#.to_owned(), false));
        assert_eq!(compact(&[r#"{"a" : "bcd"}"#], 8), (r#"{"a":"bc"#.to_owned(), true));
        assert_eq!(compact(&["{}", &spaces], 2), ("{}".to_owned(), false));
    }

    #[test]
    fn a_text_that_fits_stays_as_it_is() {
        assert_eq!(compact(&["{ \"a\"", " : 1 }"], 11), (r#"{ "a" : 1 }"#.to_owned(), false));
        assert_eq!(compact(&["{ \"a\"", " : 1 }"], 10), (r#"{"a":1}"#.to_owned(), false));
    }

    #[test]
    fn a_cut_text_is_made_whole() {
        let mended = |text: &str| {
            let mended = mend(text.as_bytes())?;
            Some((serde_json::from_slice::<Value>(&mended.text).unwrap(), mended.unfinished))
        };
        let expected = |value: Value, unfinished: &str| Some((value, Some(unfinished.to_owned())));
        assert_eq!(mended(r#"{"a":"half an"#), expected(json!({ "a": "half an" }), "half an"));
        assert_eq!(mended(r#"{"a":[1,{"b":"x\"#), expected(json!({ "a": [1, { "b": "x" }] }), "x"));
        assert_eq!(mended(r#"["x\ud83d\ude"#), expected(json!(["x"]), "x"));
        assert_eq!(mended(r#"{"a":1,"b":12"#), Some((json!({ "a": 1 }), None)));
        assert_eq!(mended(r#"{"a":1,"b"#), Some((json!({ "a": 1 }), None)));
        assert_eq!(mended(r#"{"a":{"b":[]},"c":"#), Some((json!({ "a": { "b": [] } }), None)));
        assert_eq!(mended("{"), Some((json!({}), None)));
        for nothing in ["", "{}", "x", "\"half", "}", "[}"] {
            assert_eq!(mended(nothing), None, "{nothing}");
        }
    }

    fn arbitrary() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(Value::Null), any::<i32>().prop_map(Value::from), "[a\\\\\" \u{e9}\u{1f600}\n]{0,6}".prop_map(Value::from)];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let name = "[a-c\\\\\"\u{e9}]{0,3}";
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((name, inner), 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_cut_can_be_mended(value in arbitrary(), pretty in any::<bool>(), at in 0usize..10_000, pieces in 1usize..9) {
            let value = json!({ "top": value });
            let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
            let mut compact = Compact::new(value.to_string().len());
            text.as_bytes().chunks(pieces).for_each(|piece| compact.push(piece));
            prop_assert_eq!(String::from_utf8(compact.into_bytes()).unwrap(), value.to_string());
            let cut = &text.as_bytes()[..1 + at % (text.len() - 1)];
            let mended = mend(cut).unwrap();
            prop_assert!(serde_json::from_slice::<Value>(&mended.text).is_ok(), "{}", String::from_utf8_lossy(&mended.text));
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..60), text in "[\\[\\]{}:,\"\\\\u1d8 a]{0,40}") {
            for bytes in [&bytes[..], text.as_bytes()] {
                let mut compact = Compact::new(20);
                compact.push(bytes);
                let _ = mend(bytes);
            }
        }
    }
}
