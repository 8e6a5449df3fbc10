//! A whole text as a tree that borrows from it: one list of nodes, in the order of the text, and no copies.
//!
//! It takes what `serde_json` takes as a `Value`, for a small part of the time and memory; only numbers may be larger
//! than a float.

use std::borrow::Cow;

use super::value::decode;
use super::{Escapes, JsonError, Kind, MAX_DEPTH, Reader};

/// A text, and where its values are.
#[derive(Debug)]
pub struct Tree<'t> {
    text: &'t [u8],
    nodes: Vec<Node>,
}

/// A value. The names of an object's members are nodes of their own, each before its value.
#[derive(Debug, Clone, Copy)]
struct Node {
    start: u32,
    end: u32,
    /// The index of the first node that isn't part of the value.
    next: u32,
    kind: Kind,
}

impl<'t> Tree<'t> {
    /// Reads a text. `None` if it isn't one JSON value in UTF-8, or if a string has half of a surrogate pair.
    pub fn parse(text: &'t [u8]) -> Option<Self> {
        u32::try_from(text.len()).ok()?;
        simdutf8::basic::from_utf8(text).ok()?;
        let mut reader = Reader::new(text).strict();
        let mut nodes = Vec::with_capacity(16 + text.len() / 32);
        reader.node(0, &mut nodes).ok()?;
        reader.end().ok()?;
        Some(Tree { text, nodes })
    }

    /// The whole value.
    pub fn root(&self) -> Item<'_> {
        Item { tree: self, index: 0 }
    }
}

impl Reader<'_> {
    /// Reads a value and what is in it.
    fn node(&mut self, depth: usize, nodes: &mut Vec<Node>) -> Result<(), JsonError> {
        self.skip_space();
        let (index, start) = (nodes.len(), self.at);
        nodes.push(Node { start: start as u32, end: 0, next: 0, kind: Kind::Null });
        let kind = match self.peek()? {
            b'{' | b'[' if depth >= MAX_DEPTH => return Err(JsonError::TooDeep { at: self.at }),
            b'{' => {
                self.members_onto(depth + 1, nodes)?;
                Kind::Object
            }
            b'[' => {
                self.items(|reader| reader.node(depth + 1, nodes))?;
                Kind::Array
            }
            b'"' => {
                self.text_node()?;
                Kind::String
            }
            _ => self.value(depth)?.kind,
        };
        let next = nodes.len() as u32;
        if let Some(node) = nodes.get_mut(index) {
            *node = Node { start: start as u32, end: self.at as u32, next, kind };
        }
        Ok(())
    }

    /// Reads a string. An escape `\u` may be half of a pair, which is found out by decoding it.
    fn text_node(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        let escapes = self.skip_string(usize::MAX)?;
        if escapes == Escapes::Unicode && decode(&self.text[start..self.at]).is_none() {
            return Err(JsonError::Unexpected { at: start, byte: b'\\' });
        }
        Ok(())
    }

    fn members_onto(&mut self, depth: usize, nodes: &mut Vec<Node>) -> Result<(), JsonError> {
        self.expect(b'{')?;
        self.skip_space();
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.skip_space();
            let start = self.at;
            if self.peek()? != b'"' {
                return Err(self.unexpected());
            }
            self.text_node()?;
            nodes.push(Node { start: start as u32, end: self.at as u32, next: nodes.len() as u32 + 1, kind: Kind::String });
            self.skip_space();
            self.expect(b':')?;
            self.node(depth, nodes)?;
            self.skip_space();
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.unexpected()),
            }
        }
    }
}

/// A value in a tree, or none, which counts as `null`.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    tree: &'a Tree<'a>,
    index: usize,
}

impl std::fmt::Debug for Item<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Item({:?})", self.kind())
    }
}

impl<'a> Item<'a> {
    fn node(self) -> Option<&'a Node> {
        self.tree.nodes.get(self.index)
    }

    fn none(self) -> Self {
        Item { index: usize::MAX, ..self }
    }

    /// Its kind.
    pub fn kind(self) -> Kind {
        self.node().map_or(Kind::Null, |node| node.kind)
    }

    /// Whether it is missing or `null`.
    pub fn is_null(self) -> bool {
        self.kind() == Kind::Null
    }

    /// Whether it is an object.
    pub fn is_object(self) -> bool {
        self.kind() == Kind::Object
    }

    /// As it is written; empty if there is none.
    pub fn bytes(self) -> &'a [u8] {
        self.node().and_then(|node| self.tree.text.get(node.start as usize..node.end as usize)).unwrap_or_default()
    }

    /// The text of a string.
    pub fn text(self) -> Option<Cow<'a, str>> {
        (self.kind() == Kind::String).then(|| decode(self.bytes()))?
    }

    /// The text of a string; empty if it is something else.
    pub fn str(self) -> Cow<'a, str> {
        self.text().unwrap_or_default()
    }

    /// The text of a string, or any other value as JSON: without white space, and with its members sorted.
    pub fn to_text(self) -> Cow<'a, str> {
        self.text().unwrap_or_else(|| match serde_json::from_slice::<serde_json::Value>(self.bytes()) {
            Ok(value) => Cow::Owned(value.to_string()),
            // A number that no float can have.
            Err(_) => String::from_utf8_lossy(self.bytes()),
        })
    }

    /// Whether it is a string with this text.
    pub fn is(self, text: &str) -> bool {
        self.kind() == Kind::String && is_text(self.bytes(), text)
    }

    /// Whether it is `true`.
    pub fn is_true(self) -> bool {
        self.kind() == Kind::Bool && self.bytes() == b"true"
    }

    /// The member of an object. If there are several with this name, the last one counts, as in `serde_json`.
    pub fn get(self, name: &str) -> Item<'a> {
        self.raw_members().filter(|(key, _)| is_text(key.bytes(), name)).last().map_or(self.none(), |(_, value)| value)
    }

    /// Whether an object has a member, be it `null`.
    pub fn has(self, name: &str) -> bool {
        self.raw_members().any(|(key, _)| is_text(key.bytes(), name))
    }

    /// The elements of an array; none of anything else.
    pub fn items(self) -> impl Iterator<Item = Item<'a>> {
        let mut inner = self.inner(Kind::Array);
        std::iter::from_fn(move || inner.next())
    }

    /// The members of an object, in the order of the text; none of anything else.
    pub fn members(self) -> impl Iterator<Item = (Cow<'a, str>, Item<'a>)> {
        self.raw_members().map(|(name, value)| (name.text().unwrap_or_default(), value))
    }

    fn raw_members(self) -> impl Iterator<Item = (Item<'a>, Item<'a>)> {
        let mut inner = self.inner(Kind::Object);
        std::iter::from_fn(move || inner.next().zip(inner.next()))
    }

    fn inner(self, kind: Kind) -> Inner<'a> {
        let end = self.node().filter(|node| node.kind == kind).map_or(0, |node| node.next as usize);
        Inner { tree: self.tree, at: self.index.saturating_add(1), end }
    }
}

