//! Walks over a JSON text token by token, without a tree.
//!
//! [`crate::json::Reader`] finds members and checks the grammar; this is for code that reads every string. The walk
//! ends with an error at anything that two readers could read differently: a name that occurs twice in its object, or
//! half a surrogate pair.

use std::borrow::Cow;
use std::ops::Range;

use crate::fnv::fnv1a;
use crate::json::{Kind, Reader, Value};

/// A text that can't be read, or can be read in two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it can't be read in one way only")]
pub struct Unreadable;

/// A piece of a JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token<'t> {
    /// An object begins.
    Object,
    /// An array begins.
    Array,
    /// The end of the innermost one of them.
    End,
    /// The name of a member; its value is next.
    Name(Cow<'t, str>),
    /// A string.
    Text(Cow<'t, str>),
    /// A number, as it is written.
    Number(&'t str),
    /// `true`, `false` or `null`.
    Word,
}

/// An object or array that has begun.
#[derive(Debug, Clone, Copy)]
struct Open {
    object: bool,
    /// Whether a name was read, so that its value is next.
    named: bool,
    /// Where the object's names begin in `names`.
    names: usize,
}

/// The tokens of a text, in order.
#[derive(Debug)]
pub struct Tokens<'t> {
    text: &'t [u8],
    at: usize,
    /// The range of the last token.
    last: Range<usize>,
    open: Vec<Open>,
    /// Hashes of the names of all open objects: eight bytes for each.
    names: Vec<u64>,
    begun: bool,
}

impl<'t> Tokens<'t> {
    /// For a whole text.
    ///
    /// # Errors
    /// [`Unreadable`] if it is not JSON.
    pub fn new(text: &'t [u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(text);
        reader.value(0).and_then(|_| reader.end()).map_err(|_| Unreadable)?;
        Ok(Tokens { text, at: 0, last: 0..0, open: Vec::new(), names: Vec::new(), begun: false })
    }

    /// The range of the last token in the text.
    pub fn range(&self) -> Range<usize> {
        self.last.clone()
    }

    /// The number of open objects and arrays.
    pub fn depth(&self) -> usize {
        self.open.len()
    }

    /// The next token; `None` at the end.
    ///
    /// # Errors
    /// [`Unreadable`]
    pub fn token(&mut self) -> Result<Option<Token<'t>>, Unreadable> {
        // The grammar was checked: bytes between the tokens need no check.
        while matches!(self.text.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t' | b',' | b':')) {
            self.at += 1;
        }
        let Some(byte) = self.text.get(self.at).copied() else { return Ok(None) };
        if self.open.is_empty() && std::mem::replace(&mut self.begun, true) {
            return Ok(None);
        }
        let begun = self.at;
        let token = match byte {
            b'{' | b'[' => {
                self.at += 1;
                self.value_is_here();
                self.open.push(Open { object: byte == b'{', named: false, names: self.names.len() });
                if byte == b'{' { Token::Object } else { Token::Array }
            }
            b'}' | b']' => {
                self.at += 1;
                self.end()?;
                Token::End
            }
            _ => self.scalar()?,
        };
        self.last = begun..self.at;
        Ok(Some(token))
    }

    fn value_is_here(&mut self) {
        if let Some(open) = self.open.last_mut() {
            open.named = false;
        }
    }

    fn end(&mut self) -> Result<(), Unreadable> {
        let Some(open) = self.open.pop() else { return Err(Unreadable) };
        let Some(names) = self.names.get_mut(open.names..) else { return Err(Unreadable) };
        names.sort_unstable();
        if names.windows(2).any(|two| matches!(two, [one, other] if one == other)) {
            return Err(Unreadable);
        }
        self.names.truncate(open.names);
        Ok(())
    }

    fn scalar(&mut self) -> Result<Token<'t>, Unreadable> {
        let rest = Value { kind: Kind::Null, range: self.at..self.text.len() };
        let value = Reader::within(self.text, &rest).value(0).map_err(|_| Unreadable)?;
        self.at = value.range.end;
        let is_name = self.open.last().is_some_and(|open| open.object && !open.named);
        match value.kind {
            Kind::String => {
                let text = value.as_str(self.text).ok_or(Unreadable)?;
                if is_name {
                    // Two names with the same hash count as a repeated name, which affects only their sender.
                    self.names.push(fnv1a(text.bytes()));
                    if let Some(open) = self.open.last_mut() {
                        open.named = true;
                    }
                    return Ok(Token::Name(text));
                }
                self.value_is_here();
                Ok(Token::Text(text))
            }
            Kind::Number => {
                self.value_is_here();
                let digits = std::str::from_utf8(value.bytes(self.text)).map_err(|_| Unreadable)?;
                Ok(Token::Number(digits))
            }
            _ => {
                self.value_is_here();
                Ok(Token::Word)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value as Json;

    fn tokens(text: &str) -> Result<Vec<Token<'_>>, Unreadable> {
        let mut tokens = Tokens::new(text.as_bytes())?;
        let mut all = Vec::new();
        while let Some(token) = tokens.token()? {
            all.push(token);
        }
        Ok(all)
    }

    #[test]
    fn tokens_come_in_order() {
        let name = |name: &'static str| Token::Name(name.into());
        let text = r#" {"a" : ["x\n", 1.5e3, {"b":null, "c":"y"}], "d":{} } "#;
        let expected = [
            Token::Object,
            name("a"),
            Token::Array,
            Token::Text("x\n".into()),
            Token::Number("1.5e3"),
            Token::Object,
            name("b"),
            Token::Word,
            name("c"),
            Token::Text("y".into()),
            Token::End,
            Token::End,
            name("d"),
            Token::Object,
            Token::End,
            Token::End,
        ];
        assert_eq!(tokens(text).unwrap(), expected);
        assert_eq!(tokens("\"x\"").unwrap(), [Token::Text("x".into())]);
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_not() {
        for text in ["", "{", "{} {}", r#"{"a":1,"a":2}"#, r#"[{"b":{"a":1,"\u0061":2}}]"#, r#"["\ud800"]"#, r#"{"\ud800":1}"#] {
            assert_eq!(tokens(text), Err(Unreadable), "{text}");
        }
        assert!(tokens(r#"{"a":{"a":1},"b":{"a":1}}"#).is_ok());
    }

    #[test]
    fn a_text_that_cannot_be_decoded_ends_the_walk() {
        let long = "x".repeat(1000);
        for wrong in [r"\q", r"\u12", r"\ud800", r"\u00e", "\\\\\\ "] {
            let text = format!(r#"{{"a":["{long}{wrong}"],"b":1}}"#);
            assert_eq!(tokens(&text), Err(Unreadable), "{text}");
            assert_eq!(tokens(&format!(r#"{{"{long}{wrong}":1}}"#)), Err(Unreadable), "{text}");
        }
    }

    /// All names and texts of a tree.
    fn words(value: &Json, to: &mut Vec<String>) {
        match value {
            Json::String(text) => to.push(text.clone()),
            Json::Array(list) => list.iter().for_each(|one| words(one, to)),
            Json::Object(members) => {
                for (name, member) in members {
                    to.push(name.clone());
                    words(member, to);
                }
            }
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn every_string_is_told(text in "[\\[\\]{}:,\"ab\\\\n0 ]{0,30}", list in prop::collection::vec("\\PC{0,8}", 0..6)) {
            for text in [text, serde_json::to_string(&serde_json::json!({"a": list, "b": {"c": list}})).unwrap()] {
                let Ok(tree) = serde_json::from_str::<Json>(&text) else {
                    prop_assert_eq!(tokens(&text), Err(Unreadable));
                    continue;
                };
                let mut expected = Vec::new();
                words(&tree, &mut expected);
                let Ok(tokens) = tokens(&text) else { continue };
                let told = tokens.into_iter().filter_map(|token| match token {
                    Token::Name(text) | Token::Text(text) => Some(text.into_owned()),
                    _ => None,
                });
                let mut told: Vec<String> = told.collect();
                // The tree has its members by their names.
                told.sort();
                expected.sort();
                prop_assert_eq!(told, expected);
            }
        }
    }
}