/// The values that are directly in another one.
struct Inner<'a> {
    tree: &'a Tree<'a>,
    at: usize,
    end: usize,
}

impl<'a> Inner<'a> {
    fn next(&mut self) -> Option<Item<'a>> {
        let index = self.at;
        if index >= self.end {
            return None;
        }
        self.at = self.tree.nodes.get(index)?.next as usize;
        Some(Item { tree: self.tree, index })
    }
}

/// Whether a quoted string has this text.
fn is_text(quoted: &[u8], text: &str) -> bool {
    let Some(inner) = quoted.get(1..quoted.len().saturating_sub(1)) else { return false };
    match inner.len().cmp(&text.len()) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => inner == text.as_bytes(),
        // Only with escapes.
        std::cmp::Ordering::Greater => inner.contains(&b'\\') && decode(quoted).is_some_and(|decoded| decoded == text),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// The same value from serde, if the two agree.
    fn same(ours: Item<'_>, theirs: &Value) -> Result<(), TestCaseError> {
        let kind = match theirs {
            Value::Null => Kind::Null,
            Value::Bool(_) => Kind::Bool,
            Value::Number(_) => Kind::Number,
            Value::String(_) => Kind::String,
            Value::Array(_) => Kind::Array,
            Value::Object(_) => Kind::Object,
        };
        prop_assert_eq!(ours.kind(), kind);
        prop_assert_eq!(&serde_json::from_slice::<Value>(ours.bytes()).unwrap(), theirs);
        let text = ours.text();
        prop_assert_eq!(text.as_deref(), theirs.as_str());
        prop_assert_eq!(ours.is_true(), *theirs == Value::Bool(true));
        prop_assert!(theirs.as_str().is_none_or(|text| ours.is(text)));
        prop_assert!(!ours.is("something else"));
        let elements = theirs.as_array().map(Vec::as_slice).unwrap_or_default();
        prop_assert_eq!(ours.items().count(), elements.len());
        for (ours, theirs) in ours.items().zip(elements) {
            same(ours, theirs)?;
        }
        let members: Vec<_> = theirs.as_object().into_iter().flatten().collect();
        prop_assert!(ours.members().count() >= members.len());
        for (name, theirs) in members {
            prop_assert!(ours.has(name));
            same(ours.get(name), theirs)?;
        }
        prop_assert!(!ours.has("something else") && ours.get("something else").is_null());
        Ok(())
    }

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            Just("-1.5e3".to_owned()),
            r#""(\\n|\\u00e9|\\ud83d\\ude00|[ab\u{e9} ]){0,4}""#,
        ];
        leaf.prop_recursive(4, 40, 4, |inner| {
            // Names that occur twice, and escaped ones.
            let member = (r#"(a|b|\\u0061|\\n){0,2}"#, inner.clone()).prop_map(|(name, value)| format!(" \"{name}\" :{value}"));
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(|all| format!("[{}]", all.join(" ,"))),
                prop::collection::vec(member, 0..4).prop_map(|all| format!("{{{}}}", all.join(","))),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_tree_is_what_serde_finds(text in json()) {
            let tree = Tree::parse(text.as_bytes());
            prop_assert!(tree.is_some(), "{}", text);
            same(tree.unwrap().root(), &serde_json::from_str(&text).unwrap())?;
        }

        #[test]
        fn what_serde_refuses_is_refused(text in "[\\[\\]{}:,\"\\\\u1d8ca. trun\n-]{0,30}", bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            for text in [text.as_bytes(), &bytes] {
                prop_assert_eq!(Tree::parse(text).is_some(), serde_json::from_slice::<Value>(text).is_ok(), "{:?}", text);
            }
        }
    }

    #[test]
    fn what_is_missing_is_null() {
        let text = br#"{"a":{"b":[1,{"c":"d"}]},"a":{"b":[2]}}"#;
        let tree = Tree::parse(text).unwrap();
        let root = tree.root();
        assert_eq!(root.get("a").get("b").bytes(), b"[2]", "the last one counts");
        for none in [root.get("x"), root.get("x").get("y"), root.get("a").get("b").get("c")] {
            assert!(none.is_null() && none.bytes().is_empty() && none.text().is_none() && none.items().next().is_none());
        }
        assert!(Tree::parse(b"\"\\ud800\"").is_none() && Tree::parse(b"\"\xff\"").is_none() && Tree::parse(b"{} {}").is_none());
    }
}
